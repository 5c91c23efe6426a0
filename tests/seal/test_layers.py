"""The text for each layer, depending on kernel and launcher. tests/hostile/test_layers.py tests what layers stop."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

import proxybox
from proxybox.controller import header
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.header import LAUNCH_REPORT, REPORT_MAGIC
from proxybox.controller.seal import layers
from proxybox.controller.seal.layers import LaunchReport, is_missing, look_from_outside, missing, require, stands
from proxybox.policies.models import LAYERS

NOT_ASKED = -1
NOTHING = LaunchReport(0, 0, 0, NOT_ASKED, NOT_ASKED, 0, NOT_ASKED, NOT_ASKED)


def told(report: LaunchReport, pid: int = os.getpid(), root: int = 0, landlock: int | None = None) -> dict[str, str]:
    return {layer.name: layer.text for layer in look_from_outside(pid, report, root, landlock)}


def test_nothing_is_told_of_what_was_not_asked_for() -> None:
    assert set(told(NOTHING)) == {"kernel limits"}  # every box has these without a request


@pytest.mark.parametrize("name", ["kernel limits", "namespaces", "core-scheduling", "same addresses"])
def test_a_refusal_is_told_with_its_reason(name: str) -> None:
    field = {"kernel limits": "limits"}.get(name, name.replace("-", "_").replace(" ", "_"))
    text = told(attrs.evolve(NOTHING, **{field: errno.EPERM}))[name]
    assert is_missing(text)
    assert os.strerror(errno.EPERM) in text


@pytest.mark.parametrize(
    ("step", "call"),
    [
        (header.STEP_USER, "unshare(2) with CLONE_NEWUSER"),
        (header.STEP_UID_MAP, "writing /proc/self/uid_map"),
        (header.STEP_SETGROUPS, "writing /proc/self/setgroups"),
        (header.STEP_GID_MAP, "writing /proc/self/gid_map"),
        (header.STEP_OTHERS, "unshare(2) with CLONE_NEWNS"),
        (9, "step 9"),
    ],
)
def test_the_step_into_namespaces_that_was_refused_is_told(step: int, call: str) -> None:
    text = told(attrs.evolve(NOTHING, namespaces=errno.ENOENT, namespace_step=step))["namespaces"]
    assert call in text
    assert os.strerror(errno.ENOENT) in text


def test_landlock_is_told_by_the_stub() -> None:
    assert not is_missing(told(NOTHING, landlock=0)["landlock"])
    assert is_missing(told(NOTHING, landlock=errno.ENOSYS)["landlock"])


def test_namespaces_that_are_the_hosts_are_missing_whatever_the_launcher_says() -> None:
    text = told(attrs.evolve(NOTHING, namespaces=0))["namespaces"]
    assert is_missing(text)
    assert "shares user, mnt, pid, net, ipc, uts, cgroup" in text


def test_a_root_that_could_not_be_left_is_told() -> None:
    assert "pivot_root" in told(attrs.evolve(NOTHING, namespaces=0), root=errno.EINVAL)["namespaces"]


def test_namespaces_that_cannot_be_looked_at_are_missing() -> None:
    gone = 2**22 + 1  # beyond the largest pid of Linux
    assert is_missing(told(attrs.evolve(NOTHING, namespaces=0), pid=gone)["namespaces"])


def test_a_root_that_is_not_empty_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    look = SimpleNamespace(readlink=lambda path: path, listdir=lambda path: ["etc"], strerror=os.strerror)
    monkeypatch.setattr(layers, "os", look)
    assert "root that is not empty" in told(attrs.evolve(NOTHING, namespaces=0))["namespaces"]


@pytest.mark.parametrize(
    ("state", "there"),
    [
        ("conditional force disabled", True),
        ("conditional disabled", True),
        ("always disabled", True),
        ("not affected", True),
        ("conditional enabled", False),
        ("always enabled", False),
        ("unknown", False),
    ],
)
def test_speculation_is_what_the_kernel_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str, there: bool
) -> None:
    """The kernel may not let a process choose. The words are those of fs/proc/array.c."""
    status = tmp_path / "status"
    status.write_text(
        f"Name:\tx\nSpeculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\t{state}\nCpus:\t1\n"
    )
    monkeypatch.setattr(layers, "open", lambda path, **options: status.open(**options), raising=False)
    for said in (0, errno.EPERM):
        text = told(attrs.evolve(NOTHING, speculation=said))["speculation"]
        assert is_missing(text) is not there
        if there:
            assert state in text


class FakeScheduler:
    """prctl(2) of a kernel with core scheduling, which this kernel may lack."""

    def __init__(self, cookie: int, error: int = 0) -> None:
        self.cookie, self.error, self.calls = cookie, error, []

    def prctl(self, option: int, command: int, pid: int, scope: int, cookie: Any) -> int:
        self.calls.append((option, command, pid, scope))
        cookie._obj.value = self.cookie
        return -1 if self.error else 0


@pytest.mark.parametrize(
    ("cookie", "error", "there"), [(0xC0FFEE, 0, True), (0, 0, False), (0xC0FFEE, errno.ESRCH, False)]
)
def test_core_scheduling_is_what_the_kernel_tells(
    monkeypatch: pytest.MonkeyPatch, cookie: int, error: int, there: bool
) -> None:
    kernel = FakeScheduler(cookie, error)
    monkeypatch.setattr(layers.ctypes, "CDLL", lambda *_, **__: kernel)
    monkeypatch.setattr(layers.ctypes, "get_errno", lambda: error)
    text = told(attrs.evolve(NOTHING, core_scheduling=0), pid=77)["core-scheduling"]
    assert is_missing(text) is not there
    assert kernel.calls == [(62, 0, 77, 0)]


def test_only_words_of_the_launchers_own_are_a_report() -> None:
    good = LAUNCH_REPORT.pack(REPORT_MAGIC, 7, 6, 0, 0, 0, 0, 0, 0)
    assert LaunchReport.unpack(good) == LaunchReport(7, 6, 0, 0, 0, 0, 0, 0)
    for other in (b"", b"capset: Operation not permitted", good[:-1], b"\0" + good[1:]):
        assert LaunchReport.unpack(other) is None


def test_requiring_fails_closed() -> None:
    require([], {})
    require(["landlock"], {"landlock": stands("landlock", "a domain")})
    for seen in ({}, {"landlock": missing("landlock", "no")}, {"namespaces": stands("namespaces", "own")}):
        with pytest.raises(SandboxStartError, match="landlock"):
            require(["landlock"], seen)


def test_a_box_tells_of_every_layer() -> None:
    assert set(LAYERS) <= set(proxybox.run("pass", check=True).layers)


def test_addresses_that_differ_are_told() -> None:
    seeded = proxybox.run("pass", randomness=1, check=True)
    assert "same addresses" in seeded.layers
    assert "same addresses" not in proxybox.run("pass", check=True).layers
