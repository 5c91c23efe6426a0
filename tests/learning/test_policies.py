"""Learned policies: merged, made wider, written as TOML, and without what no run has used."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from proxybox.learning.merging import is_temporary, merged, pattern_of, wider
from proxybox.learning.proposals import Proposal, with_mount
from proxybox.learning.usage import unused
from proxybox.learning.writing import comment, to_commented_toml
from proxybox.policies import PRESETS, Mount, Policy, PolicyError, evolve, from_toml, preset
from proxybox.result import Result, Status
from tests.learning.records import call, ended, opened

STRICT = preset("strict")


# --- merging --------------------------------------------------------------------------------------


def test_the_looser_limit_counts() -> None:
    first = evolve(STRICT, limits={"memory": "1G", "calls": None}, output={"lines": 10})
    both = merged(first, evolve(STRICT, limits={"cpu_time": 60, "input_wait": "auto"}))
    assert both.limits.input_wait == "auto", "the looser word, as the declaration orders them"
    assert (both.limits.memory, both.limits.calls, both.limits.cpu_time) == (1 << 30, None, 60)
    assert both.output.lines == 2_000


def test_the_mounts_of_both(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    first = evolve(STRICT, filesystem=[Mount(f"{tmp_path}/a", f"{tmp_path}/a")])
    second = evolve(STRICT, filesystem=[Mount("/x", {}, mode="overlay")])
    assert len(merged(first, second).filesystem.mounts) == 2
    folder = evolve(STRICT, filesystem=[Mount(str(tmp_path), str(tmp_path))])
    for pair in ((first, folder), (folder, first)):
        assert merged(*pair).filesystem.mounts == folder.filesystem.mounts


def test_the_wider_mode_counts(tmp_path: Path) -> None:
    first = evolve(STRICT, filesystem=[Mount("/x", str(tmp_path))])
    second = evolve(STRICT, filesystem=[Mount("/x", str(tmp_path), mode="overlay")])
    for pair in ((first, second), (second, first)):
        assert merged(*pair) == second


def test_where_two_policies_disagree_the_first_counts(tmp_path: Path) -> None:
    first = evolve(STRICT, filesystem=[Mount("/x", {"a": "1"})])
    second = evolve(STRICT, filesystem=[Mount("/x", str(tmp_path))])
    assert merged(first, second) == first


def test_what_shows_more_counts() -> None:
    second = evolve(STRICT, filesystem={"box": "overlay", "hide_dotfiles": False}, time={"kind": "real"})
    both = merged(STRICT, second)
    assert (both.filesystem.box, both.filesystem.hide_dotfiles, both.time.kind) == ("overlay", False, "real")


def test_merging_with_itself_changes_nothing() -> None:
    for name in PRESETS:
        assert merged(preset(name), preset(name)) == preset(name)


# --- wider ----------------------------------------------------------------------------------------


def files_in(folder: Path, *names: str) -> list[Mount]:
    for name in names:
        (folder / name).write_text("")
    return [Mount(f"{folder}/{name}", f"{folder}/{name}") for name in names]


def test_siblings_become_a_folder(tmp_path: Path) -> None:
    files = files_in(tmp_path, "a", "b", "c")
    assert [each.mount for each in wider(files)] == [Mount(str(tmp_path), str(tmp_path))]
    assert list(wider(files[:2])) == []


def test_temporary_names_become_a_pattern(tmp_path: Path) -> None:
    files = files_in(tmp_path, "job-5f3a9c21.csv", "job-2026-11-28.csv", "[1]12345", "a", "b")
    (found,) = wider(files)
    assert found.mount == Mount(str(tmp_path), str(tmp_path), names=["[[]1]*", "job-*.csv"])
    assert found.files == tuple(files[:3])
    (found,) = wider([*files, *files_in(tmp_path, "c")])
    assert (found.mount.names, len(found.files)) == (None, 6)


def test_a_name_of_which_nothing_stays_becomes_its_folder(tmp_path: Path) -> None:
    assert [each.mount.names for each in wider(files_in(tmp_path, "5f3a9c21", "job-5f3a9c21.csv"))] == [None]


@pytest.mark.parametrize(
    "names",
    [
        ["2026-11-282026-11-29"],
        ["[" * 90 + "12345678"],
        [f"{letter * count}-12345678" for letter in "abcdefghijklm" for count in range(1, 6)],
    ],
    ids=["two dates and nothing else", "a long pattern", "many patterns"],
)
def test_names_without_a_pattern_that_a_mount_may_have_become_their_folder(names: list[str], tmp_path: Path) -> None:
    """A program chooses the names of its files: they must neither stop the learning, nor hide a folder in a pattern."""
    assert [each.mount.names for each in wider(files_in(tmp_path, *names))] == [None]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("tmpab12_9xz", "tmp*"),
        ("run-2026-11-28.log", "run-*.log"),
        ("job-5f3a9c21.csv", "job-*.csv"),
        ("a.csv", "a.csv"),
        ("*-12345?", "[*]-*[?]"),
    ],
)
def test_patterns_of_temporary_names(name: str, pattern: str) -> None:
    assert pattern_of(name) == pattern
    assert is_temporary(name) is (pattern != name)


def test_merged_mounts_show_the_names_of_both(tmp_path: Path) -> None:
    def showing(*names: str) -> Policy:
        return evolve(STRICT, filesystem=[Mount("/x", str(tmp_path), names=names or None)])

    assert merged(showing("a*"), showing("b", "a*")) == showing("a*", "b")
    assert merged(showing("a*"), showing()) == merged(showing(), showing("a*")) == showing()


def test_a_pattern_covers_the_files_that_match_it(tmp_path: Path) -> None:
    kept, other = files_in(tmp_path, "job-12345.csv", "other.csv")
    policy = evolve(STRICT, filesystem=[kept, other])
    pattern = Mount(str(tmp_path), str(tmp_path), names=["job-*.csv"])
    assert with_mount(policy, pattern).filesystem.mounts == (pattern, other)


def test_a_mount_stands_before_those_in_it(tmp_path: Path) -> None:
    policy = evolve(STRICT, filesystem=[Mount("/data/sub", {"a": "1"})])
    found = with_mount(policy, Mount("/data", str(tmp_path))).filesystem.mounts
    assert [mount.target for mount in found] == ["/data", "/data/sub"]


# --- TOML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_one_line(name: str) -> None:
    assert to_commented_toml(preset(name)) == f'extends = "{name}"\n'


@pytest.mark.parametrize(
    "fields",
    [
        {"time": "real"},
        {"time": {"kind": "frozen", "at": "2026-01-01T12:00:00Z"}},
        {"filesystem": {"box": "rw", "hide_dotfiles": False, "mounts": [Mount("/a", {}, mode="overlay")]}},
        {"limits": {"memory": None, "threads": 4}, "randomness": 7, "preload": ["json"]},
        {"environment": {"variables": {"A-B": 'x"\n', "C": "\u2028"}}},
        {"filesystem": [Mount("/a", "/srv", names=["*.csv", "[!a]?"])]},
        {"filesystem": [Mount("/a", b"text"), Mount("/b", {"x": {"y": "z"}}), Mount("/c", size="1M")]},
    ],
)
@pytest.mark.parametrize("base", ["strict", "codejail"])
def test_what_is_written_says_the_same(base: str, fields: dict[str, Any]) -> None:
    policy = evolve(preset(base), **fields)
    assert from_toml(to_commented_toml(policy)) == policy


def test_each_line_says_what_wanted_it() -> None:
    mount = Mount("/data", {}, mode="overlay")
    policy = evolve(STRICT, limits={"threads": 2}, filesystem=[mount])
    lines = [
        Proposal(mount=mount, calls={"openat": 3, "mkdir": 1}, lets_in=("nothing of the host",)),
        Proposal(key="limits.threads", value=2, calls={"clone": 1}, why="a thread was refused"),
    ]
    assert to_commented_toml(policy, lines, ["Learned."]) == (
        '# Learned.\nextends = "strict"\n\n[[filesystem.mounts]]\n'
        "# wanted by openat ×3, mkdir ×1\n# lets in nothing of the host\n"
        'target = "/data"\nsource = {}\nmode = "overlay"\n\n[limits]\n'
        "# wanted by clone ×1: a thread was refused\nthreads = 2\n"
    )


@pytest.mark.parametrize(
    "evil", ["a\nb = 1", "a\r\nb", "a\x85b", "a\u2028b", "a\x0bb", "\x1b[2J", "\udc80", "\u202e", "\0"]
)
def test_a_comment_stays_a_comment(evil: str) -> None:
    line = comment(evil + "x" * 1_000)
    assert len(line) < 300
    assert line.isprintable()
    assert tomllib.loads(line) == {}


def test_what_a_file_cannot_hold_is_refused() -> None:
    with pytest.raises(PolicyError, match="function"):
        to_commented_toml(evolve(STRICT, filesystem=[Mount("/now", lambda: b"")]))


# --- what was never used --------------------------------------------------------------------------

USED = evolve(
    STRICT,
    limits={"threads": 4, "memory": "1G"},
    filesystem=[Mount("/a", "/srv/a"), Mount("/b", "/srv/b", mode="rw"), Mount("/b/c", {"x": "1"})],
)


def keys(policy: Policy, *calls: Any, results: tuple[Result, ...] = ()) -> dict[str, Any]:
    return {each.key: each.value for each in unused(policy, calls, results)}


def test_a_mount_that_no_run_reached() -> None:
    found = keys(USED, opened("/a/x"), call("clone", family="process"))
    assert found == {"filesystem.mounts[1]": None, "filesystem.mounts[2]": None}
    assert keys(USED, opened("/b/x", os.O_CREAT | os.O_WRONLY), call("stat", "/b/c/x"), opened("/a")) == {
        "limits.threads": 0
    }


def test_a_mount_that_no_run_wrote() -> None:
    assert keys(USED, opened("/b/x"))["filesystem.mounts[1].mode"] == "ro"


def test_what_was_not_found_was_not_used() -> None:
    assert "filesystem.mounts[0]" in keys(USED, opened("/a/nothing", error="ENOENT"))


def test_the_innermost_mount_was_used() -> None:
    found = keys(USED, opened("/b/c/x"))
    assert "filesystem.mounts[2]" not in found
    assert "filesystem.mounts[1]" in found


def test_calls_without_paths_count_by_what_was_written() -> None:
    record = opened("/a/x")
    record.paths = ()
    assert "filesystem.mounts[0]" not in keys(USED, record)


def test_limits_that_results_are_far_from() -> None:
    policy = evolve(STRICT, limits={"cpu_time": 60, "disk": "1G", "calls": None})
    usage = Result(status=Status.OK).usage
    usage = type(usage)(wall=1.0, cpu=3.0, calls=1_000, disk=1 << 20)
    found = keys(policy, results=(ended(usage=usage),))
    assert found == {"limits.cpu_time": 10, "limits.disk": 8 << 20, "limits.calls": 200_000}
    assert keys(policy) == {}


def test_a_folder_that_no_run_wrote() -> None:
    policy = evolve(STRICT, filesystem={"box": "rw"})
    assert keys(policy) == {"filesystem.box": "ro"}
    assert keys(policy, opened("/box/x", os.O_CREAT | os.O_WRONLY)) == {}
