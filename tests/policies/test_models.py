"""The classes of a policy: which values they accept, which they refuse, and the errors."""

import copy
import datetime
import os
import pickle
import time
from pathlib import Path

import pytest

from proxybox.policies import (
    Environment,
    Filesystem,
    Limits,
    Mount,
    Network,
    Output,
    Policy,
    PolicyError,
    ProxyboxError,
    SessionLimits,
    Time,
    parse_mount,
)
from proxybox.policies.models import SECTIONS

MOST_OF_ONE = (128 << 10) - 2  # bytes of a variable's name and text
FULL = {f"v{n}": "x" * (MOST_OF_ONE - 2) for n in range(7)}  # as much as variables may contain, without the last one
FULL["last"] = "x" * ((1 << 20) - 10 * 8 - sum(len(name + text) for name, text in FULL.items()) - len("last"))


def problems_of(build):
    with pytest.raises(PolicyError) as caught:
        build()
    return {problem.key: problem for problem in caught.value.problems}


# --- what is taken --------------------------------------------------------------------------------


def test_the_default_policy():
    policy = Policy()
    assert policy.limits == Limits(
        wall_time=10,
        cpu_time=5,
        memory="512M",
        disk="64M",
        files=10_000,
        open_files=1024,
        threads=16,
        calls=1_000_000,
    )
    assert policy.output == Output(limit="1M", lines=None, on_excess="truncate", escapes="auto")
    assert policy.time == Time.real()
    assert policy.filesystem == Filesystem(box="overlay", hide_dotfiles=True)
    assert policy.network == Network(access="none")
    assert policy.session == SessionLimits(
        wall_time=None, cpu_time=None, calls=None, branches=0, value_size="1M", grace="500ms"
    )
    assert (policy.randomness, policy.on_denied, policy.require_layers) == ("system", "errno", ())
    assert policy.preload == ()


def test_sections_as_dicts_and_short_forms():
    policy = Policy(
        filesystem=[Mount("/data", {"a": "x"}), {"target": "/b"}],
        time="virtual",
        limits={"wall_time": 3},
        session={"wall_time": "1h"},
        network="none",
        environment={"variables": {"A": "1"}},
        require_layers=["landlock"],
        preload=["json"],
    )
    assert [mount.target for mount in policy.filesystem.mounts] == ["/data", "/b"]
    assert policy.time == Time.virtual()
    assert policy.limits == Limits(wall_time=3)
    assert policy.session == SessionLimits(wall_time=3600)
    assert policy.preload == ("json",)
    assert policy.environment.variables == {"A": "1"}
    assert policy.require_layers == ("landlock",)


def test_none_is_no_limit():
    limits = Limits(wall_time=None, memory="none", calls="unlimited")
    assert (limits.wall_time, limits.memory, limits.calls) == (None, None, None)
    session = SessionLimits(wall_time="none", cpu_time="unlimited", calls="none")
    assert session == SessionLimits()


def test_what_a_session_may_use_at_the_most():
    most = SessionLimits(branches=1_000, value_size="64M", grace=60)
    assert (most.branches, most.value_size, most.grace) == (1_000, 64 << 20, 60.0)
    least = SessionLimits(branches=0, value_size=1024, grace=datetime.timedelta(0))
    assert (least.branches, least.value_size, least.grace) == (0, 1024, 0.0)


@pytest.mark.parametrize(("field", "value"), [
    ("warm_up", "x" * ((128 << 10) - 1)), ("environment", {"variables": FULL}),
    ("environment", {"variables": {"A": "x" * (MOST_OF_ONE - 1), "\udcff": "\udcff"}}),
    ("limits", {"memory": "64M", "nursery": "32M"}), ("randomness", (1 << 64) - 1), ("randomness", 0),
    ("environment", {"home": "/" + "a" * 255}), ("environment", {"home": "/" + "a/" * 2046 + "aa"}),
])  # fmt: skip
def test_as_much_as_may_be(field, value):
    Policy(**{field: value})


def test_host_paths(monkeypatch, tmp_path):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    assert Mount("/a", "x/../y").source == f"{tmp_path}/gone/x/../y"
    (tmp_path / "gone").rmdir()
    for source, words in (("x", "no current folder"), ("\ud800", "UTF-8"), ("a\0", "without NUL"), ("", "not empty")):
        with pytest.raises(PolicyError, match=words):
            Mount("/a", source)
    assert Mount("/a", "~/x").source == os.path.expanduser("~/x")
    assert Mount("/a", Path("/x")).source == Mount("/a", "/x/").source == "/x"


def test_preloaded_modules_keep_their_order_and_come_once():
    assert Policy(preload=("xml.dom", "json", "xml.dom", "match", "_é1")).preload == ("xml.dom", "json", "match", "_é1")


def test_every_module_that_cannot_be_one_is_told_with_its_place():
    found = problems_of(lambda: Policy(preload=["json", "a b", "xml", "my-lib"]))
    assert {key: problem.meant for key, problem in found.items()} == {"preload[1]": "", "preload[3]": "my_lib"}
    assert found["preload[1]"].given == "'a b'"


@pytest.mark.parametrize("preload", ["a" * 101, ["a" * 101 + "-b"]])
def test_a_module_s_hint_stays_short(preload):
    assert [problem.meant for problem in problems_of(lambda: Policy(preload=preload)).values()] == [""]


def test_cpu_time_may_exceed_wall_time():
    assert Limits(wall_time=1, cpu_time=5).cpu_time == 5.0


def test_a_policy_cannot_be_changed():
    policy = Policy(environment=Environment(variables={"A": "1"}))
    with pytest.raises(AttributeError):
        policy.randomness = 3
    with pytest.raises(TypeError, match="cannot be changed"):
        policy.environment.variables["B"] = "2"
    with pytest.raises(TypeError, match="cannot be changed"):
        policy.environment.variables.update(B="2")
    with pytest.raises(TypeError, match="cannot be changed"):
        policy.environment.variables |= {"B": "2"}
    assert policy.environment.variables == {"A": "1"}


def test_a_policy_is_hashed_copied_and_pickled():
    policy = Policy(
        filesystem=[Mount("/data", {"a": {"b": "x"}})],
        session={"branches": 3},
        environment={"variables": {"A": "1"}},
        preload=["json"],
    )
    for other in (pickle.loads(pickle.dumps(policy)), copy.deepcopy(policy), copy.copy(policy)):
        assert other == policy
        assert hash(other) == hash(policy)


def test_the_signature_is_still_told():
    import inspect

    assert "wall_time" in inspect.signature(Limits).parameters


# --- time -----------------------------------------------------------------------------------------


def test_kinds_of_time():
    noon = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    assert Time.frozen(noon) == Time.frozen("2026-01-01T12:00:00Z") == Time.frozen(noon.timestamp())
    assert Time.frozen(noon).sleep == "skip"
    assert Time.virtual().start == datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert Time.virtual(0).sleep == "skip"
    assert Time.real().sleep == Time.scaled(2).sleep == "real"
    assert Time.scaled(2).start is None
    assert Time.scaled(0.5, noon, sleep="skip").rate == 0.5
    assert Policy(time={"kind": "frozen", "at": noon}).time == Time.frozen(noon)


@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [
        ({"kind": "frozen"}, "time.at", "frozen time needs"),
        ({"kind": "virtual", "start": None}, "time.start", "needs a time"),
        ({"kind": "virtual", "start": -1}, "time.start", "1970"),
        ({"kind": "real", "start": 5}, "time.start", "real time"),
        ({"kind": "real", "rate": 2}, "time.rate", "only for kind"),
        ({"kind": "scaled", "rate": 0}, "time.rate", "above 0"),
        ({"kind": "scaled", "rate": -1}, "time.rate", "above 0"),
        ({"kind": "scaled", "rate": float("nan")}, "time.rate", "want a number above 0"),
        ({"kind": "scaled", "rate": "2s"}, "time.rate", "want a number"),
        ({"kind": "froze"}, "time.kind", "frozen"),
        ({"sleep": "never"}, "time.sleep", "skip"),
    ],
)
def test_time_that_makes_no_sense(fields, key, words):
    for build in (lambda: Time(**fields), lambda: Policy(time=fields)):
        found = problems_of(build)
        assert list(found) == [key]
        assert words in str(found[key])


# --- everything else, in a table ------------------------------------------------------------------

REFUSED = [
    (Limits, "wall_time", 0, "above 0"),
    (Limits, "wall_time", -3, "above 0"),
    (Limits, "wall_time", "soon", "want a duration"),
    (Limits, "wall_time", 1e12, "366 days"),
    (Limits, "memory", "1M", "PyPy does not start"),
    (Limits, "memory", -1, "16M"),
    (Limits, "disk", -1, "0 bytes or more"),
    (Limits, "files", -1, "0 files or more"),
    (Limits, "files", "12", "want a whole number"),
    (Limits, "files", True, "want a whole number"),
    (Limits, "open_files", 3, "8 to"),
    (Limits, "threads", -1, "0 to"),
    (Limits, "threads", 1.0, "want a whole number"),
    (Limits, "calls", 0, "1 call or more"),
    (Limits, "nursery", "512K", 'want "auto", or a size from 1M to 1G, got'),
    (Limits, "nursery", None, 'want "auto", or a size from 1M to 1G, got None'),
    (Limits, "nursery", "much", "want \"auto\", or a size from 1M to 1G, got 'much'"),
    (Limits, "nursery", "257M", "at most half of limits.memory"),
    (SessionLimits, "wall_time", 0, "above 0"),
    (SessionLimits, "wall_time", 1e12, "366 days"),
    (SessionLimits, "cpu_time", 0, "above 0"),
    (SessionLimits, "cpu_time", "soon", "want a duration"),
    (SessionLimits, "calls", 0, "1 call or more"),
    (SessionLimits, "calls", "12", "want a whole number"),
    (SessionLimits, "branches", -1, "want 0 to 1,000 copies"),
    (SessionLimits, "branches", 1_001, "want 0 to 1,000 copies"),
    (SessionLimits, "branches", True, "want a whole number, got True"),
    (SessionLimits, "branches", None, "want a whole number, got None"),
    (SessionLimits, "branches", "none", "want a whole number, got 'none'"),
    (SessionLimits, "value_size", 1023, "want a size from 1K to 64M"),
    (SessionLimits, "value_size", "65M", "want a size from 1K to 64M, such as \"1M\", got '65M'"),
    (SessionLimits, "value_size", "none", "want a size from 1K to 64M"),
    (SessionLimits, "value_size", None, "want a size from 1K to 64M"),
    (SessionLimits, "value_size", 2048.0, "want a size from 1K to 64M"),
    (SessionLimits, "grace", -0.1, "want a duration from 0 to 60 seconds"),
    (SessionLimits, "grace", "61s", "want a duration from 0 to 60 seconds, such as \"500ms\", got '61s'"),
    (SessionLimits, "grace", "none", "want a duration from 0 to 60 seconds"),
    (SessionLimits, "grace", None, "want a duration from 0 to 60 seconds"),
    (SessionLimits, "grace", float("nan"), "want a duration from 0 to 60 seconds"),
    (Output, "limit", "x", "want a size"),
    (Output, "lines", -1, "0 lines or more"),
    (Output, "on_excess", "stop", '"truncate", "end"'),
    (Output, "escapes", "neutralize", 'did you mean "neutralise"'),
    (Output, "display", "text/html", 'want a list of MIME types, such as ["text/plain", "image/png"]'),
    (Output, "display", "text/html", 'did you mean ["text/html"]'),
    (Output, "display", {"text/html"}, "want a list of MIME types"),
    (Output, "display", None, "want a list of MIME types"),
    (Filesystem, "box", "overly", 'did you mean "overlay"'),
    (Filesystem, "box", None, "not one of the choices"),
    (Filesystem, "hide_dotfiles", 1, "true or false"),
    (Filesystem, "mounts", "a:b", "want a list of mounts"),
    (Filesystem, "mounts", 3, "want a list of mounts"),
    (Network, "access", "all", '"none"'),
    (Environment, "user", "Bad User", "want a user name"),
    (Environment, "user", "", "want a user name"),
    (Environment, "uid", 0, "root"),
    (Environment, "uid", 1 << 31, "2,147,483,647"),
    (Environment, "gid", -1, "want an id"),
    (Environment, "uid", "1000", "want a whole number"),
    (Environment, "hostname", "-x", "RFC 1123"),
    (Environment, "hostname", "a_b", "RFC 1123"),
    (Environment, "hostname", "a..b", "RFC 1123"),
    (Environment, "hostname", "box\n", "RFC 1123"),
    (Environment, "hostname", "a" * 64, "RFC 1123"),
    (Environment, "locale", "german", "want a locale"),
    (Environment, "locale", "../../etc", "want a locale"),
    (Environment, "cpu_count", 0, "1 to 1,024"),
    (Environment, "cwd", "box", "absolute path"),
    (Environment, "cwd", "/a/../b", '".."'),
    (Environment, "home", "/a\0b", "without NUL"),
    (Environment, "home", "/" + "a" * 256, "255"),
    (Environment, "home", "/" + "a/" * 2046 + "aaa", "less than 4096 in all"),
    (Environment, "home", "/\udcff", "UTF-8"),
    (Environment, "variables", [], "want a table"),
    (Environment, "variables", {**FULL, "x": ""}, "want at most 1 MiB of names and texts in all"),
    (Policy, "warm_up", "\ud800", "UTF-8"),
    (Policy, "warm_up", "1\0", "without NUL"),
    (Policy, "warm_up", "x" * (128 << 10), "128 KiB"),
    (Policy, "warm_up", 3, "Python statements"),
    (Policy, "randomness", -1, "2**64"),
    (Policy, "randomness", 1 << 64, "2**64"),
    (Policy, "randomness", "seed", '"system"'),
    (Policy, "randomness", True, '"system"'),
    (Policy, "on_denied", "kill", '"errno", "end"'),
    (Policy, "require_layers", "landlock", "want a list"),
    (Policy, "require_layers", ["landlok"], "did you mean landlock"),
    (Policy, "require_layers", [3], "no such layer"),
    (Policy, "preload", "json", 'did you mean ["json"]?'),
    (Policy, "preload", "json, xml.dom", 'did you mean ["json", "xml.dom"]?'),
    (Policy, "preload", "a" * 101, "want a list of module names"),
    (Policy, "preload", "", "want a list of module names"),
    (Policy, "preload", b"json", "want a list of module names"),
    (Policy, "preload", {"json"}, "want a list of module names"),
    (Policy, "preload", {"json": 1}, "want a list of module names"),
    (Policy, "preload", None, "want a list of module names"),
    (Policy, "session", 3, "want a table of wall_time, cpu_time, calls, branches, value_size, grace"),
]
MODULES_REFUSED = [
    (3, "identifiers that are no keywords"),
    ("", "want the dotted name of a module"),
    (".", "want the dotted name of a module"),
    (".json", "want the dotted name of a module"),
    ("json.", "want the dotted name of a module"),
    ("xml..dom", "want the dotted name of a module"),
    ("1st", "want the dotted name of a module"),
    ("class", "no keywords"),
    ("xml.None", "no keywords"),
    ("a" * 101 + "-", "want the dotted name of a module"),
    ("json\0", "want the dotted name of a module"),
    (" json", "did you mean json?"),
    ("my-lib", "did you mean my_lib?"),
    ("xml/dom.py", "did you mean xml.dom?"),
]


@pytest.mark.parametrize(("name", "words"), MODULES_REFUSED)
def test_modules_that_cannot_be_imported(name, words):
    found = problems_of(lambda: Policy(preload=[name]))
    assert list(found) == ["preload[0]"]
    assert words in str(found["preload[0]"])


def test_what_is_no_mime_type_is_told_by_its_place():
    found = problems_of(lambda: Output(display=["text/plain", "html", "text/html; charset=utf-8", "TEXT/HTML", 3]))
    assert list(found) == [f"output.display[{place}]" for place in (1, 2, 3, 4)]
    assert all("want a MIME type in lower case without parameters" in problem.message for problem in found.values())
    assert Output(display=["text/html", "text/html"]).display == ("text/html",)


@pytest.mark.parametrize(("cls", "field", "value", "words"), REFUSED)
def test_values_that_make_no_sense(cls, field, value, words):
    found = problems_of(lambda: cls(**{field: value}))
    section = "" if cls is Policy else next(f"{name}." for name in SECTIONS if SECTIONS[name] is cls)
    assert list(found) == [section + field]
    assert words in str(found[section + field])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("", "x", "want a name"),
        ("A=B", "x", "want a name"),
        ("A\0", "x", "want a name"),
        (3, "x", "want a name"),
        ("A", 3, "put it in quotes"),
        ("A", "x\0", "without NUL"),
        ("A", "x" * MOST_OF_ONE, "128 KiB"),
        ("A", "\ud800", "UTF-8"),
        ("\ud800", "x", "got '\\ud800'"),
        ("LD_PRELOAD", "x", "before the box is sealed"),
        ("LD_LIBRARY_PATH", "x", "before the box is sealed"),
        ("GLIBC_TUNABLES", "x", "before the box is sealed"),
        ("PROXYBOX_GUEST", "x", "before the box is sealed"),
    ],
)
def test_variables_that_may_not_be_set(name, value, words):
    with pytest.raises(PolicyError, match=r"environment\.variables") as caught:
        Environment(variables={name: value})
    assert words in str(caught.value)


def test_all_faults_are_told_at_once_and_misspelt_names_explained():
    found = problems_of(
        lambda: Policy(
            limits={"wal_time": 3, "memory": "1K"}, session={"branch": 3}, on_denid="x", randomness=-1, preloads=[]
        )
    )
    assert set(found) == {"limits.wal_time", "limits.memory", "session.branch", "on_denid", "randomness", "preloads"}
    assert found["limits.wal_time"].meant == "wall_time"
    assert found["session.branch"].meant == "branches"
    assert found["preloads"].meant == "preload"
    assert found["on_denid"].meant == "on_denied"
    assert found["limits.memory"].given == "'1K'"


def test_an_int_too_long_to_be_printed_is_told_of():
    found = problems_of(lambda: Limits(files=10**5000, wall_time=10**5000))
    assert found["limits.files"].given == found["limits.wall_time"].given == "a value of type int"


def test_an_error_is_one_of_ours_and_a_value_error():
    with pytest.raises(ProxyboxError):
        Limits(memory=1)
    with pytest.raises(ValueError, match=r"limits\.memory"):
        Limits(memory=1)


# --- mounts ---------------------------------------------------------------------------------------


def test_sources_of_mounts(tmp_path):
    assert Mount("/d", tmp_path).source == str(tmp_path)
    assert Mount("/d", "sub").source == os.path.join(os.getcwd(), "sub")
    assert Mount("/d", "~/x").source == os.path.expanduser("~/x")
    assert Mount("/d", b"content").source == b"content"
    assert Mount(target="/d", source=None).mode == "memory"
    assert Mount("/d").mode == "memory"
    assert Mount("/d", "/srv").mode == "ro"

    def generate():
        return b"now"

    assert Mount("/d", generate).source is generate


def test_a_target_is_normalised():
    assert Mount("/a//b/./c/").target == "/a/b/c"


def test_a_tree_is_normalised():
    tree = Mount("/d", {"src/a.py": "1", "src": {"b.py": b"2"}, "empty": {}}).source
    assert tree == {"src": {"a.py": b"1", "b.py": b"2"}, "empty": {}}


def deep(depth):
    tree = {"f": "x"}
    for _ in range(depth):
        tree = {"d": tree}
    return tree


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"..": "x"}, '".."'),
        ({"a/../b": "x"}, '".."'),
        ({"/a": "x"}, 'without ""'),
        ({"": "x"}, "not empty"),
        ({"a\0": "x"}, "NUL"),
        ({1: "x"}, "want a file name"),
        ({"a": 3}, "text or bytes"),
        ({"a": None}, "text or bytes"),
        ({"a": "\udcff"}, "UTF-8"),
        ({"\udcff": "x"}, "UTF-8"),
        ({"a" * 256: "x"}, "255"),
        ({"a": "x", "a/b": "y"}, "is a file already"),
        ({"a/b": "x", "a": "y"}, "given twice"),
        ({"a/b": "x", "a": {"b": "y"}}, "given twice"),
        ({"a": "x", "b": {"c": 3}}, "b/c"),
        (deep(100), "64 deep"),
        (deep(100_000), "64 deep"),
    ],
)
def test_trees_that_make_no_sense(tree, words):
    with pytest.raises(PolicyError) as caught:
        Mount("/d", tree)
    assert words in str(caught.value)
    assert all(problem.key.startswith("mount.source") for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [
        ({"target": "/"}, "target", "below /"),
        ({"target": "data"}, "target", "absolute"),
        ({"target": "/a/../b"}, "target", '".."'),
        ({"target": "/proc/x"}, "target", "/proc or /dev"),
        ({"target": "/dev"}, "target", "/proc or /dev"),
        ({"target": Path("/a")}, "target", "absolute"),
        ({"target": "/a", "source": ""}, "source", "not empty"),
        ({"target": "/a", "source": "x\0"}, "source", "without NUL"),
        ({"target": "/a", "source": 3}, "source", "want a path on the host"),
        ({"target": "/a", "mode": "ro"}, "mode", "nothing"),
        ({"target": "/a", "source": b"x", "mode": "rw"}, "mode", "content"),
        ({"target": "/a", "source": {}, "mode": "rw"}, "mode", "tree"),
        ({"target": "/a", "source": "/srv", "mode": "memory"}, "mode", "host path"),
        ({"target": "/a", "source": print, "mode": "overlay"}, "mode", "function"),
        ({"target": "/a", "source": "/srv", "size": "1M"}, "size", "only for the modes"),
        ({"target": "/a", "size": -1}, "size", "0 bytes or more"),
        ({"target": "/a", "files": -1}, "files", "0 files or more"),
        ({"target": "/a", "source": "/srv", "mode": "rw", "names": ["a"]}, "names", 'the mode "ro"'),
        ({"target": "/a", "source": {"a": "x"}, "names": ["a"]}, "names", "only for a folder of the host"),
        ({"target": "/a", "source": "/srv", "names": "a*"}, "names", 'did you mean ["a*"]'),
        ({"target": "/a", "source": "/srv", "names": []}, "names", "1 to 64 patterns"),
        ({"target": "/a", "source": "/srv", "names": ["a"] * 65}, "names", "1 to 64 patterns"),
        ({"target": "/a", "source": "/srv", "names": {"a"}}, "names", "want a list"),
        ({"target": "/a", "source": "/srv", "names": ["a/b"]}, "names[0]", "no slash"),
        ({"target": "/a", "source": "/srv", "names": ["a", ""]}, "names[1]", "want a pattern"),
        ({"target": "/a", "source": "/srv", "names": ["\0"]}, "names[0]", "no NUL"),
        ({"target": "/a", "source": "/srv", "names": [3]}, "names[0]", "want a pattern"),
        ({"target": "/a", "source": "/srv", "names": ["ä" * 128]}, "names[0]", "255 bytes"),
        ({"source": "/srv"}, "target", "needed"),
        ({"target": "/a", "sorce": "/srv"}, "sorce", "did you mean source"),
    ],
)
def test_mounts_that_make_no_sense(fields, key, words):
    found = problems_of(lambda: Mount(**fields))
    assert list(found) == [f"mount.{key}"]
    assert words in str(found[f"mount.{key}"])


def test_a_tree_under_files_is_explained():
    with pytest.raises(PolicyError, match="source ="):
        Policy(filesystem=[{"target": "/a", "files": {"a": "x"}}])


def test_conflicts_between_mounts():
    found = problems_of(
        lambda: Filesystem(
            mounts=[
                Mount("/a"),
                Mount("/a/"),
                Mount("/f", b"x"),
                Mount("/f/g"),
                {"target": "/a/ok"},
            ]
        )
    )
    assert set(found) == {"filesystem.mounts[1].target", "filesystem.mounts[3].target"}


def test_many_mounts_are_not_compared_with_each_other():
    """A policy may come from a stranger: a record contains one."""
    begun = time.process_time()
    found = problems_of(
        lambda: Filesystem(mounts=[Mount("/f", b"x"), *(Mount(f"/{at}/a") for at in range(20_000)), Mount("/f/g/h")])
    )
    assert set(found) == {"filesystem.mounts[20001].target"}
    assert time.process_time() - begun < 10


def test_wrong_arguments_are_python_s_own_error():
    with pytest.raises(TypeError):
        Mount("/a", None, "ro")
    with pytest.raises(TypeError):
        Mount("/a", target="/b")
    with pytest.raises(TypeError):
        Limits(3)


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/srv:/data", Mount("/data", "/srv")),
        ("/srv:/data:rw", Mount("/data", "/srv", mode="rw")),
        (".:/data:overlay", Mount("/data", ".", mode="overlay")),
        (r"/a\:b:/data", Mount("/data", "/a:b")),
    ],
)
def test_mounts_as_text(text, mount):
    assert parse_mount(text) == mount
    assert Policy(filesystem=[text]).filesystem.mounts == (mount,)


@pytest.mark.parametrize(
    "text",
    ["", "/srv", ":/data", "/srv:", "/srv:/d:", "/srv:/d:x", "/a:/b:ro:x", "/a\0:/b", "/a:b", None],
)
def test_mounts_as_text_that_make_no_sense(text):
    with pytest.raises(PolicyError, match="mount"):
        parse_mount(text)


def test_the_nursery_is_an_eighth_of_the_memory_unless_it_is_said():
    sizes = [("64M", "auto", 8 << 20), ("2G", "auto", 32 << 20), (None, "auto", 32 << 20), ("64M", "3M", 3 << 20)]
    assert [Limits(memory=memory, nursery=nursery).nursery_size for memory, nursery, _ in sizes] == [
        size for *_, size in sizes
    ]
    with pytest.raises(PolicyError, match="at most half"):
        Limits(memory="64M", nursery=(32 << 20) + 1)


def test_trees_are_put_together_and_only_so_deep():
    tree = Mount("/a", {"a/b": {"c": "1"}, "a": {"b/d": b"2", "e": bytearray(b"3")}, "f": memoryview(b"4")}).source
    assert tree == {"a": {"b": {"c": b"1", "d": b"2"}, "e": b"3"}, "f": b"4"}
    deepest = "/".join("x" * 63)
    assert Mount("/a", {deepest: {"y": "1"}}).source == Mount("/a", {"x": {deepest[2:] + "/y": "1"}}).source
    for source in ({f"{deepest}/x": {"y": "1"}}, {"x": {deepest: {"y": "1"}}}, {f"{deepest}/x/y": "1"}):
        with pytest.raises(PolicyError, match="at most 64 deep"):
            Mount("/a", source)
    for source in ({"a": "1", "a/b": "2"}, {"a/b": "1", "a": {"b": "2"}}, {"a": {"b": "1"}, "a/b": "2"}):
        with pytest.raises(PolicyError, match=r"given twice|a file already"):
            Mount("/a", source)


def test_several_problems_are_told_with_their_number():
    with pytest.raises(PolicyError) as caught:
        Limits(wall_time="x", memory="x")
    assert [line[:11] for line in str(caught.value).splitlines()] == ["2 problems:", "  limits.wa", "  limits.me"]


@pytest.mark.parametrize(("value", "given"), [("x" * 58, "x" * 58 + "'"), ("x" * 59, "x" * 56 + "...")])
def test_values_are_shown_cut_short(value, given):
    (problem,) = problems_of(lambda: Limits(wall_time=value)).values()
    assert problem.given == "'" + given


@pytest.mark.parametrize(
    ("key", "told"), [("a", "a"), ("x" * 60, "x" * 60), ("x" * 61, f"'{'x' * 56}..."), ("\n", "'\\n'"), ("", "''")]
)
def test_keys_that_do_not_exist_are_told_as_they_can_be_printed(key, told):
    assert list(problems_of(lambda: Policy(**{key: 1}))) == [told]
