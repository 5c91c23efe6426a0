"""`make demo`: untrusted programs in boxes, with what was allowed and what was refused.

Each program is run by the command line, as you would; what is expected of it is checked, and the
demo fails when something else happens. FORCE_COLOR=1 and NO_COLOR=1 are respected.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).resolve().parent
SHOWN_LINES = 12


class Scene(NamedTuple):
    """One program: what it is, how it is run, and what must and must not come of it."""

    title: str
    words: Sequence[str]
    statuses: Sequence[int]
    must_say: Sequence[str] = ()
    must_not_say: Sequence[str] = ()
    shown: int = SHOWN_LINES


SCENES = (
    Scene(
        "A friendly program: modules, data files, threads, sqlite3, zipfile; it runs unchanged.",
        ["run", "-v", "weather/report.py"],
        [0],
        ["Harbour", "90 readings", "nobody to ask", "out/summary.json"],
    ),
    Scene(
        "The files that it wrote stayed in the box. With --rw they are on your disk.",
        ["run", "-c", 'import os; print(*sorted(os.listdir("weather")))'],
        [0],
        ["data readings.py"],
        [" out "],
    ),
    Scene(
        "A thief: looks for secrets in files, the environment and other processes.",
        ["run", "hostile/read_shadow.py"],
        [0],
        ["/etc/shadow: No such file or directory", "I am 1000 on box"],
        ["root:"],
    ),
    Scene(
        "A spy: wants to talk to the network.",
        ["run", "-v", "hostile/open_socket.py"],
        [0],
        ["AF_INET: ", "refused socket"],
        ["a socket!", "sent"],
    ),
    Scene(
        "A bomb: forks for ever, then starts a shell.",
        ["run", "-v", "hostile/fork_bomb.py"],
        [0],
        ["fork number 1: ", "execv: "],
        ["a shell"],
    ),
    Scene(
        "A burglar: leaves Python behind and calls the kernel by number.",
        ["run", "hostile/raw_syscalls.py"],
        [0],
        ["open: -1", "execve: -1", "io_uring_setup: -1"],
        ["it worked"],
    ),
    Scene(
        "A glutton: takes all the memory there is.",
        ["run", "--memory", "256M", "hostile/fill_memory.py"],
        [0, 137],
    ),
    Scene(
        "A babbler: prints for ever.",
        ["run", "--policy", "strict", "hostile/flood_output.py"],
        [153],
        ["print less (output.limit)"],
        shown=3,
    ),
    Scene(
        "A mule: spins for ever and ignores every signal.",
        ["run", "--timeout", "3", "hostile/spin_forever.py"],  # on a busy machine its first word takes a second
        [124],
        ["spinning", "time limit"],
    ),
    Scene(
        "A vandal: deletes everything beside it. In the box, that is.",
        ["run", "hostile/trash_files.py"],
        [0],
        ["removed read_shadow.py", "left: []"],
    ),
    Scene(
        "What one of them asked the operating system for, and what was refused.",
        ["trace", "--denied", "hostile/open_socket.py"],
        [0],
        ["socket("],
    ),
)


def coloured(code: str, text: str) -> str:
    wanted = sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))
    return f"\x1b[{code}m{text}\x1b[0m" if wanted and not os.environ.get("NO_COLOR") else text


def run(scene: Scene, folder: Path) -> list[str]:
    """Show one scene; return what was not as expected."""
    print(coloured("1", f"\n{scene.title}"))
    print(coloured("36", f"$ proxybox {shlex.join(scene.words)}"), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "proxybox.cli", *scene.words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    text = done.stdout.decode(errors="backslashreplace")
    show(text, done.returncode, scene.shown)
    faults = [f"exit status {done.returncode}"] if done.returncode not in scene.statuses else []
    faults += [f"{words!r} is missing" for words in scene.must_say if words not in text]
    return faults + [f"{words!r} got out" for words in scene.must_not_say if words in text]


def show(text: str, status: int, shown: int) -> None:
    lines = text.splitlines()
    last = 1 if len(lines) > shown else 0
    for line in lines[: shown - last]:
        print(f"    {line[:110]}")
    if last:
        print(f"    ... {len(lines) - shown:,} more lines")
        print(f"    {lines[-1][:110]}")
    print(f"    [exit status {status}]")


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="demo-") as scratch:
        folder = Path(scratch) / "examples"
        folder.mkdir()
        for name in ("weather", "hostile"):
            copy(EXAMPLES / name, folder / name)
        before = snapshot(folder)
        for scene in SCENES:
            faults = run(scene, folder)
            failed += bool(faults)
            for fault in faults:
                print(coloured("31", f"    NOT AS EXPECTED: {fault}"))
        if snapshot(folder) != before:
            failed += 1
            print(coloured("31", "\nNOT AS EXPECTED: files on the host were changed"))
    if failed:
        print(coloured("31", f"\n{failed} of {len(SCENES)} programs did not behave as expected."))
        print("`proxybox doctor` tells whether boxes can run here.")
        return 1
    print(coloured("32", f"\nAll {len(SCENES)} as expected; no file on this machine was changed."))
    return 0


def copy(source: Path, target: Path) -> None:
    """A copy to play with, so that even a box that leaks would not harm this checkout."""
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and "out" not in path.parts:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    sys.exit(main())
