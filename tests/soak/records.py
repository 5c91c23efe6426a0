"""Many programs recorded and replayed, and many records changed: `python -m tests.soak.records --help`.

Programs are made of pieces that use files, time, randomness, signals, threads with locks and functions of the caller.
Each runs once, with a record, in a folder that is removed afterwards. Another process makes the replays, in an empty
folder. As root, `--user` names its user.

A changed record must be refused, or part from the run, and never be replayed as the original run.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import proxybox
from proxybox import HostFunction, RecordError
from proxybox.controller.record.events import CallEvent
from proxybox.controller.record.format import frames
from tests.recordings import tables
from tests.soak.suite import told

STDLIB = Path(__file__).resolve().parents[1] / "stdlib"
#: Pieces of programs of one thread; {n} is a number.
PIECES = (
    "open('f{n}', 'w').write('x' * {n}); print(os.stat('f{n}'))",
    "print(sorted(os.listdir('.')), os.listdir('/usr')[:{n}])",
    "os.makedirs('d{n}/e', exist_ok=True); open('d{n}/e/g', 'ab').write(os.urandom({n}))",
    "print(open('/data/in.bin', 'rb').read({n}))",
    "print(time.time(), time.monotonic_ns(), time.process_time())",
    "time.sleep({n} / 5000)",
    "print(datetime.datetime.now().isoformat(), time.localtime().tm_year)",
    "print(random.random(), random.getrandbits({n} + 1), uuid.uuid4(), secrets.token_hex({n}))",
    "print({{str(k) for k in range({n})}}, hash('a{n}'))",
    "print(id(object()), [object() for _ in range(2)])",
    "signal.signal(signal.SIGUSR1, lambda *_: print('caught', {n})); os.kill(os.getpid(), signal.SIGUSR1)",
    "signal.signal(signal.SIGALRM, lambda *_: print('rang')); signal.setitimer(0, 0.001 * ({n} + 1)); time.sleep(0.2)",
    "print(host.double({n}), host.later('a' * {n}))",
    "x = [[k] for k in range({n} * 500)]; del x; print(gc.collect() >= 0)",
    "print(sys.stdin.read({n}))",
    "print(len(tempfile.mkdtemp()), tempfile.gettempdir())",
    "c = sqlite3.connect('/tmp/{n}.db'); c.execute('create table if not exists t (a)'); c.commit(); print(c)",
    "asyncio.run(asyncio.sleep({n} / 10000))",
    "print(subprocess.call(['true']) if 0 else os.environ.get('HOME'), os.getpid(), os.getloadavg() if 0 else '')",
    "try: os.fork()\nexcept OSError as error: print(error)",
    "try: open('/nowhere/{n}')\nexcept OSError as error: print(error)",
    "r, w = os.pipe(); os.write(w, b'{n}'); print(os.read(r, 9)); os.close(r)",
    "print(json.dumps({{'n': {n}}}), zlib.crc32(b'{n}'), decimal.Decimal({n}).sqrt())",
    "print(len(mmap.mmap(-1, 4096 * ({n} + 1))), file=sys.stderr)",
)
#: Pieces with several threads.
THREADED = (
    "t = [threading.Thread(target=lambda: done.append(time.time())) for _ in range({n} % 4 + 1)]\n"
    "for each in t: each.start()\nfor each in t: each.join()\nprint(len(done))",
    "lock = threading.Lock(); total = [0]\ndef add():\n    for _ in range({n}):\n        with lock: total[0] += 1\n"
    "t = [threading.Thread(target=add) for _ in range(3)]\nfor each in t: each.start()\nfor each in t: each.join()\n"
    "print(total)",
    "q = queue.Queue(); t = threading.Thread(target=lambda: [done.append(q.get()) for _ in range({n})]); t.start()\n"
    "for k in range({n}): q.put(k)\nt.join(); print(done[-{n}:])",
    "e = threading.Event(); t = threading.Timer(0.001 * {n}, e.set); t.start(); print(e.wait(5))",
)
HEAD = """
import asyncio, datetime, decimal, gc, host, json, mmap, os, queue, random, secrets, signal, sqlite3, subprocess, sys
import tempfile, threading, time, uuid, zlib
done = []
"""

#: The program of a process that replays records. It reads lines with a record and options, and prints a line of JSON
#: each.
REPLAY = """
import json, sys, proxybox
for line in sys.stdin:
    path, options = json.loads(line)
    try:
        done = proxybox.replay(path, **options)
        told = done.result.to_dict()
        parted = done.divergence and {"why": done.divergence.why, "call": done.divergence.number,
            "expected": repr(done.divergence.expected), "got": repr(done.divergence.got)}
        answer = {"ok": done.ok, "result": told, "output": done.result.output, "parted": parted}
    except (proxybox.ProxyboxError, OSError) as error:
        answer = {"ok": False, "error": str(error)}
    print(json.dumps(answer), flush=True)
"""


def program(threaded: bool) -> st.SearchStrategy[str]:
    """Generates programs of a few pieces."""
    kinds = st.sampled_from((*PIECES, *THREADED) if threaded else PIECES)
    piece = st.tuples(kinds, st.integers(1, 40)).map(lambda both: both[0].format(n=both[1]))
    body = st.lists(piece, min_size=1, max_size=8)
    if threaded:
        body = st.tuples(body, st.sampled_from(THREADED)).map(lambda both: [*both[0], both[1].format(n=7)])
    return body.map(lambda pieces: HEAD + "\n".join(textwrap.dedent(each) for each in pieces) + "\n")


def generated(count: int, threaded: bool, seed: int) -> list[str]:
    """Returns `count` programs; they are the same for the same seed."""
    made: list[str] = []

    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(program(threaded))
    def make(code: str) -> None:
        made.append(code)

    from hypothesis import seed as seeded

    seeded(seed)(make)()
    return made[:count]


def record_all(codes: list[str], folder: Path, guest: str | None) -> list[tuple[Path, Any]]:
    """Runs programs, each with a record, in a folder of inputs that is removed afterwards."""
    inputs = Path(tempfile.mkdtemp())
    (inputs / "in.bin").write_bytes(os.urandom(4096))
    functions = {"double": HostFunction(lambda n: 2 * n), "later": HostFunction(lambda text: text[::-1])}
    taken = []
    options: dict[str, Any] = {"filesystem": {"mounts": [f"{inputs}:/data"]}, "limits": {"wall_time": 30}}
    with proxybox.Sandbox(guest=guest, functions=functions, **options) as box:
        for number, code in enumerate(codes):
            path = folder / f"{number:04}.pbx"
            result = box.run(code, stdin="what was typed\n" * 20, record=path)
            if result.record_fault:
                raise RuntimeError(result.record_fault)
            taken.append((path, told(result)))
    shutil.rmtree(inputs)
    return taken


def replay_all(paths: list[Path], user: int | None, options: Sequence[Mapping[str, Any]] = ()) -> list[Any]:
    """Replays records in another process, in an empty folder; if it dies at a record, that record has an error."""
    jobs = list(zip(map(str, paths), options or [{}] * len(paths), strict=True))
    answers: list[Any] = []
    while len(answers) < len(jobs):
        answers += _replayed(jobs[len(answers) :], user)
        if len(answers) < len(jobs):
            answers.append({"ok": False, "error": "the process that replays it has died"})
    return answers


def _replayed(jobs: Sequence[tuple[str, Mapping[str, Any]]], user: int | None) -> list[Any]:
    command = [sys.executable, "-c", REPLAY]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as empty:
        if user is not None:
            os.chmod(empty, 0o755)
            for path, _ in jobs:
                os.chmod(path, 0o644)  # only the owner can read a record
            python = os.environ.get("PYTHON", sys.executable)
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", python, "-c", REPLAY]
            environment["HOME"] = empty
        done = subprocess.run(
            command, input="".join(json.dumps(job) + "\n" for job in jobs), capture_output=True, text=True, cwd=empty,
            env=environment, check=False,
        )  # fmt: skip
    sys.stderr.write(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def programs(count: int, threaded: bool, seed: int, guest: str | None, user: int | None) -> bool:
    """Records and replays programs, and prints how many were the same. Returns whether all is as it must be."""
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        codes = generated(count, threaded, seed)
        taken = record_all(codes, Path(name), guest)
        answers = replay_all([path for path, _ in taken], user)
        for (path, expected), got, code in zip(taken, answers, codes, strict=True):
            if got["ok"]:
                same = {"result": got["result"], "output": got["output"]} == expected
                kind = "the same" if same else "WRONGLY OK"
            else:
                kind = "parted" if got.get("parted") else "refused"
            counts[kind] += 1
            if kind != "the same":
                print(f"--- {path.name}: {kind}: {got.get('parted') or got.get('error')}\n{code}", file=sys.stderr)
        size = sum(path.stat().st_size for path, _ in taken)
        calls = sum(expected["result"]["usage"]["calls"] for _, expected in taken)
    what = "programs with threads" if threaded else "programs of one thread"
    each = f"{size / count / 1e3:.0f} kB and {calls / count:.0f} calls each"
    print(f"{count} {what} ({guest or 'pypy'}): {dict(counts)}; {each}")
    return not counts["WRONGLY OK"] and (threaded or counts["the same"] == count)


def of_tables(environment: Path, user: int | None) -> bool:
    """Records and replays programs on tables, with a CPython's virtual environment. Returns whether all are equal."""
    codes = tables.PROGRAMS | (tables.FIGURES if list(environment.glob("lib/*/site-packages/matplotlib")) else {})
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as inputs:
        os.chmod(name, 0o755)
        os.chmod(inputs, 0o755)
        tables.make_inputs(Path(inputs))
        limits = {"wall_time": 120, "memory": "2G"}
        paths = [Path(name, f"{at}.pbx") for at in range(len(codes))]
        with proxybox.Sandbox(guest=environment, limits=limits, filesystem={"mounts": [f"{inputs}:/data"]}) as box:
            taken = [box.run(code, record=path, check=True) for code, path in zip(codes.values(), paths, strict=True)]
        shutil.rmtree(inputs)
        os.mkdir(inputs)
        # the interpreter is found by its name in the record, and the packages are given again
        guest = {"guest": box.guest().executable, "packages": list(box.guest().packages)}
        for title, result, got in zip(codes, taken, replay_all(paths, user, [guest] * len(paths)), strict=True):
            kind, why = verdict({"expected": told(result)}, got)
            counts[kind] += 1
            if kind != "the same":
                print(f"{title}: {kind}: {why}", file=sys.stderr)
        calls, size = sum(each.usage.calls for each in taken), sum(path.stat().st_size for path in paths)
    count = len(codes)
    print(f"{count} programs on tables: {dict(counts)}; {size / count / 1e3:.0f} kB and {calls / count:.0f} calls each")
    return counts["the same"] == count


def of_stdlib(guest: str, folder: Path, wanted: list[str]) -> None:
    """Records the standard library's own tests of a guest that has them (tests/stdlib): a run for each module."""
    sys.path.insert(0, str(STDLIB))
    import kinds  # the other files there import it in the same way

    tests = kinds.tests_of(guest)
    if tests.lack:
        raise SystemExit(tests.lack)
    limits = {"wall_time": 300, "cpu_time": 300, "disk": "1G", "files": 100_000, "threads": 256, "open_files": 1024}
    for module in wanted or tests.modules:
        path, memory = folder / f"{module}.pbx", tests.memory.get(module, "2G")
        with proxybox.Sandbox(
            guest=guest, limits={**limits, "memory": memory, "calls": None}, output={"limit": "10M"},
            filesystem={"box": "memory"},
        ) as box:  # fmt: skip
            files = {**tests.files, "ignore": "\n".join(tests.left_out)}
            result = box.run((STDLIB / "recorder.py").read_text(), ["log", module, "ignore"], files=files, record=path)
        note = {"test": module, "options": {"guest": guest}, "is_session": False, "expected": told(result)}
        path.with_suffix(".json").write_text(json.dumps({**note, "fault": result.record_fault}))


def of_tests(tests: list[str], folder: Path, user: int | None, workers: int) -> bool:
    """Records each run of a guest that tests make, unless the folder has records already, and replays all.

    Prints how many were the same. Returns whether none of one thread parted or was refused, and none was wrongly the
    same.
    """
    folder.mkdir(mode=0o755, exist_ok=True)
    if tests and not any(folder.iterdir()):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.soak.suite", "--record-runs", str(folder)]
        subprocess.run([*command, f"-n{workers}", "--dist=loadfile", *tests], check=False)
    notes = {path: json.loads(path.with_suffix(".json").read_text()) for path in sorted(folder.glob("*.pbx"))}
    shares = [list(notes)[at::workers] for at in range(workers)]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        options = [[{"timeout": 300, **notes[path]["options"]} for path in share] for share in shares]
        answers = pool.map(replay_all, shares, [user] * workers, options)
        got = {
            path: answer
            for share, found in zip(shares, answers, strict=True)
            for path, answer in zip(share, found, strict=True)
        }
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for path, note in notes.items():
        kind, why = verdict(note, got[path])
        of = f"{'several threads' if has_threads(path) else 'one thread'}{', a session' * note['is_session']}"
        counts[of][kind] += 1
        if kind != "the same":
            print(f"{path.name}: {of}: {kind}: {why} ({note['test']})", file=sys.stderr)
    for of, found in sorted(counts.items()):
        print(f"{found.total()} runs of {of}: {dict(found)}")
    alone = counts["one thread"] + counts["one thread, a session"]
    wrong = sum(found["WRONGLY OK"] for found in counts.values())
    return not wrong and not alone["parted"] and not alone["refused"]


def verdict(note: Mapping[str, Any], got: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the outcome of a replay, and its reason."""
    if got["ok"]:
        expected = note.get("expected")  # a session has no Result; its end and all its calls were compared
        if expected is None:
            return "the same", ""
        if expected["result"]["usage"]["output"] and not expected["output"]:  # not stored (limitations.md)
            unkept = {name: expected["result"][name] for name in ("stdout", "stderr", "truncated")}
            got = {"ok": True, "output": [], "result": {**got["result"], **unkept}}
        if {"result": got["result"], "output": got["output"]} == expected:
            return "the same", ""
        other = {name: (value, got["result"].get(name)) for name, value in expected["result"].items()}
        return "WRONGLY OK", repr({name: both for name, both in other.items() if both[0] != both[1]})[:2000]
    if got.get("parted"):
        return "parted", repr(got["parted"])[:2000]
    if "error" in got:
        return "refused", got["error"]
    return "not whole", note.get("fault") or "the run has no end"


def has_threads(path: Path) -> bool:
    """Returns whether a recorded run had more than one thread."""
    with proxybox.Record(path) as record, contextlib.suppress(RecordError):
        return any(event.channel for event in record.reader.events() if isinstance(event, CallEvent))
    return False


def flips(count: int, seed: int) -> bool:
    """Changes single bits of a record. Returns whether each change was detected."""
    data = whole_record()
    full = len(list(frames(io.BytesIO(data))))
    chance, seen = random.Random(seed), collections.Counter[str]()
    for _ in range(count):
        broken = bytearray(data)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        try:
            read = len(list(frames(io.BytesIO(bytes(broken)))))
            seen["cut off" if read < full else "UNSEEN"] += 1
        except RecordError:
            seen["refused"] += 1
    print(f"{count:,} changed bits: {dict(seen)}")
    return not seen["UNSEEN"]


def whole_record() -> bytes:
    """Returns a record of a small program."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.pbx")
        proxybox.run("import random, time; print(random.random(), time.time()); open('a', 'w').write('b')", record=path)
        return path.read_bytes()


def forged(count: int, seed: int) -> bool:
    """Replays records with forged events. Returns whether none of them was wrongly the same."""
    from tests.recordings.test_attacks_by_records import events_of, forge, rewritten

    chance, seen = random.Random(seed), collections.Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "a.pbx")
        path.write_bytes(whole_record())
        with proxybox.Record(path) as record:
            expected = record.result
        for _ in range(count):
            path.write_bytes(path.read_bytes())
            found = events_of(path)
            original = path.read_bytes()
            for _ in range(chance.randint(1, 3)):
                forge(found, chance)
            try:
                done = proxybox.replay(rewritten(path, found))
                same = expected is not None and done.result.stdout == expected.stdout
                seen["ok" if done.ok and same else "WRONGLY OK" if done.ok else str(done.result.status)] += 1
            except (RecordError, proxybox.SandboxStartError) as error:
                seen[type(error).__name__] += 1
            path.write_bytes(original)
    print(f"{count} forged records: {dict(seen)}")
    return not seen["WRONGLY OK"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--threaded", type=int, default=50)
    parser.add_argument("--flips", type=int, default=100_000)
    parser.add_argument("--forged", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guest")
    parser.add_argument(
        "--suite", nargs="+", metavar="TESTS", help="records and replays the runs of these tests instead"
    )
    parser.add_argument(
        "--records", type=Path, metavar="FOLDER", help="keeps the records of --suite; replays those there"
    )
    parser.add_argument(
        "--tables", type=Path, metavar="VENV", help="a CPython's with pandas: programs on tables instead"
    )
    parser.add_argument(
        "--stdlib", metavar="GUEST", help="the standard library's tests of a guest that has them, instead"
    )
    parser.add_argument("--modules", nargs="*", default=[], help="those modules of --stdlib")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--user", type=int, help="the user id of the replays, where this process is root")
    given = parser.parse_args()
    if given.tables:
        return 0 if of_tables(given.tables, given.user) else 1
    if given.suite or given.stdlib:
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o755)
            folder = given.records or Path(name)
            if given.stdlib:
                of_stdlib(given.stdlib, folder, given.modules)
            return 0 if of_tests(given.suite or [], folder, given.user, given.workers) else 1
    steps: list[Callable[[], bool]] = [
        lambda: programs(given.programs, False, given.seed, given.guest, given.user),
        lambda: programs(given.threaded, True, given.seed, given.guest, given.user),
        lambda: flips(given.flips, given.seed),
        lambda: forged(given.forged, given.seed),
    ]
    wanted = (given.programs, given.threaded, given.flips, given.forged)
    results = [step() for step, count in zip(steps, wanted, strict=True) if count]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
