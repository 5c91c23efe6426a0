"""Runs the standard library's own tests in a box and in the bare interpreter: which tests pass only bare?

    python tests/stdlib/compare.py [MODULE...]     prints a table; exit status 1 when a difference has no reason
        --guest GUEST    pypy (the default), cpython, or another guest
        --json FILE      everything as JSON; modules in FILE are run again only if they are named
        --all            every module of the standard library's tests (hours)
        --docs           writes the guest's table into docs/compatibility.md
        --bare FILE      keeps the bare results in FILE, and takes them from there the next time

The tests are those of Debian's packages, which kinds.py names. They run as an ordinary user, under their own runner
(see recorder.py), in a writable folder. A difference is explained by the OS calls that policy refused while the method
ran, or otherwise by reasons.toml.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import cattrs
import kinds
import reports
from records import Difference, Log, Outcome, Results, Row, Rows

import proxybox
from proxybox.controller import Decision, OSCall

HERE = Path(__file__).parent
LIMITS = {
    "wall_time": 600, "cpu_time": 600, "memory": "2G", "disk": "1G", "files": 100_000, "threads": 256,
    "open_files": 1024, "calls": None,
}  # fmt: skip
#: How often a module is continued after a method that did not end.
ATTEMPTS = 12
USER = 1000

Done: TypeAlias = Callable[[str, Row], None]


# --- both worlds ------------------------------------------------------------------------------------------------------


def run_bare(tests: kinds.Tests, module: str) -> Results:
    """Runs a module in the bare interpreter, as an ordinary user, in a new folder below /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="bare-"))
    try:
        shutil.copy(HERE / "recorder.py", folder)
        for name, text in {**tests.files, "ignore": "\n".join(tests.left_out)}.items():
            (folder / name).write_text(text)
        (folder / "tmp").mkdir()
        command = [tests.guest.executable, "recorder.py", "log", module, "ignore"]
        if os.getuid() == 0:
            for path in (folder, folder / "tmp"):
                os.chown(path, USER, USER)
            command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder / "tmp"),
            "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        started = time.monotonic()
        try:
            done = subprocess.run(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=1200, check=False
            )
            how = f"exit status {done.returncode}"
        except subprocess.TimeoutExpired:
            how = "it does not end"
        log = Log()
        if (folder / "log").exists():
            for line in (folder / "log").read_bytes().splitlines():
                log.line(line)
        log.killed(how)
        return Results(log.methods, round(time.monotonic() - started, 1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_boxed(tests: kinds.Tests, module: str, wall: float) -> Results:
    """Runs a module in boxes: in one, and in another one for the rest after each method that does not end."""
    results = Results()
    for _ in range(ATTEMPTS):
        log = Log()

        def audit(call: OSCall, log: Log = log) -> None:
            if call.name == "write":
                data = call.arguments.get("buf")
                if isinstance(data, bytes) and data.startswith((b'{"start": ', b'{"end": ', b'{"done": ')):
                    log.line(data)
            elif call.decision in (Decision.DENIED, Decision.UNKNOWN):
                log.denied.append(f"{call.name}: {call.reason}")

        with proxybox.Sandbox(
            guest=tests.guest.executable,
            audit=audit,
            limits={**LIMITS, "wall_time": wall, "memory": tests.memory.get(module, LIMITS["memory"])},
            output={"limit": "10M"},
            filesystem={"box": "memory"},
        ) as box:
            result = box.run(
                (HERE / "recorder.py").read_text(),
                ["log", module, "ignore"],
                files={**tests.files, "ignore": "\n".join([*tests.left_out, *results.methods])},
            )
        log.killed(result.summary())
        results.methods.update(log.methods)
        results.denied = list(dict.fromkeys([*results.denied, *log.outside]))
        results.seconds = round(results.seconds + result.usage.wall, 1)
        if log.done or not log.methods:
            if not log.done:
                results.note = f"{result.summary()}: {result.stderr[-2000:]}"
            elif "crashed" in result.stderr:
                results.note = result.stderr[-2000:]
            break
    return results


# --- differences ------------------------------------------------------------------------------------------------------


def differences(bare: Results, boxed: Results, reasons: Mapping[str, str]) -> list[Difference]:
    """Returns the methods that pass bare and not boxed, each with its reason."""
    found = []
    for test, outcome in bare.methods.items():
        if outcome.outcome == "passed":
            here = boxed.methods.get(test) or _holder(test, boxed)
            if here.outcome != "passed":
                found.append(_explained(test, here, reasons))
    return found


def _holder(test: str, boxed: Results) -> Outcome:
    """Returns the outcome of the failed setUpClass or setUpModule because of which a method was not run."""
    for name, outcome in boxed.methods.items():
        if "(" in name and outcome.outcome != "passed" and test.startswith(name.partition("(")[2].rstrip(")")):
            return outcome
    said = boxed.note.rstrip().rpartition("\n")[2]
    denied = boxed.denied if said.startswith("PermissionError: [Errno 1] Operation not permitted") else []
    return Outcome("missing", boxed.note or "not run", denied)


def _explained(test: str, here: Outcome, reasons: Mapping[str, str]) -> Difference:
    text = here.text.strip()
    if here.denied and here.outcome != "killed":
        return Difference(test, here.outcome, "refused", "; ".join(here.denied), text)
    skip = kinds.WRITTEN["skips"] if here.outcome == "skipped" else {}
    for name, known in ((test, reasons), (text, skip)):
        for pattern, reason in known.items():
            if fnmatch.fnmatchcase(name, pattern):
                return Difference(test, here.outcome, "explained", reason, text)
    return Difference(test, here.outcome, "unexplained", text.splitlines()[-1] if text else "", text)


# --- the command ------------------------------------------------------------------------------------------------------


def compare(
    tests: kinds.Tests,
    modules: Iterable[str],
    kept: Path | None,
    wall: float,
    jobs: int,
    done: Done = lambda *_: None,
) -> Rows:
    """Runs the modules, `jobs` at a time. done: called with each of them at its end."""
    known: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.exists() else {}

    def one(module: str) -> Row:
        bare = cattrs.structure(known[module], Results) if module in known else run_bare(tests, module)
        boxed = run_boxed(tests, module, max(wall, 6 * bare.seconds))
        return bare, boxed, differences(bare, boxed, tests.reasons)

    rows = {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(one, module): module for module in modules}
        for future in concurrent.futures.as_completed(running):
            module = running[future]
            bare, boxed, found = rows[module] = future.result()
            print(
                f"{module}: {len(found)} differences, {bare.seconds} s bare, {boxed.seconds} s boxed", file=sys.stderr
            )
            known[module] = cattrs.unstructure(bare)
            if kept:
                kept.write_text(json.dumps(known))
            done(module, rows[module])
    return rows


def _read(file: Path | None, reasons: Mapping[str, str]) -> dict[str, Row]:
    """Returns the rows in a file, with the present reasons."""
    if file is None or not file.exists():
        return {}
    rows = cattrs.structure(json.loads(file.read_text()), dict[str, tuple[Results, Results, Any]])
    return {module: (bare, boxed, differences(bare, boxed, reasons)) for module, (bare, boxed, _) in rows.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*")
    parser.add_argument("--guest", default="pypy")
    parser.add_argument("--all", action="store_true", help="every module, and not a choice")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--bare", type=Path, metavar="FILE")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--wall", type=float, default=300, help="seconds of wall time for a module, at the least")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    tests = kinds.tests_of(asked.guest)
    if tests.lack:
        parser.exit(2, f"{tests.lack}\n")
    rows = _read(asked.json, tests.reasons)

    def keep(module: str, row: Row) -> None:
        rows[module] = row
        if asked.json:
            asked.json.write_text(json.dumps(cattrs.unstructure(rows), indent=1))

    missing = [module for module in (tests.every_module() if asked.all else tests.modules) if module not in rows]
    compare(tests, asked.modules or missing, asked.bare, asked.wall, asked.jobs, keep)
    rows = dict(sorted(rows.items()))
    if asked.docs:
        reports.write_docs(tests.name, rows)
    print(reports.shares(rows), reports.table(rows), reports.refusals(rows), reports.listing(rows), sep="\n")
    return int(any(each.kind == "unexplained" for _, _, found in rows.values() for each in found))


if __name__ == "__main__":
    sys.exit(main())
