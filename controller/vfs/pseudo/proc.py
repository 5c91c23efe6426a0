"""/proc: what programs read about themselves and the machine, with the values of the box.

Rules: nothing here comes from the host. The world supplies the facts as `ProcFacts`; this file only knows the formats
of proc(5). No node stores a fact: all nodes read the facts of their world, so that the nodes of a copied world show the
copy's facts.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.controller.abi import DT_LNK
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.inodes import Inode
from proxybox.controller.vfs.memory import MemoryDirectory
from proxybox.controller.vfs.nodes import Credentials, Directory, Entry, Node, Superblock, Symlink
from proxybox.controller.vfs.openfiles import OpenFile
from proxybox.controller.vfs.pseudo.generated import ComputedSymlink, GeneratedFile

if TYPE_CHECKING:
    from proxybox.controller.vfs.descriptors import DescriptorTable
    from proxybox.controller.vfs.tree import Tree

_NS = 1_000_000_000
_HZ = 100


@attrs.define(slots=True, kw_only=True, eq=False)
class ProcFacts:
    """The facts about the one process of a box and its machine.

    cmdline: argv; environ: the environment as it was at the start; exe: the interpreter's path in the box; uptime_ns,
    cpu_ns, boot_time: box time; memory: the machine's memory in bytes; resident: what the process uses, in bytes; tids:
    its threads, the first one being the pid; cwd: its working directory.
    """

    tree: Tree
    descriptors: DescriptorTable
    credentials: Credentials
    cwd: Callable[[], Directory]
    cmdline: tuple[bytes, ...] = (b"pypy3",)
    environ: Callable[[], bytes] = bytes
    exe: bytes = b"/usr/bin/pypy3"
    pid: int = 100
    ppid: int = 99
    hostname: str = "box"
    kernel: str = "6.1.0"
    cpu_count: int = 1
    memory: int = 512 << 20
    tids: Callable[[], list[int]] = lambda: [100]
    umask: Callable[[], int] = lambda: 0o022
    uptime_ns: Callable[[], int] = lambda: 0
    cpu_ns: Callable[[], int] = lambda: 0
    boot_time: Callable[[], int] = lambda: 0
    resident: Callable[[], int] = lambda: 32 << 20
    maps: Callable[[], bytes] | None = None

    @property
    def name(self) -> bytes:
        """The comm of the process: the first 15 bytes of its program's name."""
        return self.exe.rpartition(b"/")[2][:15]


Tell = Callable[[ProcFacts], Any]
"""Computes what a node of /proc says about a world: text or bytes for a file, bytes for a link."""


class LateText:
    """Returns, at each call, what `tell` returns for the facts at that time."""

    __slots__ = ("facts", "tell")

    def __init__(self, facts: ProcFacts, tell: Tell) -> None:
        self.facts = facts
        self.tell = tell

    def __call__(self) -> Any:
        return self.tell(self.facts)


class FdDirectory(Inode, Directory):
    """/proc/self/fd: a link for every open descriptor."""

    __slots__ = ("_facts", "name", "parent")
    stable = False

    def __init__(self, superblock: Superblock, facts: ProcFacts) -> None:
        owner = facts.credentials
        super().__init__(superblock, 0o500, owner.uid, owner.gid)
        self._facts = facts
        self.nlink = 2
        self.parent: Directory | None = None
        self.name = b""

    def lookup(self, name: bytes) -> Node:
        digits = name.isdigit() and len(name) < 10 and (name == b"0" or name[:1] != b"0")
        if not digits or int(name) not in self._facts.descriptors:
            raise OSError(errno.ENOENT, "not an open descriptor")
        return FdLink(self.superblock, self._facts, int(name))

    def entries(self) -> list[Entry]:
        return [(b"%d" % fd, 1000 + fd, DT_LNK) for fd in self._facts.descriptors]

    def open(self, flags: int) -> OpenFile:
        return Directory.open(self, flags)


class FdLink(Inode, Symlink):
    """/proc/self/fd/N: its text is a path, and following it leads to the open file itself."""

    __slots__ = ("_facts", "_fd")

    def __init__(self, superblock: Superblock, facts: ProcFacts, fd: int) -> None:
        owner = facts.credentials
        super().__init__(superblock, 0o700, owner.uid, owner.gid)
        self._facts = facts
        self._fd = fd
        self.ino = 1000 + fd

    @property
    def target(self) -> bytes:
        facts = self._facts
        return namei.path_of(facts.tree, facts.descriptors.get(self._fd))

    def jump(self) -> Node | None:
        return self._facts.descriptors.get(self._fd).node

    def open(self, flags: int) -> OpenFile:
        return Symlink.open(self, flags)


class LateEntries:
    """Makes the entries of /proc when they are first needed."""

    __slots__ = ("facts", "root")

    def __init__(self, root: MemoryDirectory, facts: ProcFacts) -> None:
        self.root = root
        self.facts = facts

    def __call__(self) -> dict[bytes, Node]:
        root, facts = self.root, self.facts
        root.children = {}
        _link(root, b"self", facts, _pid)
        _link(root, b"thread-self", facts, lambda facts: _pid(facts) + b"/task/" + _pid(facts))
        _fill_process(_folder(root, _pid(facts)), facts)
        for name, tell in _MACHINE.items():
            _file(root, name, facts, tell)
        _link(root, b"mounts", facts, lambda facts: b"self/mounts")
        _fill_sys(_folder(root, b"sys"), facts)
        return root.children


def proc_directory(superblock: Superblock, facts: ProcFacts) -> MemoryDirectory:
    """The directory that is mounted at /proc. It needs a superblock of its own, which becomes read-only."""
    superblock.read_only = True
    root = MemoryDirectory(superblock, 0o555)
    root.fill_later(LateEntries(root, facts))
    return root


def renumber(root: MemoryDirectory, old: int, new: int) -> None:
    """Changes the number of the process in a copied /proc."""
    if root.filling is not None:  # it will be made with the number in the facts
        return
    for directory in (root, _folder_of(root.children[b"%d" % old], b"task")):
        moved = _folder_of(directory, b"%d" % old)
        moved.name = b"%d" % new
        # The name keeps its place in the order. No guest changes entries here, so no other state depends on the name.
        directory.children = {moved.name if node is moved else name: node for name, node in directory.children.items()}


def _folder_of(directory: Node, name: bytes) -> MemoryDirectory:
    node = directory.children[name] if isinstance(directory, MemoryDirectory) else None
    if not isinstance(node, MemoryDirectory):
        raise TypeError(f"no folder of /proc: {name!r}")
    return node


def _pid(facts: ProcFacts) -> bytes:
    return b"%d" % facts.pid


def _file(directory: MemoryDirectory, name: bytes, facts: ProcFacts, tell: Tell) -> None:
    directory.attach(name, GeneratedFile(directory.superblock, LateText(facts, tell), sized=False))


def _link(directory: MemoryDirectory, name: bytes, facts: ProcFacts, tell: Tell) -> None:
    directory.attach(name, ComputedSymlink(directory.superblock, LateText(facts, tell)))


def _folder(directory: MemoryDirectory, name: bytes) -> MemoryDirectory:
    made = MemoryDirectory(directory.superblock, 0o555)
    directory.attach(name, made)
    return made


def _fill_process(directory: MemoryDirectory, facts: ProcFacts) -> None:
    for name, tell in _PROCESS.items():
        _file(directory, name, facts, tell)
    _link(directory, b"exe", facts, lambda facts: facts.exe)
    _link(directory, b"cwd", facts, lambda facts: facts.tree.path_of(facts.cwd()))
    _link(directory, b"root", facts, lambda facts: b"/")
    fds = FdDirectory(directory.superblock, facts)
    fds.parent, fds.name = directory, b"fd"
    directory.attach(b"fd", fds)
    task = _folder(_folder(directory, b"task"), _pid(facts))
    for name in (b"comm", b"stat", b"status"):
        _file(task, name, facts, _PROCESS[name])


def _fill_sys(directory: MemoryDirectory, facts: ProcFacts) -> None:
    kernel = _folder(directory, b"kernel")
    _file(kernel, b"ostype", facts, lambda facts: "Linux\n")
    _file(kernel, b"osrelease", facts, lambda facts: facts.kernel + "\n")
    _file(kernel, b"hostname", facts, lambda facts: facts.hostname + "\n")
    _file(kernel, b"pid_max", facts, lambda facts: "32768\n")
    _file(kernel, b"cap_last_cap", facts, lambda facts: "40\n")
    memory = _folder(directory, b"vm")
    _file(memory, b"overcommit_memory", facts, lambda facts: "0\n")
    _file(memory, b"max_map_count", facts, lambda facts: "65530\n")
    _file(_folder(directory, b"fs"), b"pipe-max-size", facts, lambda facts: "1048576\n")


# --- one process ---


def _status(facts: ProcFacts) -> str:
    uid, gid = facts.credentials.uid, facts.credentials.gid
    resident = facts.resident() // 1024
    groups = " ".join(map(str, sorted(facts.credentials.groups)))
    return (
        f"Name:\t{facts.name.decode('latin-1')}\nUmask:\t{facts.umask():04o}\n"
        f"State:\tR (running)\nTgid:\t{facts.pid}\nNgid:\t0\nPid:\t{facts.pid}\n"
        f"PPid:\t{facts.ppid}\nTracerPid:\t0\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
        f"Gid:\t{gid}\t{gid}\t{gid}\t{gid}\nFDSize:\t256\nGroups:\t{groups} \n"
        f"VmPeak:\t{resident} kB\nVmSize:\t{resident} kB\nVmHWM:\t{resident} kB\n"
        f"VmRSS:\t{resident} kB\nVmData:\t{resident} kB\nVmStk:\t132 kB\nVmSwap:\t0 kB\n"
        f"Threads:\t{len(facts.tids())}\nCapInh:\t{0:016x}\nCapPrm:\t{0:016x}\n"
        f"CapEff:\t{0:016x}\nCapBnd:\t{0:016x}\nCapAmb:\t{0:016x}\nNoNewPrivs:\t1\nSeccomp:\t2\n"
        f"Cpus_allowed_list:\t{_cpu_list(facts)}\n"
    )


def _stat(facts: ProcFacts) -> str:
    ticks = facts.cpu_ns() * _HZ // _NS
    pages = facts.resident() // 4096
    name = facts.name.decode("latin-1")
    head = f"{facts.pid} ({name}) R {facts.ppid} {facts.pid} {facts.pid} 0 -1 4194304 0 0 0 0"
    middle = f"{ticks} 0 0 0 20 0 {len(facts.tids())} 0 0 {pages * 4096} {pages} 18446744073709551615"
    return f"{head} {middle}" + " 0" * 27 + "\n"


def _statm(facts: ProcFacts) -> str:
    pages = facts.resident() // 4096
    return f"{pages} {pages} 0 0 0 {pages} 0\n"


def _maps(facts: ProcFacts) -> bytes:
    if facts.maps is not None:
        return facts.maps()
    return (
        b"555555554000-555555555000 r-xp 00000000 00:00 0                          %s\n"
        b"555555600000-555557600000 rw-p 00000000 00:00 0                          [heap]\n"
        b"7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]\n"
    ) % facts.exe


def _mount_rows(facts: ProcFacts) -> list[tuple[bytes, str, str]]:
    rows = []
    for path, node in facts.tree.mounts():
        escaped = b"".join(b"\\%03o" % c if c in b" \t\n\\" else bytes((c,)) for c in path)
        kind = "proc" if path == b"/proc" else "tmpfs"
        rows.append((escaped, kind, "ro" if node.superblock.read_only else "rw"))
    return rows


def _mounts(facts: ProcFacts) -> bytes:
    return b"".join(
        b"%s %s %s %s,nosuid,nodev 0 0\n" % (kind.encode(), path, kind.encode(), mode.encode())
        for path, kind, mode in _mount_rows(facts)
    )


def _mountinfo(facts: ProcFacts) -> bytes:
    rows = []
    for number, (path, kind, mode) in enumerate(_mount_rows(facts), 20):
        parent = 1 if number == 20 else 20
        head = f"{number} {parent} 0:{number} / ".encode()
        rows.append(head + path + f" {mode},nosuid,nodev - {kind} {kind} {mode}\n".encode())
    return b"".join(rows)


_PROCESS: dict[bytes, Tell] = {
    b"cmdline": lambda facts: b"".join(arg + b"\0" for arg in facts.cmdline),
    b"environ": lambda facts: facts.environ(),
    b"comm": lambda facts: facts.name + b"\n",
    b"status": _status,
    b"stat": _stat,
    b"statm": _statm,
    b"maps": _maps,
    b"mounts": _mounts,
    b"mountinfo": _mountinfo,
    b"cgroup": lambda facts: "0::/\n",
    b"oom_score_adj": lambda facts: "0\n",
    b"limits": lambda facts: "Limit                     Soft Limit           Hard Limit\n",
}

# --- the machine ---


def _cpu_list(facts: ProcFacts) -> str:
    return "0" if facts.cpu_count == 1 else f"0-{facts.cpu_count - 1}"


def _cpuinfo(facts: ProcFacts) -> str:
    return "".join(
        f"processor\t: {cpu}\nvendor_id\t: proxybox\ncpu family\t: 6\nmodel\t\t: 1\n"
        f"model name\t: virtual\nstepping\t: 1\ncpu MHz\t\t: 1000.000\ncache size\t: 4096 KB\n"
        f"physical id\t: 0\nsiblings\t: {facts.cpu_count}\ncore id\t\t: {cpu}\n"
        f"cpu cores\t: {facts.cpu_count}\nflags\t\t: fpu sse sse2\nbogomips\t: 2000.00\n\n"
        for cpu in range(facts.cpu_count)
    )


def _meminfo(facts: ProcFacts) -> str:
    total = facts.memory // 1024
    free = max(0, total - facts.resident() // 1024)
    rows = {"MemTotal": total, "MemFree": free, "MemAvailable": free, "Buffers": 0, "Cached": 0}
    rows |= {"SwapCached": 0, "SwapTotal": 0, "SwapFree": 0, "Shmem": 0}
    return "".join(f"{name + ':':<15} {value:>8} kB\n" for name, value in rows.items())


def _uptime(facts: ProcFacts) -> str:
    up, busy = facts.uptime_ns() / _NS, facts.cpu_ns() / _NS
    return f"{up:.2f} {max(0.0, up * facts.cpu_count - busy):.2f}\n"


def _machine_stat(facts: ProcFacts) -> str:
    busy = facts.cpu_ns() * _HZ // _NS
    idle = max(0, facts.uptime_ns() * _HZ // _NS * facts.cpu_count - busy)
    rows = [f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0"]
    rows += [
        f"cpu{cpu} {busy // facts.cpu_count} 0 0 {idle // facts.cpu_count} 0 0 0 0 0 0"
        for cpu in range(facts.cpu_count)
    ]
    rows += [f"ctxt 0\nbtime {facts.boot_time()}\nprocesses {facts.pid}"]
    return "\n".join(rows) + "\nprocs_running 1\nprocs_blocked 0\n"


_MACHINE: dict[bytes, Tell] = {
    b"cpuinfo": _cpuinfo,
    b"meminfo": _meminfo,
    b"uptime": _uptime,
    b"stat": _machine_stat,
    b"loadavg": lambda facts: f"0.00 0.00 0.00 1/1 {facts.pid}\n",
    b"version": lambda facts: f"Linux version {facts.kernel} (box@{facts.hostname}) #1 SMP\n",
    b"filesystems": lambda facts: "nodev\ttmpfs\nnodev\tproc\n",
    b"cmdline": lambda facts: "\n",
}
