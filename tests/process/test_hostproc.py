"""Data of the host's /proc about this process and about one that has ended."""

import os
import resource
import subprocess
import sys
import threading
from typing import Any

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
    """The other fields of proc_pid_stat(5) are after the last parenthesis."""
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


class AtInstruction:
    """A trace function that raises KeyboardInterrupt at the nth instruction of `hostproc._read`."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_name != "_read":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
        return self


# a file object to which nothing refers was closed by its reference count
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ctrl_c_at_any_instruction_leaves_nothing_open() -> None:
    count, before = len(os.listdir("/proc/self/fd")), sys.gettrace()
    for nth in range(1, 200):
        at_instruction = AtInstruction(nth)
        sys.settrace(at_instruction)
        try:
            hostproc.stat(os.getpid(), 10)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        assert len(os.listdir("/proc/self/fd")) == count, nth
        if at_instruction.left > 0:
            break
    assert 10 < nth < 199
