"""Interceptors and the audit: a caller's own rules and records."""

import errno
from typing import Any

import pytest

import proxybox
from proxybox import Answer, Deny, OSCall


def test_the_audit_sees_each_call() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox(audit=calls.append) as box:
        result = box.run(
            "import os; open('/etc/hostname').read(); os.mkdir('made', 0o750)\ntry: os.fork()\nexcept OSError: 1"
        )
    assert result.ok, result.stderr
    assert len([call for call in calls if call.family != "clock"]) == result.usage.calls, (
        "readings of clocks do not count"
    )
    opened = [call for call in calls if call.name == "openat" and call.arguments.get("path") == b"/etc/hostname"]
    assert [(call.decision, call.errno) for call in opened] == [("allowed", None)]
    assert opened[0].result is not None
    assert opened[0].result >= 3
    made = next(call for call in calls if call.name in ("mkdir", "mkdirat"))
    assert (made.arguments["path"], made.arguments["mode"], made.result) == (b"made", 0o750, 0)
    assert made.duration_ns > 0
    refused = next(call for call in calls if call.name == "clone")
    assert (refused.decision, refused.errno, refused.reason) == ("denied", "EPERM", "fork is refused")
    assert {call.family for call in calls} >= {"paths", "descriptors"}


def test_an_interceptor_denies() -> None:
    def no_passwords(call: OSCall) -> Deny | None:
        path = call.arguments.get("path", b"")
        return Deny(errno.EACCES, "not this file") if path == b"/etc/passwd" else None

    with proxybox.Sandbox(interceptors=[no_passwords]) as box:
        result = box.run("open('/etc/passwd')")
    assert result.error is not None
    assert result.error.message == "[Errno 13] Permission denied: '/etc/passwd'"
    assert ("not this file", 1) in [(denial.reason, count) for denial, count in result.denials.items()]


def test_an_interceptor_denies_and_the_policy_ends_the_box() -> None:
    with proxybox.Sandbox(
        interceptors=[lambda call: Deny(errno.EPERM, "no folders") if call.name == "mkdir" else None], on_denied="end"
    ) as box:
        result = box.run("print('before', flush=True); import os; os.mkdir('x')")
    assert (result.status, result.stdout) == ("denied", "before\n")
    assert "no folders" in result.why


def test_an_interceptor_answers() -> None:
    calls: list[OSCall] = []

    def other_parent(call: OSCall) -> Answer | None:
        if call.name == "getppid":
            return Answer(777)
        if call.name == "getcwd":
            return Answer(7, writes=((call.arguments["buf"], b"/other\0"),))
        return None

    with proxybox.Sandbox(interceptors=[other_parent], audit=calls.append) as box:
        result = box.run("import os; print(os.getppid(), os.getcwd())")
    assert result.stdout == "777 /other\n", result.stderr
    assert [call.decision for call in calls if call.name == "getppid"] == ["answered"]


def test_the_first_verdict_counts() -> None:
    seen: list[str] = []

    def first(call: OSCall) -> Answer | None:
        return Answer(1) if call.name == "getppid" else None

    def second(call: OSCall) -> None:
        seen.append(call.name)

    with proxybox.Sandbox(interceptors=[first, second]) as box:
        assert box.run("import os; print(os.getppid())").stdout == "1\n"
    assert "getppid" not in seen
    assert len(seen) > 50


def test_an_exception_of_an_interceptor_is_the_callers() -> None:
    def fail(call: OSCall) -> None:
        if call.name == "getppid":
            raise LookupError("of the caller")

    with proxybox.Sandbox(interceptors=[fail]) as box:
        with pytest.raises(LookupError, match="of the caller"):
            box.run("import os; os.getppid()")
        assert box.run("print(1)").stdout == "1\n"


def test_a_verdict_that_is_none(recwarn: Any) -> None:
    with proxybox.Sandbox(interceptors=[lambda call: True]) as box, pytest.raises(TypeError, match="interceptor"):  # type: ignore[list-item,return-value]
        box.run("pass")


def test_waits_are_told_when_they_end() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox(audit=calls.append) as box:
        assert box.run("import time; time.sleep(0.1); input()", stdin=lambda size: "x\n").ok
    slept = [call for call in calls if call.name in ("clock_nanosleep", "nanosleep", "select", "pselect6")]
    assert slept
    assert max(call.duration_ns for call in slept) >= 50_000_000  # by another clock than that of the program


def test_records_of_threads() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox(audit=calls.append) as box:
        box.run("import threading, os; t = threading.Thread(target=os.getppid); t.start(); t.join(); os.getppid()")
    threads = [call.thread for call in calls if call.name == "getppid"]
    assert len(threads) == 2
    assert threads[0] != threads[1]
