"""What the host's /proc says, of this process and of one that has gone."""

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading

import pytest

from proxybox.controller import hostproc


def test_what_is_told_of_this_process() -> None:
    assert hostproc.status("self", "Tgid") == hostproc.status(threading.get_native_id(), "Tgid") == os.getpid()
    assert hostproc.stat(os.getpid(), 4, 5) == (os.getppid(), os.getpgrp())
    space, resident = hostproc.memory(os.getpid())
    assert 0 < resident < space
    assert resident % resource.getpagesize() == 0
    peaks = hostproc.peaks(os.getpid())
    assert peaks["VmPeak"] >= space
    assert peaks["VmHWM"] > 0
    assert hostproc.status("self", "CapEff", 16) == hostproc.status(os.getpid(), "CapEff", 16)


def test_a_name_with_anything_in_it() -> None:
    """Fields of proc_pid_stat(5) stand behind the last parenthesis."""
    program = "import ctypes; ctypes.CDLL(None).prctl(15, b') R 1 1 ('); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert hostproc.stat(child.pid, 4) == (os.getpid(),)
        child.communicate(b"\n")


def test_one_that_has_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    for ask in (
        lambda: hostproc.status(child.pid, "Tgid"),
        lambda: hostproc.stat(child.pid, 4),
        lambda: hostproc.memory(child.pid),
        lambda: hostproc.peaks(child.pid),
    ):
        with pytest.raises(OSError):
            ask()


def test_what_is_not_told() -> None:
    with pytest.raises(ValueError, match="no Nothing in"):
        hostproc.status("self", "Nothing")
    with pytest.raises(ValueError, match="ends too soon"):
        hostproc.stat(os.getpid(), 200)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a file object that nobody has got was closed by its count
def test_ctrl_c_while_it_reads() -> None:
    moments, before = random.Random(1), signal.signal(signal.SIGALRM, signal.default_int_handler)
    count = len(os.listdir("/proc/self/fd"))
    try:
        for _ in range(500):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(20e-6, 90e-6))
                while True:
                    hostproc.stat(os.getpid(), 10)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(os.listdir("/proc/self/fd")) == count
