"""Cgroups: on a tree of plain files (few hosts delegate one), and, where the host has cgroup v2, on the real one."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxybox
from proxybox import Sandbox, Status
from proxybox.controller.process import reaper
from proxybox.controller.process.priority import WEIGHT
from proxybox.controller.seal import cgroups
from proxybox.controller.seal.cgroups import Cgroup, Unavailable, parent_for_boxes
from proxybox.controller.seal.layers import is_missing
from proxybox.controller.warm import zygotepool

#: The memory that the kernel uses for a box with five threads.
OF_THE_KERNEL = cgroups._KERNELS + 5 * cgroups._OF_A_THREAD


class Host:
    """A cgroup v2 hierarchy of plain files: written values can be read again, and nothing is enforced."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.own = self.root / "user.slice" / "shell.scope"
        self.own.mkdir(parents=True)
        self.enable(self.root, "")
        self.enable(self.own.parent, "cpu memory pids")
        self.enable(self.own, "")
        self.membership = folder / "self"
        self.membership.write_text("12:pids:/x\n0::/user.slice/shell.scope\n")
        self.mounts = folder / "mountinfo"
        self.mounts.write_text(
            f"20 1 0:20 / /proc rw - proc proc rw\n30 1 0:30 / {self.root} rw,nosuid - cgroup2 cgroup2 rw\n"
        )

    @staticmethod
    def enable(cgroup: Path, controllers: str) -> None:
        (cgroup / "cgroup.subtree_control").write_text(controllers + "\n")
        (cgroup / "cgroup.procs").touch()

    def boxes(self) -> list[Path]:
        return sorted(self.root.glob("**/proxybox-*"))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    fake = Host(tmp_path)
    monkeypatch.setattr(cgroups, "_SELF", str(fake.membership))
    monkeypatch.setattr(cgroups, "_MOUNTS", str(fake.mounts))
    cgroups._find.cache_clear()
    yield fake
    cgroups._find.cache_clear()


def test_boxes_stand_beside_the_callers_own_cgroup(host: Host) -> None:
    assert parent_for_boxes() == str(host.own.parent)


def test_boxes_stand_below_a_cgroup_that_is_prepared(host: Host) -> None:
    host.enable(host.own, "memory pids io")
    assert parent_for_boxes() == str(host.own)


@pytest.mark.parametrize("controllers", ["", "memory", "pids cpu"])
def test_without_both_controllers_there_is_none(host: Host, controllers: str) -> None:
    host.enable(host.own.parent, controllers)
    with pytest.raises(Unavailable, match="delegated"):
        parent_for_boxes()


def test_without_cgroup_v2_there_is_none(host: Host) -> None:
    host.mounts.write_text("20 1 0:20 / /proc rw - proc proc rw\n")
    with pytest.raises(Unavailable, match="not mounted"):
        parent_for_boxes()


def test_without_proc_there_is_none(host: Host) -> None:
    host.membership.unlink()
    with pytest.raises(Unavailable, match="No such file"):
        parent_for_boxes()


def test_a_box_is_moved_in_before_it_runs(host: Host) -> None:
    result = proxybox.run("print(1)", limits={"memory": "100M", "threads": 5}, check=True)
    assert not is_missing(result.layers["cgroup"])
    (box,) = host.boxes()
    assert int((box / "memory.max").read_text()) == (100 << 20) + OF_THE_KERNEL
    assert (box / "memory.swap.max").read_text() == "0"
    assert (box / "memory.oom.group").read_text() == "1"
    assert int((box / "pids.max").read_text()) == 5 + cgroups._TASKS
    assert (box / "cpu.weight").read_text() == str(WEIGHT)
    assert (box / "cgroup.procs").read_text().isdigit()
    assert (box / "cgroup.kill").read_text() == "1"  # at the end


def test_a_copy_may_copy_all_that_it_shares_with_its_template(host: Host) -> None:
    """The kernel charges a copy for shared pages that it writes. limits.memory does not count them, so the cgroup's
    limit is higher.
    """
    with Sandbox(warm=True, limits={"memory": "100M", "threads": 5}) as box:
        for _ in range(50):  # until one is a copy
            box.run("print(1)", check=True)
            most = [int(path.read_text()) for path in host.root.glob("**/proxybox-*/memory.max")]
            shared = {size - (100 << 20) - OF_THE_KERNEL for size in most}
            if len(shared) > 1:
                break
    assert min(shared) == 0, "what has started by itself shares nothing"
    assert 4 << 20 < max(shared) < 64 << 20
    zygotepool.close()
    reaper.settle()


def test_without_a_limit_of_memory_there_is_none_in_the_cgroup(host: Host) -> None:
    proxybox.run("print(1)", limits={"memory": None}, check=True)
    (box,) = host.boxes()
    assert not (box / "memory.max").exists()


def test_without_the_cpu_controller_there_is_no_weight(host: Host) -> None:
    host.enable(host.own.parent, "memory pids")
    proxybox.run("print(1)", check=True)
    (box,) = host.boxes()
    assert not (box / "cpu.weight").exists()


def test_killed_by_the_kernel_for_its_memory(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    create = Cgroup.create

    def create_and_tell(parent: str, memory: int | None, threads: int, weight: int) -> Cgroup:
        cgroup = create(parent, memory, threads, weight)
        Path(cgroup.path, "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 1\n")
        return cgroup

    monkeypatch.setattr(Cgroup, "create", create_and_tell)
    result = proxybox.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert result.status == Status.MEMORY_LIMIT


def test_a_cgroup_that_cannot_be_used_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Cgroup, pid: int) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Cgroup, "add", refuse)
    assert "Permission denied" in proxybox.run("print(1)", check=True).layers["cgroup"]
    with pytest.raises(proxybox.SandboxStartError, match="cgroup: the delegated cgroup cannot be used"):
        proxybox.run("print(1)", require_layers=["cgroup"])


def test_what_a_killed_controller_left_is_removed(host: Host) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    stale, alive = (host.own.parent / f"proxybox-{pid}-0" for pid in (ended.pid, os.getpid()))
    stale.mkdir()
    alive.mkdir()
    parent_for_boxes()
    assert host.boxes() == [alive]


def real_root() -> Path:
    root = cgroups._root()
    if root is None or not os.access(os.path.join(root, "cgroup.procs"), os.W_OK):
        pytest.skip("no cgroup v2 hierarchy that this user may write to")
    return Path(root)


def test_the_real_filesystem_takes_a_process_and_is_left_empty() -> None:
    root = real_root()
    path = root / f"proxybox-{os.getpid()}-real"
    path.mkdir()
    cgroup = Cgroup(str(path))
    with subprocess.Popen(["sleep", "60"]) as child:
        cgroup.add(child.pid)
        assert str(child.pid) in (path / "cgroup.procs").read_text().split()
        assert not cgroup.ran_out_of_memory()
        cgroup._write("cgroup.kill", 1)
        assert child.wait() == -9
    cgroup.close()
    assert not path.exists()


def test_the_real_filesystem_without_controllers_leaves_nothing() -> None:
    root = real_root()
    if {"memory", "pids"} <= set((root / "cgroup.subtree_control").read_text().split()):
        pytest.skip("this host has the controllers")
    with pytest.raises(OSError):
        Cgroup.create(str(root), 1 << 20, 1, 51)
    assert not list(root.glob("proxybox-*"))
