"""Children by descriptor: with the kernel's pidfds, and with a thread instead of them."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from proxybox.controller import pidfd


@pytest.fixture(params=[True, False], ids=["pidfds", "threads"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(pidfd, "has_pidfds", lambda: request.param)
    return bool(request.param)


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """A child that waits until its standard input is closed."""
    command = [sys.executable, "-S", "-c", "print('ready', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def test_an_end_is_seen_and_nobody_has_reaped(child: "subprocess.Popen[bytes]") -> None:
    fd = pidfd.open_pidfd(child.pid)
    assert not pidfd.has_ended(fd)
    assert pidfd.send(fd, child.pid, signal.SIGTERM, 7) == 0
    assert pidfd.has_ended(fd, None)
    pidfd.wait(fd, child.pid, os.WEXITED | os.WNOWAIT)
    assert pidfd.has_ended(fd)
    assert child.wait() == -signal.SIGTERM
    os.close(fd)


def test_what_has_been_reaped_gets_no_signal(child: "subprocess.Popen[bytes]") -> None:
    fd = pidfd.open_pidfd(child.pid)
    child.kill()
    pidfd.wait(fd, child.pid, os.WEXITED)
    assert pidfd.send(fd, child.pid, signal.SIGTERM, 0) == errno.ESRCH
    with pytest.raises(ChildProcessError):
        pidfd.wait(fd, child.pid, os.WEXITED)
    os.close(fd)


def test_no_thread_is_left(child: "subprocess.Popen[bytes]", way: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = sorted(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        if way:
            os.close(pidfd.open_pidfd(child.pid))
        else:
            with pytest.raises(OSError, match="no thread is left"):
                pidfd.open_pidfd(child.pid)
    assert sorted(os.listdir("/proc/self/fd")) == before
