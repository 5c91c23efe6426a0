"""Resources that a controller holds on the host: these numbers must be the same after any box as before it."""

import contextlib
import os
import tempfile
import threading
from pathlib import Path

import attrs


@attrs.frozen
class Counts:
    """The resources of this process and its descendants.

    children: processes below this one, zombies among them. mounts: lines of this process's mountinfo. cgroups: folders
    of ours below the cgroup mount. temp_files: entries of tempfile's folder (give the process one of its own).
    namespaces: distinct net, pid, user and mount namespaces of this process and its descendants.
    """

    children: int
    zombies: int
    descriptors: int
    threads: int
    mounts: int
    cgroups: int
    temp_files: int
    namespaces: int

    @classmethod
    def take(cls) -> "Counts":
        below = descendants()
        return cls(
            children=len(below),
            zombies=sum(state == "Z" for state in below.values()),
            descriptors=len(os.listdir("/proc/self/fd")) - 1,
            threads=max(threading.active_count(), len(os.listdir("/proc/self/task"))),
            mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
            cgroups=len(cgroups()),
            temp_files=len(os.listdir(tempfile.gettempdir())),
            namespaces=len(namespaces([os.getpid(), *below])),
        )

    def grown(self, before: "Counts") -> dict[str, tuple[int, int]]:
        """Returns the counts that have grown since `before`: {name: (before, now)}."""
        was, now = attrs.asdict(before), attrs.asdict(self)
        return {name: (was[name], now[name]) for name in now if now[name] > was[name]}


def descendants() -> dict[int, str]:
    """Returns every process below this one, with its state (proc_pid_stat(5))."""
    parents: dict[int, tuple[int, str]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError):
            words = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
            parents[int(name)] = int(words[1]), words[0].decode()
    found: dict[int, str] = {}
    wanted = {os.getpid()}
    while wanted:
        more = {pid: state for pid, (parent, state) in parents.items() if parent in wanted and pid not in found}
        found |= more
        wanted = set(more)
    return found


def guests_and_inits() -> tuple[list[int], list[int]]:
    """Returns this process's boxed descendants: the guests, and the first processes of their pid namespaces."""
    mine = len(_namespaced_pids(os.getpid()))
    guests, inits = [], []
    for pid in descendants():
        with contextlib.suppress(OSError):
            pids = _namespaced_pids(pid)
            (inits if len(pids) > mine and pids[-1] == "1" else guests).append(pid)
    return guests, inits


def _namespaced_pids(pid: int) -> list[str]:
    """Returns the pids of a process, that in the innermost namespace last."""
    return Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].partition("\n")[0].split()


def cgroups() -> list[str]:
    """Returns the control groups that boxes have made, below every mount of cgroup v2."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    roots = [words[1] for words in mounts if words[2] == "cgroup2"]
    return [where for root in roots for where, _, _ in os.walk(root) if "proxybox" in os.path.basename(where)]


def namespaces(pids: list[int]) -> set[str]:
    found = set()
    for pid in pids:
        for kind in ("net", "pid", "user", "mnt"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found


def resident() -> int:
    """Returns the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
