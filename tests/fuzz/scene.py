"""A whole world for one execution: every kind of mount, a host clock that does not run, small budgets.

On the host it makes only a folder of its own, new for each execution. Beside it is a file that no box may see or
change. No call waits here: it is tried again, interrupted or timed out, as the script says.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from script import Script

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.boxes.worldbuilding import BoxFolder, WorldBuilder
from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.guests.pypy import PyPy
from proxybox.controller.wire.protocol import MAX_FRAME, encode_reply
from proxybox.controller.world.clock import Clock
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.state import GuestThread
from proxybox.controller.world.stdin import Stdin
from proxybox.policies import Limits, Mount, Policy, Time
from proxybox.policies.errors import ProxyboxError

CANARY = b"beside the box, out of its reach"
DISK, FILES, DESCRIPTORS, OUTPUT = 2 << 20, 200, 64, 1 << 16


class HostTime:
    """A host clock that moves only when the script says so."""

    def __init__(self) -> None:
        self.ns = 5_000_000_000_000

    def __call__(self) -> int:
        return self.ns


class Stage:
    """The host folders of this process, and the policies that mount them."""

    def __init__(self) -> None:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="proxybox-fuzz-", dir=base))
        os.environ.setdefault("XDG_STATE_HOME", str(self.folder / "state"))  # journals of commits
        self.mounted = self.folder / "mounted"
        self.canary = self.folder / "canary"
        self.canary.write_bytes(CANARY)
        (self.folder / "pypy").mkdir()
        (self.folder / "pypy" / "lib").mkdir()
        (self.folder / "pypy" / "pypy3").write_bytes(b"\x7fELF")
        self.guest = PyPy(str(self.folder / "pypy" / "pypy3"), (3, 11), str(self.folder / "pypy" / "lib"))
        self.policies = [self._policy(**variant) for variant in VARIANTS]
        self.set()

    def set(self) -> None:
        """Makes the mounted folders anew, the same for every execution."""
        for path, folders, _ in os.walk(self.mounted):  # a guest may have removed its permissions
            for folder in folders:
                if not os.path.islink(os.path.join(path, folder)):  # a guest's link may lead anywhere
                    os.chmod(os.path.join(path, folder), 0o700)
        shutil.rmtree(self.mounted, ignore_errors=True)
        for name in ("rw", "over", "ro"):
            folder = self.mounted / name
            (folder / "folder").mkdir(parents=True)
            (folder / "file").write_bytes(b"contents of a file\n")
            (folder / "folder" / "a").write_bytes(b"deep\n" * 1000)
            (folder / "link").symlink_to("folder/a")
            (folder / "out").symlink_to("../../canary")
            (folder / "loop").symlink_to("loop")
            os.mkfifo(folder / "fifo")
            (folder / ".dot").write_bytes(b"hidden\n")

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _policy(self, **fields: object) -> Policy:
        mounts = [
            Mount("/rw", str(self.mounted / "rw"), mode="rw"),
            Mount("/ro", str(self.mounted / "ro")),
            Mount("/over", str(self.mounted / "over"), mode="overlay"),
            Mount("/small", None, mode="memory", size=20_000, files=8),
            Mount("/made", lambda: b"made for you\n"),
            Mount("/one", str(self.mounted / "ro" / "file")),
        ]
        limits = Limits(disk=DISK, files=FILES, open_files=DESCRIPTORS, threads=4, calls=500)
        whole: dict[str, object] = {
            "filesystem": {"mounts": mounts, "hide_dotfiles": True}, "limits": limits, "randomness": 7,
            "output": {"limit": OUTPUT}, "time": Time.virtual(),
        }  # fmt: skip
        return Policy(**{**whole, **fields})  # type: ignore[arg-type]


VARIANTS: tuple[dict[str, object], ...] = (
    {},
    {"time": Time.frozen(1_800_000_000)},
    {"time": Time.real()},
    {"time": Time.scaled(1000.0, 0)},
    {"time": Time.virtual(sleep="real"), "output": {"limit": 1000, "on_excess": "end"}},
    {"on_denied": "end", "time": Time.real(sleep="skip")},
    {"output": {"limit": 100, "lines": 3, "escapes": "raw"}, "environment": {"cpu_count": 65}},
)


class Scene:
    """One world, and the threads that make calls to it."""

    def __init__(self, stage: Stage, script: Script) -> None:
        choice = script.byte()
        self._stage = stage
        self._script = script
        self.time = HostTime()
        policy = stage.policies[choice % len(stage.policies)]
        self._builder = WorldBuilder(policy, stage.guest, BoxFolder(files={"main.py": b"print(1)"}))
        self._builder.clock = Clock(policy.time, self.time, lambda: 1_800_000_000 * 10**9 + self.time.ns)
        is_tty = bool(choice & 0x10)
        stdout = OutputSink("stdout", policy.output, is_tty=is_tty)
        stderr = OutputSink("stderr", policy.output, stdout.transcript, lambda data: len(data))
        self.world = self._builder.build(Stdin(b"input\n" * 20), stdout, stderr)
        watching: dict[str, object] = {}
        if choice & 0x20:
            watching["audit"] = lambda call: str(call)
        if choice & 0x40:
            watching["interceptors"] = [lambda call: str(call) and None]
        self.dispatcher = Dispatcher(self.world, **watching)  # type: ignore[arg-type]
        self._commits = bool(choice & 0x80)
        self._waiting: dict[GuestThread, Blocked] = {}
        self.thread = self.world.threads[0]
        self.outcomes: list[tuple[int, int | None]] = []

    def close(self) -> None:
        """Ends the box, as Box does."""
        try:
            for changed in self._builder.changes():
                assert sum(len(change.content or b"") for change in changed.changes) <= 3 * DISK
                if self._commits and changed.source is not None:
                    with contextlib.suppress(ProxyboxError):
                        changed.commit()
        finally:
            self._builder.close()

    # --- what a driver does ---

    def say(self, frame: bytes) -> None:
        """Executes one request of the current thread. Raises what a guest may cause."""
        if self.thread not in self.world.threads:
            self.turn(0)
        if self.thread in self._waiting:
            self._end_wait(self.thread)
        number = int.from_bytes(frame[4:8], "little")
        self._answer(self.thread, self.dispatcher.execute(self.thread, frame), number)

    def turn(self, which: int) -> None:
        """Makes another thread the current one."""
        threads = self.world.threads
        if threads:
            self.thread = threads[which % len(threads)]

    def pass_time(self, ns: int) -> None:
        """Moves the host clock: alarms fire, waits end."""
        self.time.ns += ns
        alarm = self.world.next_alarm_ns()
        if alarm is not None and alarm <= self.time.ns:
            self.world.fire_alarms()
        for thread, blocked in tuple(self._waiting.items()):
            reply = self.dispatcher.settle(blocked.attempt)
            due = blocked.deadline_ns is not None and blocked.deadline_ns <= self.time.ns
            if reply is None and due and blocked.on_timeout is not None:
                reply = self.dispatcher.settle(blocked.on_timeout)
            if reply is not None:
                self._answer(thread, reply)
        self._send_signals()

    def _answer(self, thread: GuestThread, reply: Reply, number: int = -1) -> None:
        self._waiting.pop(thread, None)
        if isinstance(reply, Blocked):
            self._waiting[thread] = reply
            self.outcomes.append((number, None))
        else:
            frame = encode_reply(reply) if isinstance(reply, int) else encode_reply(reply[0], reply[1:])
            assert len(frame) <= MAX_FRAME, f"a reply of {len(frame)} bytes"
            assert CANARY not in frame, "the guest has read what is not its own"
            value = reply if isinstance(reply, int) else reply[0]
            self.outcomes.append((number, min(value, 1)))
            if value > 0:
                self._script.results = [*self._script.results[-31:], value]
        self._send_signals()

    def _send_signals(self) -> None:
        outbox = self.world.signals.outbox
        while outbox:
            signal = outbox.pop(0)
            assert 1 <= signal.number <= 64
            for thread, blocked in tuple(self._waiting.items()):
                if not thread.blocks(signal.number) and signal.thread in (None, thread):
                    self._interrupt(thread, blocked)
                    break

    def _interrupt(self, thread: GuestThread, blocked: Blocked) -> None:
        on_interrupt: Callable[[], Reply] = blocked.on_interrupt or (lambda: -errno.EINTR)
        reply = self.dispatcher.settle(on_interrupt)
        if reply is not None:
            self._answer(thread, reply)

    def _end_wait(self, thread: GuestThread) -> None:
        """Ends a thread's wait: a request of a thread that waits would be a breach."""
        for _ in range(3):
            blocked = self._waiting.get(thread)
            if blocked is None:
                return
            if blocked.deadline_ns is None:
                self._interrupt(thread, blocked)
            else:
                self.pass_time(max(0, blocked.deadline_ns - self.time.ns))
        self._waiting.pop(thread, None)

    # --- what others do on the host ---

    def meddle(self, what: int, first: bytes, second: bytes) -> None:
        """Changes the mounted folders, as another process would; nothing outside of them."""
        old, new, size = self._place(first), self._place(second), len(second)
        actions: tuple[Callable[[], object], ...] = (
            lambda: os.rename(old, new),
            lambda: os.unlink(old),
            lambda: os.mkdir(old),
            lambda: os.symlink(self._stage.canary, old),
            lambda: os.mkfifo(old),
            lambda: os.link(old, new, follow_symlinks=False),
            lambda: os.symlink(b"../" * (size % 50) + first.replace(b"\0", b""), old),
            lambda: _is_folder(old) and shutil.rmtree(old),  # rmtree opens what it removes: opening a FIFO would wait
            lambda: _special(old) or Path(os.fsdecode(old)).write_bytes(second),
            lambda: os.path.islink(old) or os.chmod(old, 0o700 if size % 2 else 0),
            lambda: _special(old) or os.truncate(old, size * 1000),
        )
        with contextlib.suppress(OSError):
            actions[what % len(actions)]()

    def _place(self, path: bytes) -> bytes:
        """Returns the real path below the mounted folders, whatever links are on the way; never a mounted folder."""
        root = os.fsencode(self._stage.mounted)
        parts = [part[:200] for part in path[:1000].split(b"/") if part not in (b"", b".", b"..") and b"\0" not in part]
        place = os.path.join(root, *(parts[:6] or [b"rw"]))
        folder = os.path.realpath(os.path.dirname(place))
        inside = folder == root or folder.startswith(root + b"/")
        return os.path.join(folder if inside else root, os.path.basename(place))

    # --- what must hold at all times ---

    def check(self) -> None:
        world = self.world
        quota = world.quota
        assert 0 <= quota.used_bytes <= quota.limit
        assert quota.inodes is not None
        assert 0 <= quota.used_inodes <= quota.inodes
        assert len(world.descriptors) + len(world.mappings) <= 2 * DESCRIPTORS
        assert len(world.threads) <= 4
        assert world.tree.listings.room >= 0
        assert len(world.stdout.getvalue()) + len(world.stderr.getvalue()) <= 2 * OUTPUT
        assert self._stage.canary.read_bytes() == CANARY
        made = {*os.listdir(self._stage.folder)} - {"state"}  # for the controller's journals of commits
        assert made == {"canary", "mounted", "pypy"}


def _is_folder(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _special(path: bytes) -> bool:
    """Returns whether it is no regular file: writing to a FIFO would wait, writing to a link would go elsewhere."""
    return os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path))
