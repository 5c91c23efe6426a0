"""`make soak`: many boxes of every kind in one controller, with counts of what it holds before, meanwhile and after.

Programs, policies, ends and callers are mixed by a seed. Exit status 1 when a count has grown, when the controller's
memory has grown by more than ALLOWED_GROWTH after the first EVERY boxes, or when an end was not the one expected.
"""

import argparse
import collections
import concurrent.futures
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from counts import Counts, guests_and_inits, resident
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import proxybox

#: Kinds that are not warm start their own interpreters.
os.environ["PROXYBOX_WARM"] = "0"

#: Boxes between two counts.
EVERY = 250
#: The controller may grow by this number of bytes after the first count. Its caches are full by then; the rest depends
#: on the allocator.
ALLOWED_GROWTH = 16 << 20
#: Seconds in which the kernel must have removed what has ended.
PATIENCE = 5
MIB = 1 << 20

Ends = set[str]


class Kind(NamedTuple):
    """A kind of box: how it is run, and how it may end (values of Status, or names of exceptions)."""

    name: str
    run: Callable[[Path], object]
    ends: Ends
    weight: int = 1


def box(code: str, **options: object) -> Callable[[Path], object]:
    options.setdefault("timeout", 100)
    return lambda folder: proxybox.run(code, **options)  # type: ignore[arg-type]


def overlay_and_commit(folder: Path) -> object:
    (folder / "main.py").write_text("open('result', 'w').write('x' * 5000); open('data').read()")
    (folder / "data").write_text("data")
    result = proxybox.run(folder / "main.py", timeout=100)
    result.files.commit()
    assert (folder / "result").stat().st_size == 5000
    return result


def read_and_write(folder: Path) -> object:
    mount = proxybox.Mount(target="/data", source=str(folder), mode="rw")
    code = "import os\nfor n in range(5): open(f'/data/{n}', 'w').write('x')\nos.unlink('/data/3')"
    return proxybox.run(code, filesystem={"mounts": [mount]}, timeout=100)


def killed(folder: Path) -> object:
    """Kills the guest by SIGKILL when it has begun. It is the only box: otherwise it could be another one's guest."""
    struck: list[int] = []

    def strike(call: object) -> None:
        struck.append(0)
        if len(struck) == 300:
            for pid in guests_and_inits()[0]:
                os.kill(pid, 9)

    with proxybox.Sandbox(interceptors=[strike]) as sandbox:
        return sandbox.run("while True: open('/tmp/x', 'w').close()", timeout=20)


def raises(text: str) -> None:
    raise LookupError(text)


def at_once(folder: Path) -> object:
    """Four caller threads use one sandbox."""
    with proxybox.Sandbox() as sandbox, concurrent.futures.ThreadPoolExecutor(4) as callers:
        results = list(callers.map(lambda n: sandbox.run(f"print({n})", timeout=60), range(4)))
    assert [result.stdout for result in results] == ["0\n", "1\n", "2\n", "3\n"], results
    return results[0]


def cancelled(folder: Path) -> object:
    with proxybox.Sandbox() as sandbox:
        return sandbox.run(
            "print('ready', flush=True)\nwhile True: pass", timeout=20, on_stdout=lambda _: sandbox.close()
        )


def warm(code: str, **options: object) -> Callable[[Path], object]:
    """Returns a run in a copy of the process's zygote, which exists from the second run on."""

    def run(folder: Path) -> object:
        with proxybox.Sandbox(warm=True, **{"limits": {"wall_time": 20}, **options}) as sandbox:  # type: ignore[arg-type]
            return sandbox.run(code)

    return run


def session(folder: Path) -> object:
    with proxybox.Sandbox(warm=True, functions={"add": lambda a, b: a + b}) as sandbox, sandbox.session() as live:
        live.exec("import host; x = host.add(1, 2)", check=True)
        assert live.exec("while True: pass", timeout=0.1).status == "time_limit"
        return live.eval("x")


def copies(folder: Path) -> object:
    with proxybox.Sandbox(warm=True, session={"branches": 3}) as sandbox, sandbox.session() as live:
        live.exec("x = 1; open('file', 'w').write('x' * 100_000)", check=True)
        snapshot, other = live.snapshot(), live.fork()
        other.exec("x = 2", check=True)
        live.restore(snapshot)
        assert (live.eval("x").value, other.eval("x").value) == (1, 2)
        return other.exec("import os; os._exit(0)")


def deaf_session(folder: Path) -> object:
    with proxybox.Sandbox(warm=True, session={"grace": 0.1}) as sandbox, sandbox.session() as live:
        code = "import signal; signal.signal(signal.SIGINT, lambda *_: None)\nwhile True: pass"
        return live.exec(code, timeout=0.1)


def pool(folder: Path) -> object:
    with proxybox.Pool(size=2) as boxes:
        results = [boxes.run(f"print({number})") for number in range(5)]
    assert [result.stdout for result in results] == ["0\n", "1\n", "2\n", "3\n", "4\n"], results
    return results[0]


THREADS = (
    "import threading\nt = [threading.Thread(target=print, args=(n,)) for n in range(5)]\n"
    "for each in t: each.start()\nfor each in t: each.join()"
)
FLOODED = {"limit": "200K", "on_excess": "end"}
FORGERY = "import raw; raw.exchange(raw.put(b'x' * 100), raw.SLEEP)"
RAW = Path(__file__).parents[1].joinpath("hostile", "guest", "raw.py").read_text()
KINDS = (
    Kind("plain", box("print(6 * 7)"), {"ok"}, 6),
    Kind("strict", box("import random; print(random.random())", policy="strict", randomness=7), {"ok"}, 2),
    Kind("frozen clock", box("import time; print(time.time())", time=proxybox.Time.frozen("2030-01-01")), {"ok"}),
    Kind("threads", box(THREADS), {"ok"}, 3),
    Kind("files in memory", box("open('/tmp/x', 'wb').write(bytes(1 << 21))"), {"ok"}, 2),
    Kind("fails", box("raise ValueError"), {"error"}, 2),
    Kind("does not compile", box("1 +"), {"syntax_error"}),
    Kind("flood", box("while True: print('x' * 1000)", output=FLOODED), {"output_limit"}, 2),
    Kind("crash", box("import ctypes; ctypes.string_at(8)"), {"crashed"}, 2),
    Kind("no memory", box("x = bytearray(1 << 30)", limits={"memory": "64M"}), {"memory_limit"}, 2),
    Kind("no time", box("while True: pass", timeout=0.1), {"time_limit"}),
    Kind("no time, threads", box(THREADS + "\nthreading.Event().wait()", timeout=0.3), {"time_limit"}),
    Kind("breaks the protocol", box(FORGERY, files={"raw.py": RAW}), {"misbehaved"}),
    Kind("overlay, commit", overlay_and_commit, {"ok"}, 2),
    Kind("rw mount", read_and_write, {"ok"}, 2),
    Kind("killed", killed, {"crashed"}, 2),
    Kind("callback raises", box("print('x', flush=True)\nwhile True: pass", on_stdout=raises), {"LookupError"}, 2),
    Kind("stdin raises", box("input()", stdin=lambda size: raises("stdin")), {"LookupError"}),
    Kind("four at once", at_once, {"ok"}),
    Kind("cancelled", cancelled, {"cancelled"}),
    Kind("warm", warm("print(6 * 7)"), {"ok"}, 6),
    Kind("warm, threads", warm(THREADS), {"ok"}, 2),
    Kind("warm, crash", warm("import ctypes; ctypes.memset(8, 0, 1)"), {"crashed"}, 2),
    Kind("warm, no time", warm("while True: pass", limits={"wall_time": 0.1}), {"time_limit"}),
    Kind("session", session, {"ok"}, 3),
    Kind("session, copies", copies, {"ok"}, 3),
    Kind("session, deaf", deaf_session, {"time_limit"}),
    Kind("pool", pool, {"ok"}, 1),
    Kind("cannot start", box("1", guest="/bin/true"), {"SandboxStartError"}),
)


def end_of(kind: Kind) -> str:
    """Runs a box of this kind, and returns one word for its end."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return str(kind.run(Path(folder)).status)  # type: ignore[attr-defined]
        except (LookupError, proxybox.ProxyboxError) as error:
            return type(error).__name__


def settled(before: Counts | None) -> Counts:
    """Returns the counts when none is higher than before, or when PATIENCE is over."""
    until = time.monotonic() + PATIENCE
    while True:
        counts = Counts.take()
        if before is None or not counts.grown(before) or time.monotonic() > until:
            return counts


class Soak:
    """A run: its counts, the ends of its boxes, and its faults."""

    def __init__(self, boxes: int, seed: int) -> None:
        self.boxes = boxes
        self.random = random.Random(seed)
        self.looks: list[tuple[int, Counts, int]] = []
        self.ends: collections.Counter[tuple[str, str]] = collections.Counter()
        self.wrong: list[str] = []

    def look(self, done: int) -> None:
        before = self.looks[0][1] if self.looks else None
        self.looks.append((done, settled(before), resident()))

    def run(self) -> Iterator[int]:
        """Runs the boxes, and yields the number of ended ones after each."""
        for kind in KINDS:  # makes objects that a process has once: the watchdog's thread, caches, the collector's room
            end_of(kind)
        self.look(0)
        for done in range(1, self.boxes + 1):
            (kind,) = self.random.choices(KINDS, [kind.weight for kind in KINDS])
            end = end_of(kind)
            self.ends[kind.name, end] += 1
            if end not in kind.ends:
                self.wrong.append(f"box {done} ({kind.name}) ended as {end}, not {' or '.join(sorted(kind.ends))}")
            if done % EVERY == 0 or done == self.boxes:
                self.look(done)
            yield done

    def judge(self) -> list[str]:
        """Returns all faults of the run."""
        wrong = list(self.wrong)
        for done, counts, _ in self.looks[1:]:
            wrong += [
                f"after {done} boxes: {was} {name} have become {now}"
                for name, (was, now) in counts.grown(self.looks[0][1]).items()
            ]
        first = self.looks[1][2]  # its caches are full by then
        if max(size for _, _, size in self.looks[1:]) > first + ALLOWED_GROWTH:
            wrong.append(f"the controller has grown from {first / MIB:.1f} MiB by more than {ALLOWED_GROWTH / MIB:.0f}")
        return wrong

    def tables(self) -> Iterator[Table]:
        names = ("children", "zombies", "descriptors", "threads", "mounts", "cgroups", "temp_files", "namespaces")
        table = Table("boxes", *(name.replace("_", " ") for name in names), "RSS MiB", title="held by the controller")
        for column in table.columns:
            column.justify = "right"
        for done, counts, size in self.looks:
            table.add_row(f"{done:,}", *(str(getattr(counts, name)) for name in names), f"{size / MIB:.1f}")
        yield table
        table = Table("kind", "end", "boxes", title="ends")
        for (kind, end), count in sorted(self.ends.items()):
            table.add_row(kind, end, f"{count:,}")
        yield table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    console = Console(width=max(Console().width, 120))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        tempfile.tempdir = folder
        os.environ.setdefault("XDG_STATE_HOME", folder)  # journals of commits
        soak = Soak(options.boxes, options.seed)
        columns = TextColumn("soak"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("soak", total=options.boxes)
            for done in soak.run():
                progress.update(task, completed=done)
        tempfile.tempdir = None
    for table in soak.tables():
        console.print(table)
    wrong = soak.judge()
    for line in wrong:
        console.print(line, style="red")
    console.print("something was left" if wrong else f"{options.boxes:,} boxes, and every count is flat")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
