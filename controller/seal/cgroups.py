"""The cgroup of a box: a second limit of memory and tasks, enforced by the kernel (cgroups(7), cgroup v2).

It is used where a cgroup is delegated to this process: the cgroup controllers `memory` and `pids` are enabled for the
children of its own cgroup or of the parent cgroup, and it may make children there. The process itself is not moved.
"""

import contextlib
import functools
import itertools
import os
from pathlib import Path

import attrs

_SELF, _MOUNTS = Path("/proc/self/cgroup"), Path("/proc/self/mountinfo")
_NEEDED = frozenset(("memory", "pids"))
#: Bytes beyond limits.memory (which limits address space), for page tables, pipe buffers and other memory that the
#: kernel needs for a guest.
_MEMORY_OF_THE_KERNEL = 64 << 20
#: Tasks beyond the guest's threads.
_TASKS = 2

_numbers = itertools.count()


class Unavailable(Exception):
    """No cgroup is delegated to this process. The text says why."""


@attrs.define(eq=False)
class Cgroup:
    """The cgroup of one box; `close` removes it."""

    path: Path

    @classmethod
    def create(cls, parent: Path, memory: int | None, threads: int) -> "Cgroup":
        """An empty cgroup below `parent` with the limits of a box. Raises OSError."""
        path = parent / f"proxybox-{os.getpid()}-{next(_numbers)}"
        path.mkdir()
        cgroup = cls(path)
        try:
            cgroup._write("pids.max", threads + _TASKS)
            cgroup._write("memory.oom.group", 1)
            if memory is not None:
                cgroup._write("memory.max", memory + _MEMORY_OF_THE_KERNEL)
                with contextlib.suppress(OSError):  # this kernel does not account for swap
                    cgroup._write("memory.swap.max", 0)
        except OSError:
            cgroup.close()
            raise
        return cgroup

    def add(self, pid: int) -> None:
        """Moves a process into the cgroup. Raises OSError."""
        self._write("cgroup.procs", pid)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel's OOM killer has killed a process of the box."""
        try:
            events = (self.path / "memory.events").read_text().split()
        except OSError:
            return False
        return "oom_kill" in events and events[events.index("oom_kill") + 1] != "0"

    def close(self) -> None:
        """Kills processes that are still in the cgroup, and removes it. The box's own have been waited for by then."""
        with contextlib.suppress(OSError):
            self._write("cgroup.kill", 1)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _write(self, name: str, value: int) -> None:
        with open(self.path / name, "w", encoding="ascii") as file:
            file.write(str(value))


def parent_for_boxes() -> Path:
    """The cgroup below which this process may make those of its boxes. Looked up once per process.

    Raises Unavailable where there is none.
    """
    found = _find(os.getpid())
    if isinstance(found, str):
        raise Unavailable(found)
    return found


@functools.lru_cache(maxsize=1)
def _find(pid: int) -> Path | str:
    try:
        own = next((line[3:] for line in _SELF.read_text().splitlines() if line.startswith("0::")), None)
        root = _root()
    except OSError as error:
        return f"cgroups cannot be looked at ({error.strerror})"
    if own is None or root is None:
        return "cgroup v2 is not mounted here"
    here = root / own.lstrip("/")
    for parent in (here, here.parent) if here != root else (here,):
        if _is_delegated(parent):
            _sweep(parent)
            return parent
    return "no cgroup with the controllers memory and pids is delegated to this process"


def _root() -> Path | None:
    """The mount point of the cgroup v2 hierarchy, or of the part that a cgroup namespace shows (proc_pid_mountinfo(5)).

    None where it is not mounted.
    """
    for line in _MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def _is_delegated(parent: Path) -> bool:
    try:
        enabled = set((parent / "cgroup.subtree_control").read_text().split())
    except OSError:
        return False
    return enabled >= _NEEDED and os.access(parent, os.W_OK) and os.access(parent / "cgroup.procs", os.W_OK)


def _sweep(parent: Path) -> None:
    """Removes the cgroups of controllers that have ended without `close`. Those with processes in them stay."""
    for path in parent.glob("proxybox-*"):
        _, _, rest = path.name.partition("-")
        owner = rest.partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            with contextlib.suppress(OSError):
                path.rmdir()
