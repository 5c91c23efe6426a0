"""Mounts of folders with more than files: devices, FIFOs, bind mounts, hard links, the whole host; and a host process
that changes them meanwhile.

The tests look for content from outside the folder. An opened device or FIFO would answer or make the box hang.
"""

import contextlib
import os
import stat
import subprocess
import sys
import textwrap

import pytest

import proxybox
from proxybox import Mount

SECRET = "the host's own secret"


@pytest.fixture
def host(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text(SECRET)
    folder = tmp_path / "mounted"
    (folder / "folder").mkdir(parents=True)
    (folder / "folder" / "file").write_text("plain")
    for each in (folder, folder / "folder"):
        each.chmod(0o777)
    return folder


@pytest.fixture(params=["ro", "rw", "overlay"])
def mode(request):
    return request.param


def mounted(folder, mode):
    return {"filesystem": {"mounts": [Mount(target="/data", source=str(folder), mode=mode)]}}


TOUCH = """
import os, stat
shown = {}
for folder, folders, names in os.walk("/data"):
    if folder.count("/") > 3: folders.clear()
    for name in names + folders:
        path = folder + "/" + name
        shown[path] = None
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_NONBLOCK, 0o10000000):
            try: fd = os.open(path, flags)
            except OSError: continue
            try: shown[path] = os.read(fd, 64)
            except OSError: pass
            os.close(fd)
print({path: data for path, data in shown.items()})
"""


def test_devices_and_fifos_in_a_folder(hostile, host, mode):
    """They do not exist in the box. Only root can make a device; any user can make a FIFO and a socket."""
    import socket

    os.mkfifo(host / "fifo")
    os.chmod(host / "fifo", 0o666)
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(host, os.O_PATH)  # the folder's path may be longer than the 107 bytes of a socket's address
        listener.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
        for name, kind, major, minor in (
            ("zero", stat.S_IFCHR, 1, 5),
            ("kmsg", stat.S_IFCHR, 1, 11),
            ("disk", stat.S_IFBLK, 254, 0),
        ):
            with contextlib.suppress(PermissionError):
                os.mknod(host / name, kind | 0o666, os.makedev(major, minor))
        out = hostile.ok(TOUCH, timeout=100, **mounted(host, mode))
    assert eval(out) == {"/data/folder": None, "/data/folder/file": b"plain"}, out


#: The file systems of proc(5) that contain no user's files.
MADE_UP = {
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "debugfs", "tracefs", "securityfs", "bpf", "pstore",
    "configfs", "fusectl", "binfmt_misc", "efivarfs", "nsfs",
}  # fmt: skip


def test_filesystems_of_the_kernels(mode):
    """They are refused before a box starts, wherever the host has mounted them."""
    with open("/proc/self/mounts", encoding="ascii") as file:
        mounts = {line.split()[1]: line.split()[2] for line in file}
    refused = [
        where
        for where, kind in mounts.items()
        if kind in MADE_UP and os.path.isdir(where) and os.access(where, os.X_OK)
    ]
    assert "/proc" in refused
    for source in [*refused, "/dev", "/proc/self/task"]:
        with pytest.raises(proxybox.ProxyboxError):
            proxybox.run("1", **mounted(source, mode))


def test_the_whole_host(hostile, mode):
    """The mount has the files of /, without devices and without the kernel's file systems below it.

    The program only reads.
    """
    out = hostile.ok(
        f"""
import os
for way in ("proc/self/environ", "proc/{os.getpid()}/environ", "proc/{os.getpid()}/mem", "proc/1/cmdline", "proc/version", "sys/kernel/notes",
            "dev/null", "dev/zero", "dev/kmsg", "dev/mem", "dev/tty", "dev/pts/ptmx", "proc/self/root/etc/hostname", "dev/fd/0"):
    try: print("read", way, open("/data/" + way, "rb").read(100))
    except OSError as error: print("no")
for folder in ("proc", "sys", "dev/pts", "sys/fs/cgroup"):
    try: print(len(os.listdir("/data/" + folder)) and "listed " + folder)
    except OSError as error: print("no")
print(sorted(set(os.listdir("/data")) & {{"etc", "usr"}}))
""",
        **mounted("/", mode),
    )
    assert set(out.splitlines()) <= {"no", "0", "['etc', 'usr']"}, out
    assert "['etc', 'usr']" in out


# --- hard links and bind mounts, made by the host ---------------------------------------------------------------------


def test_a_hard_link_to_a_secret_through_an_overlay(hostile, host):
    """The linked file is in the folder, so the box can read it.

    Writes of the box stay in the box, and a commit replaces the name, not the file that has other names.
    """
    os.link(host.parent / "outside" / "file", host / "linked")
    result = hostile.run(
        "with open('/data/linked', 'w') as file: file.write('changed')\nimport os; os.chmod('/data/linked', 0o6777); print(open('/data/linked').read())",
        **mounted(host, "overlay"),
    )
    assert result.stdout == "changed\n", result
    assert (host.parent / "outside" / "file").read_text() == SECRET
    assert not os.stat(host / "linked").st_mode & 0o6000


def test_a_hard_link_made_by_the_guest_does_not_leave_the_mount(hostile, host):
    """Links from an rw mount to another mount, to the box's own memory and back fail with EXDEV, as between file
    systems.
    """
    other = host.parent / "other"
    other.mkdir(0o777)
    other.chmod(0o777)
    mounts = [Mount(target="/data", source=str(host), mode="rw"), Mount(target="/other", source=str(other), mode="rw")]
    out = hostile.ok(
        """
import os
open("/tmp/own", "w").close()
for source, target in (("/data/folder/file", "/other/x"), ("/data/folder/file", "/tmp/x"), ("/tmp/own", "/data/x"), ("/etc/passwd", "/data/x"), ("/usr/lib/pypy3.11/os.py", "/data/y")):
    for way in (os.link, os.rename):
        try: way(source, target); print("done", source, target)
        except OSError as error: print(error.errno)
""",
        filesystem={"mounts": mounts},
    )
    assert set(out.split()) <= {"18", "30", "1", "13", "2"}, out
    assert os.listdir(other) == [] and sorted(os.listdir(host)) == ["folder"]


BOUND = """
import ctypes, os, sys
import proxybox
from proxybox import Mount
from proxybox.controller.vfs.host import boundary
mounted, outside, mode, walk = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, kind, flags):
    if libc.mount(source.encode(), target.encode(), kind and kind.encode(), flags, None) != 0:
        raise OSError(ctypes.get_errno(), "mount " + target)
os.mkdir(mounted + "/bound"); os.mkdir(mounted + "/procfs"); open(mounted + "/bound-file", "w").close()
os.mkdir(mounted + "/memory")
mount(outside, mounted + "/bound", None, 4096)
mount(outside + "/file", mounted + "/bound-file", None, 4096)
mount("none", mounted + "/memory", "tmpfs", 0)
open(mounted + "/memory/file", "w").write("in the tmpfs")
mount("/proc", mounted + "/procfs", None, 4096 | 16384)
if walk != "openat2": boundary._SYS_OPENAT2 = 1023
if walk == "mountinfo": boundary._mount_id = lambda fd: None
if open("/proc/self/uid_map").read().split()[2] == "1":  # root of a namespace of one user, who cannot become another
    libc.unshare(0x10000000)
    open("/proc/self/uid_map", "w").write("1000 0 1")
result = proxybox.run({code!r}, filesystem={{"mounts": [Mount(target="/data", source=mounted, mode=mode)]}}, timeout=200)
print(result.summary(), result.stderr, file=sys.stderr)
print(result.stdout)
"""

LOOK_AT_BOUND = """
import os
found = []
for way in ("bound/file", "bound-file", "memory/file", "procfs/version", "procfs/self/environ", "bound/../../outside/file"):
    try: found.append((way, open("/data/" + way).read(100)))
    except OSError: pass
    try: os.write(os.open("/data/" + way, os.O_WRONLY | os.O_APPEND), b"written"); found.append((way, "written"))
    except OSError: pass
for way in ("bound", "memory", "procfs"):
    try: found.append((way, os.listdir("/data/" + way)))
    except OSError: pass
print(found)
"""


@pytest.mark.cover(1)
@pytest.mark.parametrize("walk", ["openat2", "walk", "mountinfo"])
def test_bind_mounts_in_a_folder(host, mode, walk):
    """Another mount of the same or another file system is never entered: neither by openat2 nor by the walk by
    component.

    That is also true where the kernel does not report the mount of a descriptor.
    """
    for each in (host.parent, host, host.parent / "outside"):
        each.chmod(0o777)
    script = textwrap.dedent(BOUND).format(code=LOOK_AT_BOUND)
    way = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*way, "true"], capture_output=True).returncode:
        pytest.skip("this host lets nobody make mounts: unshare(1) is refused")
    command = [*way, sys.executable, "-c", script, host, host.parent / "outside", mode, walk]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = dict(eval(done.stdout.splitlines()[0]))
    assert not {way for way in found if way.startswith(("memory", "procfs"))}, found
    assert found == {}
    assert (host.parent / "outside" / "file").read_text() == SECRET
    assert "bound/../../outside/file" not in found


# --- a process of the host's ------------------------------------------------------------------------------------------

SWAP = """
import ctypes, os, sys
folder, between = os.open(sys.argv[1], os.O_RDONLY), sys.argv[2:]
renameat2 = ctypes.CDLL(None).renameat2
print("ready", flush=True)
while True:
    for one in between:
        renameat2(folder, b"folder", folder, one.encode(), 2)
"""


@contextlib.contextmanager
def swapping(folder, *names):
    """Another process exchanges `folder` atomically with each of `names` in turn, as fast as it can."""
    with subprocess.Popen([sys.executable, "-c", SWAP, folder, *names], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


RACE = """
import os, time
seen, number = set(), 0
end = time.monotonic() + 0.8
while time.monotonic() < end:
    number += 1
    for way in (lambda: open("/data/folder/file").read(), lambda: os.stat("/data/folder/file").st_size, lambda: tuple(os.listdir("/data/folder")),
                lambda: os.write(os.open("/data/folder/file", os.O_WRONLY), b"stolen"), lambda: open(f"/data/folder/new{number}", "x").close(),
                lambda: os.truncate("/data/folder/file", 1), lambda: os.rename("/data/folder/file", "/data/taken"), lambda: os.rename("/data/taken", "/data/folder/file"),
                lambda: os.link("/data/folder/file", f"/data/l{number}"), lambda: os.chmod("/data/folder/file", 0o600), lambda: os.utime("/data/folder/file", (1, 1)),
                lambda: os.unlink(f"/data/folder/new{number}"), lambda: os.mkdir("/data/folder/made"), lambda: os.rmdir("/data/folder/made"), lambda: os.readlink("/data/folder")):
        try: seen.add(way())
        except OSError as error: seen.add(-error.errno)
print(seen)
"""


@pytest.mark.parametrize("walk", ["openat2", "walk"])
def test_a_process_swaps_a_folder_of_an_rw_mount_for_ways_out(hostile, host, walk, monkeypatch):
    if walk == "walk":
        monkeypatch.setattr("proxybox.controller.vfs.host.boundary._SYS_OPENAT2", 1023)
    outside = host.parent / "outside"
    (host / "absolute").symlink_to(outside)
    (host / "relative").symlink_to("../outside")
    os.mkfifo(host / "fifo")
    before = os.lstat(outside / "file")
    with swapping(host, "absolute", "relative", "fifo"):
        out = hostile.ok(RACE, timeout=200, **mounted(host, "rw"))
    assert SECRET not in out and str(len(SECRET)) not in out.replace("-", " ").split()
    seen = eval(out)
    assert {each for each in seen if isinstance(each, int) and each < 0}, "the race was not run"
    after = os.lstat(outside / "file")
    assert (outside / "file").read_text() == SECRET
    assert os.listdir(outside) == ["file"]
    assert (before.st_mode, before.st_mtime_ns, before.st_nlink) == (after.st_mode, after.st_mtime_ns, after.st_nlink)
    for name in os.listdir(host):
        assert not os.lstat(host / name).st_mode & 0o6000


@pytest.mark.parametrize("mode", ["rw", "overlay"])
def test_set_id_bits(hostile, host, mode):
    """By every call that sets a mode, on files and folders, new and old: the host gets no set-id bit, nor does a
    commit.
    """
    result = hostile.run(
        """
import os, raw
def modes(path, make):
    for way in (make, lambda: os.chmod(path, 0o7777), lambda: os.fchmod(os.open(path, os.O_RDONLY), 0o6755), lambda: os.chmod(path, 0o2777),
                lambda: raw.syscall(268, -100, raw.code(path.encode() + b"\\0"), 0o6777), lambda: raw.syscall(452, -100, raw.code(path.encode() + b"\\0"), 0o6777, 0)):
        try: way()
        except OSError: pass
os.umask(0)
modes("/data/new", lambda: os.open("/data/new", os.O_CREAT | os.O_WRONLY, 0o6777))
modes("/data/made", lambda: os.mkdir("/data/made", 0o6777))
modes("/data/folder/file", lambda: None)
modes("/data/node", lambda: os.mknod("/data/node", 0o106777))
raw.syscall(85, raw.code(b"/data/by-creat\\0"), 0o6777)
os.link("/data/new", "/data/linked"); os.rename("/data/by-creat", "/data/renamed")
""",
        **mounted(host, mode),
    )
    assert result.ok, result.stderr
    if mode == "overlay":
        result.files.commit()
    found = [os.path.join(where, name) for where, folders, files in os.walk(host) for name in folders + files]
    assert len(found) >= 6, found
    assert not [path for path in found if os.lstat(path).st_mode & 0o6000]
