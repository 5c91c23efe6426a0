"""No path leads out of a mount, whatever the host's folder contains."""

import os
import stat

import pytest

from proxybox import Mount
from proxybox.errors import PolicyError, SandboxStartError

SECRET = "the host's own secret"


@pytest.fixture
def host(tmp_path):
    """A folder to mount, full of links that lead out, and a secret beside it."""
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    folder = tmp_path / "mounted"
    inside = folder / "inside"
    inside.mkdir(parents=True)
    (folder / "plain.txt").write_text("plain")
    (folder / "absolute").symlink_to(secret)
    (folder / "relative").symlink_to("../secret.txt")
    (folder / "to-root").symlink_to("/")
    (folder / "to-proc").symlink_to("/proc/self/root")
    (inside / "up").symlink_to("../../secret.txt")
    (inside / "folder").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    for each in (tmp_path, folder, inside):
        each.chmod(0o777)
    return folder


@pytest.fixture(params=["ro", "rw", "overlay"])
def mounted(request, host):
    return {"filesystem": {"mounts": [Mount(target="/data", source=str(host), mode=request.param)]}}


WALK = """
import os, sys
ways = [
    "/data/absolute", "/data/relative", "/data/inside/up", "/data/inside/folder/secret.txt", "/data/to-root/etc/shadow",
    "/data/../secret.txt", "/data/../../../../../../etc/shadow", "/data/inside/../../secret.txt", "/data/./../secret.txt",
    "/data//..//secret.txt", "/data/to-proc/etc/shadow", "/../../etc/shadow", "/box/../../../etc/shadow",
    "/proc/self/root/etc/shadow", "/proc/1/root/etc/shadow", "/proc/self/cwd/../etc/shadow", "/proc/thread-self/root/etc/shadow",
    "/proc/self/task/1/root/etc/shadow", "/dev/fd/3", "/dev/fd/../root/etc/shadow", "/proc/self/fd/3", "/proc/self/fd/4",
    "/proc/self/exe/../../../etc/shadow", "/dev/../etc/shadow", "/usr/lib/../../etc/shadow", "/usr/lib/ssl/../../../etc/shadow",
    "/usr/lib/ssl/private", "/etc/shadow", "/etc/ssl/private", "/root", "/home", "/var", "/run", "/sys", "/proc/kcore",
    "/proc/self/environ", "/proc/self/mem", "/proc/self/map_files", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
    "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/shm", "/dev/pts/0", "/dev/console", "/dev/ptmx", "/proc/self/ns/net",
    "/proc/" + str(os.getppid()) + "/environ", "/proc/self/mountinfo", "/proc/self/cgroup", "/lib/../root", "/lib64/../etc/shadow",
    "/data/fifo", "/data/loop",
]
for way in ways:
    for flags in (os.O_RDONLY | os.O_NONBLOCK, os.O_RDWR | os.O_NONBLOCK, 0o10000000, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK):
        try:
            fd = os.open(way, flags, 0o666)
        except OSError:
            continue
        try:
            print(way, os.read(fd, 200))
        except OSError:
            pass
        os.close(fd)
    try:
        print(way, os.readlink(way))
    except OSError:
        pass
    try:
        print(way, os.listdir(way))
    except OSError:
        pass
"""


def test_ways_out(hostile, host, mounted):
    output = hostile.ok(WALK, **mounted)
    assert SECRET not in output
    assert "root:$" not in output and "root:!" not in output and "root:*" not in output
    # A guest may read the target of a link (readlink), but cannot open it.
    for line in output.splitlines():
        way, _, found = line.partition(" ")
        if way.startswith("/data/") and "[" in found:
            assert "secret.txt" not in found, line
    assert (host.parent / "secret.txt").read_text() == SECRET
    assert not (host.parent / "etc").exists()


def test_writing_through_the_ways_out(hostile, host, mounted):
    hostile.ok(
        """
import os
for name in ("absolute", "relative", "inside/up", "inside/folder/secret.txt", "../secret.txt", "inside/folder/new", "to-root/tmp/new-in-host"):
    for way in (lambda p: open(p, "w").write("stolen"), lambda p: os.truncate(p, 0), os.unlink if "/f" in name or ".." in name else print,
                lambda p: os.chmod(p, 0o777), lambda p: os.rename("/data/plain.txt", p + ".x"), lambda p: os.mkdir(p + "d"),
                lambda p: os.symlink("x", p + "s"), lambda p: os.link("/data/plain.txt", p + "l"), lambda p: os.utime(p, (1, 1))):
        try:
            way("/data/" + name)
        except OSError:
            pass
""",
        **mounted,
    )
    secret = host.parent / "secret.txt"
    assert secret.read_text() == SECRET
    assert sorted(os.listdir(host.parent)) == ["mounted", "secret.txt"]
    assert secret.stat().st_mtime > 1
    assert not os.path.exists("/tmp/new-in-host")


def test_links_made_by_the_guest_lead_nowhere(hostile, host):
    """In a writable mount the guest can make links: they are resolved in the box's own tree alone.

    Programs of the host later find no set-id bit and no device.
    """
    output = hostile.run(
        f"""
import os, stat
os.symlink("{host.parent}/secret.txt", "/data/a")
os.symlink("../secret.txt", "/data/b")
os.symlink("/proc/self/root{host.parent}/secret.txt", "/data/c")
for name in "abc":
    try: print(open("/data/" + name).read())
    except OSError as error: print(error.errno)
open("/data/suid", "w").close()
try: os.chmod("/data/suid", 0o6777)
except OSError: pass
for make in (lambda: os.mknod("/data/dev", stat.S_IFCHR | 0o666, os.makedev(1, 3)), lambda: os.mkfifo("/data/pipe"),
             lambda: os.mknod("/data/block", stat.S_IFBLK | 0o666, os.makedev(8, 0)),
             lambda: os.setxattr("/data/suid", "security.capability", b"x" * 20), lambda: os.chown("/data/suid", 0, 0)):
    try: make()
    except OSError: pass
""",
        filesystem={"mounts": [Mount(target="/data", source=str(host), mode="rw")]},
    )
    assert SECRET not in output.stdout
    for name in os.listdir(host):
        status = os.lstat(host / name)
        assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID), name
        assert not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode), name
    assert not os.path.lexists(host / "dev") and not os.path.lexists(host / "block")


def test_a_fifo_on_the_host_stops_nobody(hostile, mounted):
    """If the controller opened a FIFO, it would wait for a writer."""
    result = hostile.run(
        """
import os
for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
    try: print(os.open("/data/fifo", flags))
    except OSError as error: print(type(error).__name__)
""",
        **mounted,
    )
    assert result.ok, result


def test_hard_links_from_the_host_are_files_like_others(hostile, host):
    """A file that the host links into a folder is in the mount. In a read-only mount it can be neither linked nor
    written.
    """
    os.link(host.parent / "secret.txt", host / "linked")
    output = hostile.run(
        """
import os
try: open("/data/linked", "a").write("x"); print("written")
except OSError: print("refused")
try: os.link("/data/linked", "/tmp/linked"); print("linked")
except OSError: print("refused")
""",
        filesystem={"mounts": [Mount(target="/data", source=str(host), mode="ro")]},
    )
    assert output.stdout == "refused\nrefused\n"
    assert (host.parent / "secret.txt").read_text() == SECRET


@pytest.mark.parametrize("source", ["/proc", "/proc/self", "/sys", "/proc/self/fd", "/sys/kernel"])
@pytest.mark.parametrize("mode", ["ro", "rw", "overlay"])
def test_the_kernels_filesystems_are_no_sources(source, mode):
    import proxybox

    with pytest.raises((SandboxStartError, PolicyError)):
        proxybox.run("1", filesystem={"mounts": [Mount(target="/data", source=source, mode=mode)]})


def test_the_hosts_root_as_a_mount_shows_no_proc(hostile):
    """With / mounted read-only, other file systems below it are not entered."""
    output = hostile.ok(
        f"""
import os
for way in ("/data/proc/self/environ", "/data/proc/{os.getpid()}/environ", "/data/proc/{os.getpid()}/mem", "/data/sys/kernel/notes", "/data/dev/null", "/data/proc/1/cmdline"):
    try: print(open(way, "rb").read(100))
    except OSError as error: print("no")
""",
        filesystem={"mounts": [Mount(target="/data", source="/", mode="ro")]},
    )
    assert set(output.split("\n")) <= {"no", ""}, output


def test_descriptors_of_directories_go_no_higher(hostile, host, mounted):
    output = hostile.ok(
        """
import os
for start in ("/data", "/data/inside", "/box", "/"):
    fd = os.open(start, os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(start)
    for way in ("../" * 20 + "etc/shadow", "../secret.txt", "../../secret.txt", "inside/../../secret.txt"):
        for opened in (lambda: os.open(way, os.O_RDONLY, dir_fd=fd), lambda: os.open(way, os.O_RDONLY)):
            try: print(os.read(opened(), 100))
            except OSError: print("no")
    os.close(fd)
""",
        **mounted,
    )
    assert set(output.split("\n")) <= {"no", ""}, output


def test_a_folder_moved_out_while_the_guest_stands_in_it(hostile, host):
    """The host moves the guest's working folder out of the mount; `..` then does not lead outside."""
    import proxybox

    moved = []

    def move(text):
        if "standing" in text:
            os.rename(host / "inside", host.parent / "moved")
            moved.append(text)

    result = proxybox.run(
        """
import os
os.chdir("/data/inside")
fd = os.open(".", os.O_RDONLY)
print("standing", flush=True)
for way in ("../secret.txt", "../../secret.txt"):
    for opened in (lambda: os.open(way, os.O_RDONLY), lambda: os.open(way, os.O_RDONLY, dir_fd=fd)):
        try: print(os.read(opened(), 100))
        except OSError: print("no")
try: print(os.listdir(".."))
except OSError: print("no")
""",
        filesystem={"mounts": [Mount(target="/data", source=str(host), mode="rw")]},
        on_stdout=move,
    )
    assert moved and result.ok, result
    assert SECRET not in result.stdout and "secret.txt" not in result.stdout


def test_renaming_over_mounts_and_devices(hostile, host, mounted):
    output = hostile.ok(
        """
import os
for source, target in (("/data", "/tmp/x"), ("/tmp", "/data/x"), ("/dev", "/tmp/dev"), ("/proc", "/tmp/p"), ("/box/main.py", "/data/../etc/passwd"),
                       ("/data/inside", "/data/inside/deeper"), ("/data/inside", "/box/inside")):
    try: os.rename(source, target); print("renamed", source, target)
    except OSError: pass
print(os.path.isdir("/data"), os.path.isdir("/dev"), os.path.isdir("/proc"))
""",
        **mounted,
    )
    assert output.splitlines()[-1] == "True True True", output
    assert "renamed" not in output.replace("renamed /data/inside /box/inside", ""), output
