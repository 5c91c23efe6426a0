"""The cgroup of a box: a second limit of memory and tasks, enforced by the kernel (cgroups(7), cgroup v2).

Where the cgroup controller `cpu` is delegated, too, the cgroup also sets the share of the CPUs of all the box's
threads.

It is used where a cgroup is delegated to this process: the cgroup controllers `memory` and `pids` are enabled for the
children of its own cgroup or of the parent cgroup, and it may make children there. The process itself is not moved.
"""

import contextlib
import functools
import itertools
import os

import attrs

_SELF, _MOUNTS = "/proc/self/cgroup", "/proc/self/mountinfo"
_NEEDED = frozenset(("memory", "pids"))
#: Bytes beyond a box's limit for the memory that the kernel needs for it, and for each of its threads: stacks, page
#: tables, buffers of pipes. A program that used all of its memory needed 0.6 MiB, and 30 KiB for each thread.
_KERNELS, _OF_A_THREAD = 2 << 20, 128 << 10
#: Tasks beyond the guest's threads.
_TASKS = 2

_numbers = itertools.count()


class Unavailable(Exception):
    """No cgroup is delegated to this process. The text says why."""


@attrs.define(eq=False)
class Cgroup:
    """The cgroup of one box; `close` removes it."""

    path: str

    @classmethod
    def create(cls, parent: str, memory: int | None, threads: int, weight: int) -> "Cgroup":
        """Returns a new cgroup below `parent` with the limits of a box. weight: of its CPU time. Raises OSError."""
        path = os.path.join(parent, f"proxybox-{os.getpid()}-{next(_numbers)}")
        os.mkdir(path)
        cgroup = cls(path)
        try:
            cgroup._write("memory.oom.group", 1)
            cgroup.limit(memory, threads)
            if "cpu" in _enabled(parent):
                cgroup._write("cpu.weight", weight)
        except OSError:
            cgroup.close()
            raise
        return cgroup

    def limit(self, memory: int | None, threads: int) -> None:
        """Sets the limits of a box. Raises OSError.

        memory: bytes that it may use, without pages from before it joined; None leaves the limit unchanged. The kernel
        charges a page to the cgroup of the process that allocated or copied it.
        """
        self._write("pids.max", threads + _TASKS)
        if memory is not None:
            self._write("memory.max", memory + _KERNELS + threads * _OF_A_THREAD)
            with contextlib.suppress(OSError):  # this kernel does not account for swap
                self._write("memory.swap.max", 0)

    def add(self, pid: int) -> None:
        """Moves a process into the cgroup. Raises OSError."""
        self._write("cgroup.procs", pid)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel's OOM killer has killed a process of the box."""
        try:
            events = _read(self.path, "memory.events").split()
        except OSError:
            return False
        return "oom_kill" in events and events[events.index("oom_kill") + 1] != "0"

    def close(self) -> None:
        """Kills processes that are still in the cgroup, and removes it. The box's own have been reaped by then."""
        with contextlib.suppress(OSError):
            self._write("cgroup.kill", 1)
        with contextlib.suppress(OSError):
            os.rmdir(self.path)

    def _write(self, name: str, value: int) -> None:
        with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
            file.write(str(value))


def parent_for_boxes() -> str:
    """Returns the cgroup below which this process may make the cgroups of its boxes. It is looked up once per process.

    Raises Unavailable where there is none.
    """
    found, why = _find(os.getpid())
    if found is None:
        raise Unavailable(why)
    return found


@functools.lru_cache(maxsize=1)
def _find(pid: int) -> tuple[str | None, str]:
    """Returns the cgroup, or None and the reason why there is none."""
    try:
        own = next((line[3:] for line in _read(_SELF).splitlines() if line.startswith("0::")), None)
        root = _root()
    except OSError as error:
        return None, f"cgroups cannot be looked at ({error.strerror})"
    if own is None or root is None:
        return None, "cgroup v2 is not mounted here"
    here = os.path.normpath(f"{root}/{own}")
    for parent in (here, os.path.dirname(here)) if here != root else (here,):
        if _is_delegated(parent):
            _sweep(parent)
            return parent, ""
    return None, "no cgroup with the controllers memory and pids is delegated to this process"


def _root() -> str | None:
    """Returns the mount point of the cgroup v2 hierarchy, or of the part in a cgroup namespace (proc_pid_mountinfo(5)).

    None where it is not mounted.
    """
    for line in _read(_MOUNTS).splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return before.split()[4]
    return None


def _is_delegated(parent: str) -> bool:
    try:
        enabled = _enabled(parent)
    except OSError:
        return False
    writable = all(os.access(path, os.W_OK) for path in (parent, os.path.join(parent, "cgroup.procs")))
    return enabled >= _NEEDED and writable


def _enabled(parent: str) -> set[str]:
    """Returns the cgroup controllers that are enabled for the children of a cgroup. Raises OSError."""
    return set(_read(parent, "cgroup.subtree_control").split())


def _sweep(parent: str) -> None:
    """Removes the cgroups of controllers that have ended without `close`. Those with processes in them stay."""
    for name in os.listdir(parent):
        ours, owner, *_ = (*name.split("-"), "")
        if ours == "proxybox" and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(parent, name))


def _read(*path: str) -> str:
    with open(os.path.join(*path), encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
