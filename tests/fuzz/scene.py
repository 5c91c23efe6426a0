"""A whole world for one execution: every kind of mount, a host clock that stands still, small budgets.

What it makes of the host is a folder of its own, made anew for each execution; a file beside it that no box may see
or change. Nothing here waits: a call that would is tried again, interrupted or timed out, as the script says.
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
    """A host clock that moves when the script says so."""

    def __init__(self) -> None:
        self.ns = 5_000_000_000_000

    def __call__(self) -> int:
        return self.ns


class Stage:
    """The host folders of this process, and the policies that mount them."""

    def __init__(self) -> None:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="proxybox-fuzz-", dir=base))
        os.environ.setdefault("XDG_STATE_HOME", str(self.folder / "state"))  # for the journals of commits
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
        """The mounted folders as every execution finds them."""
        for path, folders, _ in os.walk(self.mounted):  # a guest may have closed its folders
            for folder in folders:
                if not os.path.islink(os.path.join(path, folder)):  # it leads wherever a guest wanted
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
    """One world, and the threads that speak to it."""

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
        """The end of the box, as Box ends it."""
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
        """One request of the current thread. Whatever a guest may cause is raised."""
        if self.thread not in self.world.threads:
            self.turn(0)
        if self.thread in self._waiting:
            self._end_wait(self.thread)
        number = int.from_bytes(frame[4:8], "little")
        self._answer(self.thread, self.dispatcher.execute(self.thread, frame), number)

    def turn(self, which: int) -> None:
        """Another thread goes on."""
        threads = self.world.threads
        if threads:
            self.thread = threads[which % len(threads)]

    def pass_time(self, ns: int) -> None:
        """Host time goes by: alarms fire, waits end."""
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
        """A thread that speaks while it waits would be a breach, so its wait is ended first, somehow."""
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
        """Another process changes the mounted folders, and nothing outside of them."""
        old, new, size = self._place(first), self._place(second), len(second)
        actions: tuple[Callable[[], object], ...] = (
            lambda: os.rename(old, new),
            lambda: os.unlink(old),
            lambda: os.mkdir(old),
            lambda: os.symlink(self._stage.canary, old),
            lambda: os.mkfifo(old),
            lambda: os.link(old, new, follow_symlinks=False),
            lambda: os.symlink(b"../" * (size % 50) + first.replace(b"\0", b""), old),
            lambda: _is_folder(old) and shutil.rmtree(old),  # it opens what it removes: a FIFO's open waits
            lambda: _special(old) or Path(os.fsdecode(old)).write_bytes(second),
            lambda: os.path.islink(old) or os.chmod(old, 0o700 if size % 2 else 0),
            lambda: _special(old) or os.truncate(old, size * 1000),
        )
        with contextlib.suppress(OSError):
            actions[what % len(actions)]()

    def _place(self, path: bytes) -> bytes:
        """The path below the mounted folders, whatever links are on the way; never one of theirs themselves."""
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
        made = {*os.listdir(self._stage.folder)} - {"state"}  # where the controller keeps journals of commits
        assert made == {"canary", "mounted", "pypy"}


def _is_folder(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _special(path: bytes) -> bool:
    """Whether it is neither a regular file nor free: writing to a FIFO would wait, to a link go elsewhere."""
    return os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path))
