"""The memory of a guest contains nothing about the host or about how the guest was started."""

import os
import socket
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.guests.finding import find_guest
from proxybox.policies import Policy
from proxybox.program import Program

EACH_GUEST = True


@pytest.fixture(scope="module")
def memory(guest_kind, tmp_path_factory):
    """A host folder with a unique name, and all readable memory of a guest whose script came from there."""
    folder = tmp_path_factory.mktemp("telling-folder-name")
    return folder, dumped(folder)


@pytest.fixture(scope="module")
def memory_of_release(tmp_path_factory, release):
    """The memory of a guest of an unpacked release. Its library stays open for later boxes."""
    return dumped(tmp_path_factory.mktemp("script"), release)


@pytest.fixture(scope="module")
def memory_of_cpython_release(tmp_path_factory, cpython_release):
    """The memory of a guest of an unpacked CPython release."""
    return dumped(tmp_path_factory.mktemp("script"), cpython_release)


def dumped(folder, guest=None):
    folder.chmod(0o755)
    for path in (Path(__file__).parent / "guest").glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    (folder / "main.py").write_text(
        "kept = '-'.join(['seen', 'there'] * 9)\nimport gc, memory\ngc.collect()  # it moves no more\nmemory.dump()"
    )
    pieces = []
    mounts = [proxybox.Mount(target="/data", source=str(folder), mode="ro")]
    policy = Policy(
        filesystem={"mounts": mounts}, output={"limit": None}, limits={"wall_time": 200, "cpu_time": 60, "calls": None}
    )
    os.environ["TELLING_VARIABLE"] = "telling-value"
    try:
        result = proxybox.api.run_program(
            Program.file(folder / "main.py"), policy=policy, guest=guest, on_stdout=pieces.append, capture=False
        )
    finally:
        del os.environ["TELLING_VARIABLE"]
    assert result.ok, result
    text = b"".join(pieces)
    assert len(text) > 30 << 20, "most of what is mapped was seen"
    assert b"-".join([b"seen", b"there"] * 9) in text
    return text


def seen(text, needle, around=60):
    """The part of the text around `needle`, or None."""
    at = text.find(needle)
    return None if at < 0 else text[max(0, at - around) : at + around]


def test_no_path_of_the_host(memory):
    folder, text = memory
    package = Path(proxybox.__file__).resolve().parent
    for path in (folder, package, package.parent, Path(__file__).parent):
        assert seen(text, os.fsencode(path)) is None
    assert seen(text, b"telling-") is None


@pytest.mark.pypy
def test_no_path_of_an_unpacked_release(memory_of_release, release):
    """The release's folder is on the stack, in the loader's list and in PyPy's data, until the stub removes it."""
    assert b"/usr/lib/pypy/bin/pypy3" in memory_of_release
    assert seen(memory_of_release, os.fsencode(release.parent)) is None


@pytest.mark.pypy  # once: the test names its guest itself
def test_no_path_of_an_unpacked_cpython(memory_of_cpython_release, cpython_release):
    assert b"/usr/lib/python/bin/python3" in memory_of_cpython_release
    assert seen(memory_of_cpython_release, os.fsencode(cpython_release.parent)) is None


def test_no_name_of_the_host(memory):
    _, text = memory
    names = {socket.gethostname(), os.path.expanduser("~"), os.environ.get("VIRTUAL_ENV", "")}
    for name in names:
        if len(name) > 5:
            assert seen(text, name.encode()) is None, name
    user = os.environ.get("USER", "user")
    assert user in ("root", "user") or seen(text, user.encode() + b"\0") is None


def test_no_word_of_the_launch(memory):
    _, text = memory
    assert seen(text, b"LD_PRELOAD=/") is None
    assert seen(text, b"glibc.pthread.rseq=0") is None
    assert seen(text, b"_stub.so") is None
    assert seen(text, b"guest/_launcher") is None
    assert seen(text, b"TELLING_VARIABLE") is None


def test_the_auxiliary_vector(hostile):
    out = hostile.ok("""
import ctypes
libc = ctypes.CDLL(None)
libc.getauxval.restype = ctypes.c_ulong
print([libc.getauxval(kind) for kind in (11, 12, 13, 14, 23)], ctypes.string_at(libc.getauxval(31)))
""")
    assert out == f"[1000, 1000, 1000, 1000, 0] {find_guest().visible(find_guest().executable).encode()!r}\n", out


def test_the_thread_id_is_virtual(hostile):
    """glibc stores the thread id in memory; pthread_kill and recursive locks would show it."""
    out = hostile.ok("""
import threading, os, ctypes
print(threading.get_native_id() == os.getpid(), ctypes.CDLL(None).gettid() == os.getpid())
""")
    assert out == "True True\n"


def test_what_proc_says(hostile):
    """The guest's /proc has no names, paths, addresses or counters of the host."""
    out = hostile.ok("""
import os
for folder, names, files in os.walk("/proc"):
    for name in files:
        path = folder + "/" + name
        try:
            print(path, open(path, "rb").read(100000))
        except OSError: pass
        try: print(path, os.readlink(path))
        except OSError: pass
for name in ("exe", "cwd", "root"): print(os.readlink("/proc/self/" + name))
""")
    package = str(Path(proxybox.__file__).resolve().parent)
    assert package not in out and str(Path(package).parent) + "/" not in out
    assert socket.gethostname() not in out or len(socket.gethostname()) < 4
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() not in out
    assert f"{os.getpid()}" not in out.split() or os.getpid() < 5000
