"""Runs a command as `docker run --read-only --cap-drop ALL --user 1000:1000 [--tmpfs /tmp]` would:
`python tests/hostile/container.py [--nothing-writable] [--filter=docker|podman|containerd|systemd|none] [--init]
COMMAND...`.

The container has a root folder with the system's /usr and /etc, this interpreter and this checkout, all read-only; its
own mount, pid, net, ipc, uts and cgroup namespaces, /proc with Docker's masks; uid 1000, no capabilities; an engine's
default seccomp profile (profiles.py), Docker's by default, or the filters of the systemd unit (systemd_unit.py). /tmp
and /dev/shm are the only writable folders. No program can be executed from there. With --nothing-writable they are
read-only, too. The command is pid 1; with --init, pid 1 is a process that reaps orphans.

Root can set this up, and any user who may make user namespaces. Exit status 77: this user may not, or this system has
no systemd.
"""

import ctypes
import errno
import itertools
import os
import sys
from pathlib import Path

import profiles
import systemd_unit

UID = 1000
#: Automake's exit status for a test that cannot run here.
CANNOT = 77
CHECKOUT = Path(__file__).resolve().parent.parent.parent
#: A mount point for the new root while it is built. The container needs nothing from this folder of the host.
STAGE = "/sys"
DEVICES = ("null", "zero", "full", "random", "urandom")
MASKED = ("kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "interrupts")
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")

NEWUSER, NAMESPACES = 0x10000000, 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
PIVOT_ROOT, DETACH = 155, 2
PR_SET_PDEATHSIG, PR_CAPBSET_READ, PR_CAPBSET_DROP = 1, 23, 24

libc = ctypes.CDLL(None, use_errno=True)


def must(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    words = [word.encode() or None for word in (source, target, kind)]
    must(libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None), f"mount {source} {target}")


def bind(source: str, target: str, flags: int = 0) -> None:
    """Bind-mounts a file or folder in a second place, with its own mount flags."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        Path(target).touch()
    mount(source, target, flags=BIND | REC)
    if flags:
        mount("", target, flags=BIND | REMOUNT | flags)


def sources() -> list[str]:
    """The host's folders that are in the image. Each folder comes before the folders inside it."""
    wanted = {"/usr", "/etc", sys.base_prefix, sys.prefix, str(CHECKOUT)}
    wanted |= {f"/{name}" for name in ("bin", "lib", "lib64", "sbin") if not os.path.islink(f"/{name}")}
    return sorted(folder for folder in wanted if os.path.isdir(folder))


def build(writable: bool) -> None:
    """Builds the container's root on STAGE. writable: whether /tmp and /dev/shm are writable."""
    mount("", "/", flags=REC | PRIVATE)
    mount("root", STAGE, "tmpfs", data="mode=755")
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{STAGE}/{name}")
    for name in ("proc", "sys", "tmp", "dev"):
        os.mkdir(f"{STAGE}/{name}")
    mount("proc", f"{STAGE}/proc", "proc", NOSUID | NODEV | NOEXEC)
    mount("sys", f"{STAGE}/sys", "sysfs", RDONLY | NOSUID | NODEV | NOEXEC)
    mount("dev", f"{STAGE}/dev", "tmpfs", NOSUID, "mode=755")
    for name in DEVICES:
        bind(f"/dev/{name}", f"{STAGE}/dev/{name}")
    for name in MASKED:
        if os.path.exists(f"{STAGE}/proc/{name}"):
            bind("/dev/null", f"{STAGE}/proc/{name}")
    for name in READ_ONLY:
        if os.path.exists(f"{STAGE}/proc/{name}"):
            bind(f"{STAGE}/proc/{name}", f"{STAGE}/proc/{name}", RDONLY | NOSUID | NODEV | NOEXEC)
    os.symlink("/proc/self/fd", f"{STAGE}/dev/fd")
    os.mkdir(f"{STAGE}/dev/shm")
    if writable:
        mount("shm", f"{STAGE}/dev/shm", "tmpfs", NOSUID | NODEV | NOEXEC, "mode=1777,size=64m")
        mount("tmp", f"{STAGE}/tmp", "tmpfs", NOSUID | NODEV | NOEXEC, "mode=1777")
    mount("", f"{STAGE}/dev", flags=BIND | REMOUNT | RDONLY | NOSUID)
    for folder in sources():
        bind(folder, STAGE + folder, RDONLY)


def enter() -> None:
    """Makes STAGE the root folder, read-only, and detaches the host's."""
    os.chdir(STAGE)
    must(libc.syscall(PIVOT_ROOT, b".", b"."), "pivot_root")
    must(libc.umount2(b".", DETACH), "umount2")
    os.chdir("/")
    mount("", "/", flags=BIND | REMOUNT | RDONLY)


def map_ids(uid: int, gid: int, outer: tuple[int, int]) -> None:
    """Maps `uid` and `gid` of a new user namespace to the ids `outer`."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer[0]} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer[1]} 1")


def become_user(by_namespace: bool) -> None:
    """Drops all capabilities, and changes uid and gid to UID.

    by_namespace: by a second user namespace, because the first one maps no such id.
    """
    if by_namespace:
        must(libc.unshare(NEWUSER), "unshare")
        map_ids(UID, UID, (0, 0))
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if not by_namespace:  # otherwise execve(2) drops the capabilities in the namespace
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
    libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0)


def own_namespaces() -> bool:
    """Makes the container's namespaces. Returns whether that needed a user namespace."""
    outer = os.getuid(), os.getgid()
    is_root = os.geteuid() == 0
    must(libc.unshare(NAMESPACES | (0 if is_root else NEWUSER)), "unshare")
    if not is_root:
        map_ids(0, 0, outer)
    return not is_root


def reap_until(pid: int) -> int:
    """Waits for children until `pid` ends, and returns its exit status."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status) & 0xFF


def main(words: list[str]) -> int:
    options = set(itertools.takewhile(lambda word: word.startswith("--"), words))
    command = words[len(options) :]
    (chosen,) = [word.partition("=")[2] for word in options if word.startswith("--filter=")] or ["docker"]
    if chosen == "systemd" and (why := systemd_unit.lacking()):
        print(why, file=sys.stderr)
        return CANNOT
    try:
        nested = own_namespaces()
    except OSError as error:
        print(error, file=sys.stderr)
        return CANNOT if error.errno in (errno.EPERM, errno.ENOSPC, errno.EACCES) else 1
    if pid := os.fork():
        return reap_until(pid)
    build("--nothing-writable" not in options)
    enter()
    become_user(nested)
    if chosen == "systemd":
        systemd_unit.install()
    elif chosen != "none":
        profiles.install(chosen)
    if "--init" in options and (pid := os.fork()):
        return reap_until(pid)
    os.environ.update(HOME="/nonexistent", PATH="/usr/local/bin:/usr/bin:/bin")
    os.environ.pop("PYTEST_DEBUG_TEMPROOT", None)  # a folder of the host (tests/conftest.py)
    os.execv(command[0], command)
    return 1  # not reached after execve(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
