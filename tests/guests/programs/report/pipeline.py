"""From data to results."""

import datetime
import decimal
import hashlib
import json
import os
import queue
import ssl
import subprocess
import tempfile
import threading
import zipfile
from collections import Counter

import reading
from store import Store


def convert(rates, tasks, results):
    while True:
        task = tasks.get()
        if task is None:
            return
        shop, day, amount, currency, what = task
        cents = (amount * rates[currency] * 100).quantize(decimal.Decimal(1), decimal.ROUND_HALF_EVEN)
        results.put((shop, day.isoformat(), int(cents), what))


def converted(options):
    tasks, results = queue.Queue(5), queue.Queue()
    rates = reading.rates(options.data)
    workers = [threading.Thread(target=convert, args=(rates, tasks, results)) for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    for sale in reading.sales(options.data, options.since):
        tasks.put(sale)
    for _ in workers:
        tasks.put(None)
    for worker in workers:
        worker.join()
    return sorted(results.get() for _ in range(results.qsize()))


def revision():
    """The revision of the program, from a version control system if there is one."""
    try:
        done = subprocess.run(["no-such-version-control", "describe"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def secure():
    context = ssl.create_default_context()
    return context.verify_mode.name, context.check_hostname, context.minimum_version >= ssl.TLSVersion.TLSv1


def run(options):
    rows = converted(options)
    os.makedirs(options.out, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(os.path.join(scratch, "sales.db"))
        store.add(rows)
        store.fail()
        totals = store.totals()
        store.close()
        assert os.path.getsize(os.path.join(scratch, "sales.db")) > 4096
    assert not os.path.exists(scratch)

    days = Counter(datetime.date.fromisoformat(day).strftime("%A") for _, day, _, _ in rows)
    summary = {"totals": totals, "weekdays": dict(sorted(days.items())), "revision": revision(), "tls": secure()}
    text = json.dumps(summary, indent=2, ensure_ascii=False, sort_keys=True)
    with open(os.path.join(options.out, "summary.json"), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    with zipfile.ZipFile(os.path.join(options.out, "all.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for what in sorted({what for _, _, _, what in rows}):
            info = zipfile.ZipInfo(f"{what}.csv", (2024, 1, 1, 0, 0, 0))
            archive.writestr(info, "\n".join(f"{s},{d},{c}" for s, d, c, w in rows if w == what))
        names = archive.namelist()
    with zipfile.ZipFile(os.path.join(options.out, "all.zip")) as archive:
        assert archive.testzip() is None
        digest = hashlib.sha256(b"".join(archive.read(name) for name in names)).hexdigest()

    for shop, count, cents in totals:
        print(f"{shop} {count:3d} {cents / 100:10,.2f}")
    print("weekdays:", ", ".join(f"{name} {count}" for name, count in sorted(days.items())))
    print("files:", ", ".join(names))
    print("sha256:", digest)
    print("revision:", summary["revision"])
    print("tls:", *summary["tls"])
    return 0
