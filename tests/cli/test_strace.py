"""OS calls in strace's notation."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxybox.controller.audit import OSCall
from proxybox.terminal import strace


def call(name: str, result: int | None = 0, errno: str | None = None, **arguments: Any) -> OSCall:
    return OSCall(name, 0, "paths", arguments, 1, result=result, errno=errno)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (
            call("openat", 3, dirfd=-100, path=b"/etc/passwd", flags=0o2000000, mode=0),
            'openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC, 0) = 3',
        ),
        (
            call("open", -2, "ENOENT", path=b"/x", flags=0o1101, mode=0o644),
            'open("/x", O_WRONLY|O_CREAT|O_TRUNC, 0644) = -1 ENOENT (No such file or directory)',
        ),
        (
            call("write", 40, fd=1, buf=b'a"b\\\n' + b"x" * 40, count=45),
            'write(1, "a\\"b\\\\\\nxxxxxxxxxxxxxxxxxxxxxxxxxxx"..., 45) = 40',
        ),
        (
            call("mmap", 0x7F0000001000, addr=0, length=8192, prot=3, flags=0x22, fd=-1, offset=0),
            "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000001000",
        ),
        (call("lseek", 5, fd=3, offset=5, whence=0), "lseek(3, 5, SEEK_SET) = 5"),
        (
            call("clock_gettime", 0, clock_id=1, timespec=0x7FFC00000010),
            "clock_gettime(CLOCK_MONOTONIC, 0x7ffc00000010) = 0",
        ),
        (call("kill", None, pid=1, sig=9), "kill(1, SIGKILL) = ?"),
        (call("fcntl", 0, fd=1, cmd=1, arg=0), "fcntl(1, F_GETFD, 0) = 0"),
        (call("access", -13, "EACCES", path=b"/", mode=4), 'access("/", R_OK) = -1 EACCES'),
        (call("munmap", 0, addr=4096, length=1), "munmap(0x1000, 1) = 0"),
        (
            call("rename", 0, old=b"/box/" + b"o" * 40, new=b"/box/" + b"n" * 40),
            f'rename("/box/{"o" * 40}", "/box/{"n" * 40}") = 0',
        ),
        (call("frobnicate", 0, path=b"x" * 40, mode=8), f'frobnicate("{"x" * 32}"..., 8) = 0'),
        (
            call("socket", -1, "EPERM", domain=2, kind=0o2000001, protocol=0),
            "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0) = -1 EPERM",
        ),
        (call("getuid", 1000), "getuid() = 1000"),
    ],
)
def test_as_strace_has_it(made: OSCall, line: str) -> None:
    assert strace.call_line(made).startswith(line)


@given(st.binary(max_size=80))
def test_what_a_guest_passes_is_harmless_for_a_terminal(data: bytes) -> None:
    text = strace.call_line(call("open", 1, path=data, flags=0, mode=0))
    assert text.isascii()
    assert text.isprintable()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["open", "mmap", "access", "ioctl", "unlinkat", "frobnicate"]),
    st.dictionaries(
        st.sampled_from(["fd", "flags", "mode", "prot", "buf", "clock_id", "sig", "cmd", "dirfd"]),
        st.one_of(
            st.none(),
            st.integers(min_value=-(2**63), max_value=2**64 - 1),
            st.binary(max_size=5),
            st.text(max_size=5),
        ),
    ),
    st.integers(min_value=-4096, max_value=2**63),
)
def test_no_value_is_too_odd(name: str, arguments: dict[str, Any], result: int) -> None:
    assert "\n" not in strace.call_line(call(name, result, **arguments))
