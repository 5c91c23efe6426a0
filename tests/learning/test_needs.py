"""Proposals for refused calls, from records and the tests' own host, without a box."""

import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxybox.controller.audit import Denial, OSCall
from proxybox.learning.hostfiles import Host, automounts, shown_by
from proxybox.learning.needs import Needs, NeedsSearch
from proxybox.learning.observing import Observed
from proxybox.learning.proposals import Proposal, with_mount
from proxybox.policies import Mount, Policy, evolve, preset
from proxybox.result import Result
from tests.learning.records import call, ended, failed, opened

STRICT = preset("strict")
FAILED = failed("FileNotFoundError", "")
WRITE = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
APPEND = os.O_CREAT | os.O_WRONLY | os.O_APPEND


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with a home, a folder of a program, and data."""
    for folder in ("home/.config", "home/work/program", "home/work/shared", "srv/texts"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "srv" / "data.csv").write_text("12345")
    (tmp_path / "srv" / "texts" / "a.txt").write_text("a")
    (tmp_path / "home" / ".config" / "app.json").write_text("{}")
    (tmp_path / "home" / "work" / "shared" / "rates.csv").write_text("1")
    (tmp_path / "home" / "work" / "program" / ".env").write_text("A=1")
    return Host(home=str(tmp_path / "home"), folder=str(tmp_path / "home" / "work" / "program"))


def needs(host: Host, *calls: OSCall, policy: Policy = STRICT, result: Result = FAILED, **options: Any) -> Needs:
    return NeedsSearch(policy=policy, host=host, **options).needs(result, Observed.of(calls))


def mounts(host: Host, *calls: OSCall, policy: Policy = STRICT, **options: Any) -> list[tuple[str, Any, str]]:
    found = needs(host, *calls, policy=policy, **options).proposals
    return [(each.mount.target, each.mount.source, each.mount.mode) for each in found if each.mount is not None]


def test_a_file_of_the_host_is_that_file_alone(host: Host, tmp_path: Path) -> None:
    path = f"{tmp_path}/srv/data.csv"
    assert mounts(host, opened(path, error="ENOENT")) == [(path, path, "ro")]


def test_what_the_host_has_not_is_not_proposed(host: Host, tmp_path: Path) -> None:
    assert mounts(host, opened(f"{tmp_path}/srv/nothing", error="ENOENT"), opened("/no/where", WRITE, "ENOENT")) == []


def test_a_folder_is_proposed_when_it_is_listed(host: Host, tmp_path: Path) -> None:
    path = f"{tmp_path}/srv/texts"
    assert mounts(host, opened(path, os.O_DIRECTORY, "ENOENT")) == [(path, path, "ro")]
    assert mounts(host, call("stat", path, error="ENOENT")) == [(path, {}, "overlay")]


def test_an_empty_folder_is_not_asked_for_where_a_file_makes_it(host: Host, tmp_path: Path) -> None:
    file = f"{tmp_path}/srv/texts/a.txt"
    found = mounts(host, call("stat", f"{tmp_path}/srv/texts", error="ENOENT"), opened(file, error="ENOENT"))
    assert found == [(file, file, "ro")]


def test_a_stand_in_that_is_listed_becomes_the_folder(host: Host, tmp_path: Path) -> None:
    path = f"{tmp_path}/srv/texts"
    policy = with_mount(STRICT, Mount(path, {}, mode="overlay"))
    assert mounts(host, opened(path, os.O_DIRECTORY), policy=policy) == [(path, path, "ro")]
    written = opened(f"{path}/new.txt", WRITE)
    assert mounts(host, opened(path, os.O_DIRECTORY), written, policy=policy) == [(path, path, "overlay")]


def test_a_folder_on_the_way_to_a_file_that_is_listed_is_proposed(host: Host, tmp_path: Path) -> None:
    path = f"{tmp_path}/srv/texts"
    policy = with_mount(STRICT, Mount(f"{path}/a.txt", f"{path}/a.txt"))
    assert mounts(host, opened(path, os.O_DIRECTORY), policy=policy) == [(path, path, "ro")]


def test_the_home_of_the_box_stands_for_that_of_the_user(host: Host, tmp_path: Path) -> None:
    path = "/home/user/.config/app.json"
    assert mounts(host, opened(path, error="ENOENT")) == [(path, f"{tmp_path}/home/.config/app.json", "ro")]


def test_what_stands_beside_the_program_s_folder(host: Host, tmp_path: Path) -> None:
    """`../shared/rates.csv` is /shared/rates.csv in the box."""
    found = mounts(host, opened("/shared/rates.csv", error="ENOENT"))
    assert found == [("/shared/rates.csv", f"{tmp_path}/home/work/shared/rates.csv", "ro")]


def test_a_hidden_file_of_the_program_s_folder_is_a_secret(host: Host) -> None:
    [found] = needs(host, opened("/box/.env", error="ENOENT")).proposals
    assert found.secret.startswith(".env begins with a dot")


@pytest.mark.parametrize(("writes", "mode"), [("memory", "overlay"), ("overlay", "overlay"), ("rw", "rw")])
def test_where_a_new_file_is_written(writes: str, mode: str, host: Host, tmp_path: Path) -> None:
    path = f"{tmp_path}/srv/texts"
    source = {} if writes == "memory" else path
    assert mounts(host, opened(f"{path}/new", WRITE, "ENOENT"), writes=writes) == [(path, source, mode)]


def test_a_file_that_is_changed_needs_its_content(host: Host, tmp_path: Path) -> None:
    file, folder = f"{tmp_path}/srv/texts/a.txt", f"{tmp_path}/srv/texts"
    assert mounts(host, opened(file, APPEND, "ENOENT")) == [(folder, folder, "overlay")]
    assert mounts(host, opened(file, APPEND, "ENOENT"), writes="rw") == [(file, file, "rw")]
    assert mounts(host, opened(file, WRITE, "ENOENT")) == [(folder, {}, "overlay")]


@pytest.mark.parametrize("name", ["unlink", "rmdir", "rename"])
def test_what_is_removed_or_moved_needs_its_folder(name: str, host: Host, tmp_path: Path) -> None:
    file, folder = f"{tmp_path}/srv/texts/a.txt", f"{tmp_path}/srv/texts"
    paths = (file, f"{folder}/b.txt") if name == "rename" else (file,)
    assert mounts(host, call(name, *paths, error="ENOENT")) == [(folder, folder, "overlay")]
    assert mounts(host, call("unlink", f"{folder}/nothing", error="ENOENT")) == []


@pytest.mark.parametrize("record", [opened("/data/a.txt", WRITE, "EROFS"), call("mkdir", "/data/sub", error="EROFS")])
def test_a_read_only_mount_becomes_an_overlay(record: OSCall, host: Host, tmp_path: Path) -> None:
    source = f"{tmp_path}/srv/texts"
    policy = evolve(STRICT, filesystem=[Mount("/data", source)])
    assert mounts(host, record, policy=policy) == [("/data", source, "overlay")]


def test_a_box_that_cannot_be_written(host: Host) -> None:
    policy = evolve(STRICT, filesystem={"box": "ro"})
    [found] = needs(host, opened("/box/x", WRITE, "EROFS"), policy=policy).proposals
    assert (found.key, found.value) == ("filesystem.box", "overlay")


def test_dotfiles_in_a_folder_of_the_host(host: Host) -> None:
    policy = evolve(STRICT, filesystem={"box": "overlay"})
    [found] = needs(host, opened("/box/.cache", WRITE, "EACCES"), policy=policy).proposals
    assert (found.key, found.value, bool(found.secret)) == ("filesystem.hide_dotfiles", False, True)


def test_a_folder_that_is_made_in_the_root(host: Host) -> None:
    assert mounts(host, call("mkdir", "/data", error="EACCES")) == [("/data", {}, "overlay")]
    assert mounts(host, opened("/data", WRITE, "EACCES")) == []


@pytest.mark.parametrize("path", ["/proc/1/environ", "/dev/sda", "/sys/kernel", "/usr/lib/x", "/etc/x", "/tmp"])
def test_the_box_s_own_places_are_left_alone(path: str, host: Host) -> None:
    assert mounts(host, opened(path, WRITE, "EACCES"), call("mkdir", path, error="EROFS")) == []


def test_what_was_answered_is_not_proposed_again(host: Host, tmp_path: Path) -> None:
    record = opened(f"{tmp_path}/srv/data.csv", error="ENOENT")
    [found] = needs(host, record).proposals
    assert needs(host, record, answered={found.name}).proposals == ()


def test_no_other_machine_is_asked_for_a_name(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an automounter a look at /net/NAME connects to the machine NAME: a program could send data to any NAME."""
    asked: list[str] = []
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: asked.append(path) or exists(path))
    there = attrs.evolve(host, unseen=(f"{tmp_path}/srv",))
    assert mounts(there, opened(f"{tmp_path}/srv/texts/../data.csv", error="ENOENT")) == []
    assert [path for path in asked if path.startswith(f"{tmp_path}/srv")] == []
    assert mounts(host, opened(f"{tmp_path}/srv/data.csv", error="ENOENT")) != []


def test_where_the_host_mounts_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text("/dev/sda1 / ext4 rw 0 0\n/etc/auto.net /net\\040work autofs rw 0 0\n\n")
    real = open
    monkeypatch.setattr("builtins.open", lambda _, **options: real(table, **options))
    assert automounts() == ("/net work",)


def test_whether_it_was_needed_is_told(host: Host, tmp_path: Path) -> None:
    record = opened(f"{tmp_path}/srv/data.csv", error="ENOENT")
    assert [each.needed for each in needs(host, record).proposals] == [True]
    assert [each.needed for each in needs(host, record, result=ended()).proposals] == [False]


def test_names_that_are_no_text_are_told(host: Host) -> None:
    record = call("openat", error="ENOENT", path=b"/srv/\xff", flags=0)
    record.paths = (b"/srv/\xff",)
    assert needs(host, record).notes == ("/srv/\\xff: a name that is not UTF-8 cannot be in a policy",)


# --- limits ---------------------------------------------------------------------------------------


def limit(result: Result, *calls: OSCall, policy: Policy = STRICT) -> list[tuple[str, Any]]:
    found = NeedsSearch(policy=policy, host=Host(home="/nowhere")).needs(result, Observed.of(calls)).proposals
    return [(each.key, each.value) for each in found]


CLONE = Denial("clone", "EAGAIN", "limits.threads")


@pytest.mark.parametrize(
    ("result", "calls", "key", "value"),
    [
        (ended("time_limit", why="limits.cpu_time"), (), "limits.cpu_time", 5),
        (ended("time_limit", why="limits.wall_time"), (), "limits.wall_time", 10),
        (ended("memory_limit", why="limits.memory"), (), "limits.memory", 512 << 20),
        (ended("call_limit", why="limits.calls"), (), "limits.calls", 1_000_000),
        (ended("disk_limit", why="limits.disk or limits.files"), (), "limits.disk", 16 << 20),
        (ended("error"), (call("write", error="ENOSPC", fd=3),), "limits.disk", 16 << 20),
        (ended("error"), (opened("/tmp/x", WRITE, "ENOSPC"),), "limits.files", 2_000),
        (ended("error"), (opened("/tmp/x", 0, "EMFILE"),), "limits.open_files", 4_096),
        (ended("output_limit", stdout_bytes=b"x" * 70_000), (), "output.limit", 256 << 10),
        (ended("output_limit", stdout_bytes=b"\n" * 2_000), (), "output.lines", 10_000),
        (ended("ok", truncated=True), (), "output.limit", 256 << 10),
        (ended("error", denials={CLONE: 3}), (), "limits.threads", 2),
        (ended("time_limit", why="limits.wall_time", denials={CLONE: 1}), (), "limits.threads", 2),
    ],
)
def test_a_limit_that_was_reached(result: Result, calls: tuple[OSCall, ...], key: str, value: int) -> None:
    assert limit(result, *calls) == [(key, value)]


def test_a_limit_that_did_not_matter_is_not_proposed() -> None:
    assert limit(ended(denials={CLONE: 1}), opened("/x", 0, "EMFILE")) == []


def test_no_limit_is_raised_without_end_or_removed() -> None:
    policy = evolve(STRICT, limits={"memory": "4G", "cpu_time": None})
    assert limit(ended("memory_limit"), policy=policy) == []
    assert limit(ended("time_limit", why="limits.cpu_time"), policy=policy) == []


def test_a_program_that_waits_by_the_clock_is_offered_real_time_first() -> None:
    readings = [call("clock_gettime", family="clock")] * 6_000
    result = ended("time_limit", why="limits.cpu_time")
    assert limit(result, *readings) == [("time.kind", "real")]
    assert limit(result, *readings, policy=evolve(STRICT, time={"kind": "real"})) == [("limits.cpu_time", 5)]
    search = NeedsSearch(policy=STRICT, host=Host(home="/nowhere"), answered={"time.kind real"})
    assert [each.key for each in search.needs(result, Observed.of(readings)).proposals] == ["limits.cpu_time"]


# --- hints ----------------------------------------------------------------------------------------


def test_claims_are_told_as_claims(host: Host) -> None:
    told = needs(host, result=failed("KeyError", "'TOKEN'", 'File "/usr/lib/pypy3.11/os.py", line 1')).notes
    assert told[0].startswith("it says that it lacks the environment variable TOKEN, which no OS call shows")
    assert needs(host, result=failed("KeyError", "'TOKEN'", '  File "<frozen os>", line 1')).notes == told
    assert needs(host, result=failed("KeyError", "'TOKEN'", 'File "/box/main.py", line 1')).notes == ()
    told = needs(host, result=failed("ModuleNotFoundError", "No module named 'numpy'")).notes
    assert "if it is right about its exception: numpy is not part of this box" in told[0]


def test_refusals_for_ever_are_told(host: Host) -> None:
    denials = {Denial("socket", "EPERM", "network: none"): 2, CLONE: 1}
    assert needs(host, result=ended("error", denials=denials)).notes == ("socket stays refused (network: none), ×2",)


# --- what a folder has ----------------------------------------------------------------------------


def test_a_folder_is_looked_through(tmp_path: Path) -> None:
    for name in ("a.txt", "sub/b.txt", ".hidden", "sub/server.key", "sub/secret_plan.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("123")
    seen = shown_by(str(tmp_path))
    assert (seen.files, seen.size, seen.hidden, seen.whole) == (4, 12, 1, True)
    assert sorted(seen.secrets) == ["sub/secret_plan.txt", "sub/server.key"]


def test_a_folder_that_is_too_large_is_asked_alone(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxybox.learning.hostfiles.MOST_ENTRIES", 0)
    [found] = needs(host, opened(f"{tmp_path}/srv/texts", os.O_DIRECTORY, "ENOENT")).proposals
    assert found.is_asked_alone
    assert found.secret == "it is too large to be looked through"


@pytest.mark.parametrize(
    ("path", "is_secret"),
    [
        ("/home/me/.ssh/id_rsa", True), ("/srv/x/.git/config", True), ("/etc/shadow", True), ("/srv/server.pem", True),
        ("/srv/My-Password.txt", True), ("/etc/ssl/private/x.crt", True), ("/etc/ssh/ssh_host_rsa_key", True),
        ("/srv/aws_credentials", True), ("/srv/data.csv", False), ("/srv/keyboard.txt", False),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret(path: str, is_secret: bool) -> None:
    assert bool(Host(home="/home/me").why_secret(path)) is is_secret


def test_what_changes_the_host_is_asked_alone(tmp_path: Path) -> None:
    assert Proposal(mount=Mount("/x", str(tmp_path), mode="rw")).is_asked_alone
    assert not Proposal(mount=Mount("/x", str(tmp_path))).is_asked_alone
