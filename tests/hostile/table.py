"""Runs tests/hostile with layers on and off, as root and as another user, and prints one table of attacks and outcomes.

`make hostile` runs this.

    python tests/hostile/table.py [--json] [-k WORDS] [-n WORKERS] [--no-heavy]

Started by a user other than root, it makes two runs, as that user. For the other user root copies the tree into a
folder that everybody can read, and tools/setup makes a .venv there. Exit status: 0 when every attack was held or was
skipped for a reason of the host, 1 otherwise, also when a run failed.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from proxybox.terminal.tables import table

ROOT = Path(__file__).resolve().parents[2]
#: Not 65534: a user namespace shows unmapped ids such as root's as that one, so no box starts there (inspection.py).
OTHER_USER = 60001
#: The time limit of one run, or of setting up a copy, in seconds.
LONGEST = 3600


# --- in pytest: outcomes as JSON lines --------------------------------------------------------------------------------


class Outcomes:
    """A pytest plugin that writes one line for each test: its id, "passed", "failed" or "skipped", why, and its
    seconds.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._seen: dict[str, dict[str, Any]] = {}
        self._stood: dict[str, str] = {}

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def pytest_runtest_logreport(self, report: Any) -> None:
        record = self._seen.setdefault(
            report.nodeid, {"test": report.nodeid, "outcome": "passed", "why": "", "seconds": 0}
        )
        record["seconds"] += report.duration
        if report.outcome != "passed" and record["outcome"] != "failed":
            record["outcome"] = report.outcome
            record["why"] = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)[-2000:]
        if report.when == "teardown":
            self._write(self._seen.pop(report.nodeid))

    def pytest_collectreport(self, report: Any) -> None:
        if report.outcome == "failed":
            self._write({"test": report.nodeid, "outcome": "failed", "why": str(report.longrepr)[-2000:], "seconds": 0})

    def pytest_testnodedown(self, node: Any) -> None:
        """With pytest-xdist the boxes run in the workers, which report the layers (conftest.py)."""
        self._stood |= getattr(node, "workeroutput", {}).get("stood", {})

    def pytest_sessionfinish(self) -> None:
        from proxybox.policies import LAYERS

        stood = self._stood or what_stood()
        self._write({"stood": stood, "outer": sorted(stood.keys() & set(LAYERS))})
        for record in self._seen.values():  # begun, but not ended
            self._write({**record, "outcome": "failed"})


def what_stood() -> dict[str, str]:
    """The layers around a box of this process, by name, from its Result."""
    import proxybox
    from proxybox.controller.seal.layers import is_missing

    return {name: seen for name, seen in proxybox.run("1").layers.items() if not is_missing(seen)}


def run_here(path: str, arguments: list[str]) -> int:
    """Runs the suite in this process, and writes outcomes to `path`. Returns pytest's exit status."""
    import pytest

    os.environ["PROXYBOX_FULL"] = "1"  # each attack in all its forms: tests/sweeps.py
    sys.path.pop(0)  # removes this folder, whose modules are the tests' own
    with open(path, "w", encoding="utf-8") as file:
        return int(
            pytest.main(["tests/hostile", "-q", "--tb=short", "--no-header", *arguments], plugins=[Outcomes(file)])
        )


# --- four runs --------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Prints progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def watched(command: list[str], **options: Any) -> str:
    """Runs a command with its output on standard error. Returns why it failed, or an empty string."""
    with subprocess.Popen(command, stdout=sys.stderr, start_new_session=True, **options) as process:
        try:
            status = process.wait(LONGEST)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                return f"took more than {LONGEST} seconds"
            raise
    return f"exit status {status}" if status else ""


def one_run(tree: Path, who: str, layers: str, arguments: list[str], **options: Any) -> dict[str, Any]:
    """Runs the suite once in a tree. Returns the outcomes by test, the layers of its boxes, and why the run failed, if
    it did.
    """
    say(f"\n== as {who}, layers {layers}")
    started, path = time.monotonic(), tree / ".pytest_cache" / f"outcomes-{who}-{layers}"
    path.parent.mkdir(exist_ok=True)
    if options:
        os.chown(path.parent, options["user"], options["group"])
    path.unlink(missing_ok=True)
    command = [
        str(tree / ".venv/bin/python"),
        "tests/hostile/table.py",
        "--here",
        str(path),
        f"--layers={layers}",
        *arguments,
    ]
    failed = watched(command, cwd=tree, **options)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    outcomes = {record["test"]: record for record in records if "test" in record}
    around = next((record for record in records if "stood" in record), None)
    if around is None or not outcomes:  # status 1 alone means that tests failed
        failed = failed or "no outcomes"
    elif failed == "exit status 1":
        failed = ""
    if around is not None and layers == "off" and around["outer"]:
        failed = f"there were layers: {', '.join(around['outer'])}"
    return {
        "user": who, "uid": options.get("user", os.geteuid()), "layers": layers, "stood": around["stood"] if around else {}, "failed": failed,
        "seconds": round(time.monotonic() - started), "outcomes": outcomes,
    }  # fmt: skip


def is_open_to_all(path: Path) -> bool:
    """Whether another user can reach a program and run it."""
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def python_for_all() -> str:
    """A Python that another user can run and make a .venv with."""
    names = ["python3", *(f"python3.{minor}" for minor in (14, 13, 12, 11)), "/usr/bin/python3"]
    for each in [sys.executable, *filter(None, map(shutil.which, names))]:
        path = Path(each).resolve()
        test = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))"
        if is_open_to_all(path) and not subprocess.run([path, "-c", test], capture_output=True, check=False).returncode:
            return str(path)
    raise SystemExit("hostile: no Python 3.11 or newer with venv that another user can run (apt install python3-venv)")


def files_of_the_tree() -> Iterator[str]:
    """The files of the checkout or of the unpacked archive, without those that were built in it."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        yield from filter(None, os.fsdecode(listed.stdout).split("\0"))
        return
    built = {
        ".venv",
        "build",
        "dist",
        ".git",
        "__pycache__",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".hypothesis",
    }
    for folder, folders, names in os.walk(ROOT):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        folders[:] = [name for name in folders if name not in built and name not in links]
        yield from (os.path.relpath(os.path.join(folder, name), ROOT) for name in names + links)


def copy_for(uid: int, into: Path) -> tuple[Path, dict[str, Any]]:
    """Copies the tree for the user `uid`, with its own .venv. Returns the copy, and Popen's options for that user."""
    tree = into / "proxybox"
    for name in files_of_the_tree():
        source, target = ROOT / name, tree / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    for path in (into, tree, *tree.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))
    kept = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    }
    environment = {**kept, "HOME": str(into), "PYTHON": python_for_all(), "PYTEST_DEBUG_TEMPROOT": str(into)}
    options = {"user": uid, "group": uid, "extra_groups": [], "env": environment, "umask": 0o022}
    say(f"\n== a copy for user {uid}: {tree}")
    failed = watched(["tools/setup"], cwd=tree, **options)
    if failed:
        raise SystemExit(f"hostile: tools/setup in {tree} as user {uid}: {failed}")
    return tree, options


def all_runs(arguments: list[str]) -> list[dict[str, Any]]:
    """Makes two runs, or four when root started this."""
    if os.geteuid() != 0:
        say(f"hostile: started by user {os.geteuid()}, not by root: runs as this user only")
        return [one_run(ROOT, "user", layers, arguments) for layers in ("on", "off")]
    with tempfile.TemporaryDirectory(prefix="proxybox-hostile-") as into:
        os.chmod(into, 0o755)
        tree, options = copy_for(OTHER_USER, Path(into))
        runs = [one_run(ROOT, "root", layers, arguments) for layers in ("on", "off")]
        return runs + [one_run(tree, "user", layers, arguments, **options) for layers in ("on", "off")]


# --- one table --------------------------------------------------------------------------------------------------------


def attack_of(test: str) -> str:
    """The name of an attack: the file and the name of a test's id, in words, without parameters."""
    file, _, name = test.partition("::")
    words = [re.sub(r"^test_|\.py$", "", part).replace("_", " ") for part in (Path(file).name, name.partition("[")[0])]
    return ": ".join(filter(None, words))


def by_attack(runs: list[dict[str, Any]]) -> dict[str, list[list[dict[str, Any]]]]:
    """The records of each attack, in one list for each run."""
    attacks: dict[str, list[list[dict[str, Any]]]] = {}
    for index, run in enumerate(runs):
        for test, record in run["outcomes"].items():
            attacks.setdefault(attack_of(test), [[] for _ in runs])[index].append(record)
    return dict(sorted(attacks.items()))


class Reasons:
    """The notes below the table: each reason of a skip once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, why: str) -> int:
        return self.numbers.setdefault(why.removeprefix("Skipped: "), len(self.numbers) + 1)


def cell(records: list[dict[str, Any]], reasons: Reasons) -> str:
    """The outcome of one attack in one run."""
    if not records:
        return "NOT RUN"
    failed = [record for record in records if record["outcome"] == "failed"]
    skipped = [record for record in records if record["outcome"] == "skipped"]
    if failed:
        return f"ESCAPED ({len(failed)} of {len(records)})" if len(records) > 1 else "ESCAPED"
    if not skipped:
        return "held"
    notes = ",".join(sorted({str(reasons.number(record["why"])) for record in skipped}))
    return f"skipped [{notes}]" if len(skipped) == len(records) else f"held, {len(skipped)} skipped [{notes}]"


def print_table(runs: list[dict[str, Any]]) -> None:
    """Prints the table, the reasons of skips, and the totals of each run."""
    reasons = Reasons()
    heads = ["attack (how many forms)", *(f"{run['user']}, layers {run['layers']}" for run in runs)]
    rows = []
    for attack, columns in by_attack(runs).items():
        forms = max(map(len, columns))
        rows.append([f"{attack} ({forms})" if forms > 1 else attack, *(cell(records, reasons) for records in columns)])
    print(table(heads, rows), end="\n\n")
    for why, number in reasons.numbers.items():
        print(f"[{number}] {' '.join(why.split())[:300]}")
    for run in runs:
        counts = [
            sum(each["outcome"] == word for each in run["outcomes"].values())
            for word in ("passed", "failed", "skipped")
        ]
        print(
            f"{run['user']} (uid {run['uid']}), layers {run['layers']}: {counts[0]} held, {counts[1]} escaped, {counts[2]} skipped, "
            f"{run['seconds']} s; around a box stood: {', '.join(run['stood'])}"
            + (f"; RUN FAILED: {run['failed']}" if run["failed"] else "")
        )
    for run in runs:
        for record in run["outcomes"].values():
            if record["outcome"] == "failed":
                print(f"\nESCAPED as {run['user']}, layers {run['layers']}: {record['test']}\n{record['why']}")


def as_json(runs: list[dict[str, Any]]) -> str:
    """The table and all records as JSON."""
    attacks = {
        attack: {
            f"{run['user']}, {run['layers']}": {word: sum(record["outcome"] == word for record in records) for word in ("passed", "failed", "skipped")}
            for run, records in zip(runs, columns, strict=True)
        }
        for attack, columns in by_attack(runs).items()
    }  # fmt: skip
    seen = [{**run, "outcomes": list(run["outcomes"].values())} for run in runs]
    return json.dumps({"attacks": attacks, "runs": seen}, indent=2)


def is_good(runs: list[dict[str, Any]]) -> bool:
    """Whether nothing escaped and nothing is unknown: every run ended, and all had the same tests."""
    outcomes = [record["outcome"] for run in runs for record in run["outcomes"].values()]
    same = len({frozenset(run["outcomes"]) for run in runs}) == 1
    return same and bool(outcomes) and "failed" not in outcomes and not any(run["failed"] for run in runs)


def main() -> int:
    if sys.argv[1:2] == ["--here"]:
        return run_here(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(
        description="every hostile test with layers on and off, as root and as another user"
    )
    parser.add_argument("--json", action="store_true", help="JSON on standard output in place of the table")
    parser.add_argument("-k", metavar="WORDS", help="as for pytest: some of the tests")
    parser.add_argument("-n", metavar="WORKERS", help="as for pytest-xdist: so many tests at once; else one")
    parser.add_argument("--no-heavy", action="store_true", help="without the forms that take minutes")
    options = parser.parse_args()
    arguments = [*(["-k", options.k] if options.k else []), *([] if options.no_heavy else ["--heavy"])]
    arguments += ["-n", options.n, "--dist", "loadfile"] if options.n else []
    runs = all_runs(arguments)
    say("")
    if options.json:
        print(as_json(runs))
    else:
        print_table(runs)
    return 0 if is_good(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
