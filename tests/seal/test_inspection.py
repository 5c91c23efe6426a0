"""The inspection from outside: a state that is wrong, or cannot be seen, prevents the start of a box."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.seal import inspection
from proxybox.controller.seal.inspection import inspect_descriptors, inspect_seal

GUEST = 1234
SEALED = {
    "Seccomp": "2",
    "NoNewPrivs": "1",
    "CapInh": "0000000000000000",
    "CapPrm": "0000000000000000",
    "CapEff": "0000000000000000",
    "CapAmb": "0000000000000000",
    "Threads": "1",
    "Seccomp_filters": "3",
    "Uid": "65534\t65534\t65534\t65534",
}


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A correctly sealed process, as the kernel reports it. A test changes single values."""
    seen = SimpleNamespace(status=dict(SEALED), own={}, owner=0, niceness=19, scheduler=os.SCHED_OTHER)
    monkeypatch.setattr(inspection, "_status", lambda pid: seen.own if pid == "self" else seen.status)
    kernel = SimpleNamespace(
        stat=lambda path: SimpleNamespace(st_uid=seen.owner),
        getpriority=lambda which, pid: seen.niceness,
        PRIO_PROCESS=os.PRIO_PROCESS,
        sched_getscheduler=lambda pid: seen.scheduler,
        SCHED_OTHER=os.SCHED_OTHER,
        SCHED_BATCH=os.SCHED_BATCH,
        SCHED_IDLE=os.SCHED_IDLE,
    )
    monkeypatch.setattr(inspection, "os", kernel)
    return seen


def test_a_sealed_process_passes(process: SimpleNamespace) -> None:
    assert {"seal", "privileges", "priority"} <= {layer.name for layer in inspect_seal(GUEST, 65534, 19, 3)}


#: Values that gVisor does not report. They follow from others.
UNTOLD = ("NoNewPrivs", "CapAmb")


@pytest.mark.parametrize("key", [key for key in SEALED if key not in UNTOLD])
def test_a_fact_that_the_kernel_does_not_tell_is_a_failure(process: SimpleNamespace, key: str) -> None:
    del process.status[key]
    with pytest.raises(SandboxStartError):
        inspect_seal(GUEST, 65534, 19, 3)


def test_a_kernel_that_does_not_show_what_follows(process: SimpleNamespace) -> None:
    """Without capabilities a process can load a filter only with no_new_privs: so the capabilities must be visible."""
    for key in UNTOLD:
        del process.status[key]
    (privileges,) = [layer for layer in inspect_seal(GUEST, 65534, 19, 3) if layer.name == "privileges"]
    assert "this kernel does not show that" in privileges.text
    process.status["CapEff"] = "0000000000200000"
    with pytest.raises(SandboxStartError, match="CapEff"):
        inspect_seal(GUEST, 65534, 19, 3)


@pytest.mark.parametrize("key", UNTOLD)
def test_a_kernel_that_tells_it_of_others_is_not_believed(process: SimpleNamespace, key: str) -> None:
    """Linux reports this value for every process. If it is missing for one, the data that was read is wrong."""
    process.own[key] = "0"
    del process.status[key]
    with pytest.raises(SandboxStartError, match=f"no {key} in /proc/PID/status"):
        inspect_seal(GUEST, 65534, 19, 3)


def test_what_follows_on_the_real_kernel() -> None:
    """seccomp(2) refuses a filter to a process that has neither capabilities nor no_new_privs (EACCES)."""
    program = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
if os.getuid() == 0:
    os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000), 8)
filter = struct.pack("HxxxxxxQ", 1, ctypes.addressof(code))
print(libc.syscall(317, 1, 0, filter), ctypes.get_errno(), libc.prctl(38, 1, 0, 0, 0), libc.syscall(317, 1, 0, filter))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == f"-1 {errno.EACCES} 0 0\n"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Seccomp", "0"),
        ("Seccomp", "1"),
        ("Seccomp_filters", "2"),  # as where an outer filter makes seccomp(2) return 0 and do nothing
        ("Seccomp_filters", "4"),
        ("Threads", "2"),
        ("NoNewPrivs", "0"),
        ("CapInh", "0000000000000001"),
        ("CapPrm", "000001ffffffffff"),
        ("CapEff", "0000000000200000"),
        ("CapAmb", "1000000000000000"),
        ("Uid", "65534\t0\t65534\t65534"),
        ("Uid", "65534\t65534\t0\t65534"),
        ("Uid", "0\t0\t0\t0"),
    ],
)
def test_one_privilege_that_is_left_is_a_failure(process: SimpleNamespace, key: str, value: str) -> None:
    process.status[key] = value
    with pytest.raises(SandboxStartError):
        inspect_seal(GUEST, 65534, 19, 3)


def test_a_process_that_can_be_traced_is_a_failure(process: SimpleNamespace) -> None:
    process.owner = 65534
    with pytest.raises(SandboxStartError, match=r"dumpable.*; or this user namespace shows root as the same user"):
        inspect_seal(GUEST, 65534, 19, 3)
    process.owner = 1000
    process.status["Uid"] = "1000\t1000\t1000\t1000"
    with pytest.raises(SandboxStartError, match=r"dumpable: others could trace it$"):
        inspect_seal(GUEST, 1000, 19, 3)


def test_a_process_of_higher_priority_is_a_failure(process: SimpleNamespace) -> None:
    process.niceness = 0
    with pytest.raises(SandboxStartError, match="niceness"):
        inspect_seal(GUEST, 65534, 19, 3)


@pytest.mark.parametrize("scheduler", [os.SCHED_FIFO, os.SCHED_RR])
def test_a_process_of_real_time_is_a_failure(process: SimpleNamespace, scheduler: int) -> None:
    process.scheduler = scheduler
    with pytest.raises(SandboxStartError, match="sched"):
        inspect_seal(GUEST, 65534, 19, 3)


def test_a_kernel_that_does_not_count_filters(process: SimpleNamespace) -> None:
    del process.status["Seccomp_filters"]
    assert "seal" in [layer.name for layer in inspect_seal(GUEST, 65534, 19, None)]


def test_an_ordinary_process_fails_on_the_real_kernel() -> None:
    with pytest.raises(SandboxStartError, match="not sealed"):
        inspect_seal(os.getpid(), os.getuid(), 0, None)


def test_descriptors_are_those_of_the_real_process() -> None:
    reader, writer = os.pipe()
    code = "import sys; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[reader]
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert inspect_descriptors(child.pid, sorted([0, 1, 2, reader])).available
        for wrong in ([0, 1, 2], sorted([0, 1, reader]), sorted([0, 1, 2, reader, 99])):
            with pytest.raises(SandboxStartError, match="not its own"):
                inspect_descriptors(child.pid, wrong)
    os.close(reader)
    os.close(writer)
    with pytest.raises(SandboxStartError, match="cannot be inspected"):
        inspect_descriptors(child.pid, [])
