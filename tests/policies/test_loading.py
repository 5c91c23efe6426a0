"""Policies from files: their contents, how they extend one another, and how errors are reported."""

import fcntl
import os

import pytest

from proxybox.policies import (
    PRESETS,
    Limits,
    Mount,
    Policy,
    PolicyError,
    SessionLimits,
    Time,
    as_policy,
    from_dict,
    from_toml,
    load_policy,
    preset,
)
from proxybox.policies.keys import OF_ONE_RUN, of_one_run
from proxybox.policies.loading import _CHAIN_MAX
from proxybox.policies.regularfiles import regular

PRESET_FOLDER = os.path.join(os.path.dirname(__file__), "../../policies/presets")


def problems_of(build):
    with pytest.raises(PolicyError) as caught:
        build()
    return {problem.key: problem for problem in caught.value.problems}


@pytest.fixture
def write(tmp_path):
    def write_(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_


# --- presets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PRESETS.keys() - {"default"}))
def test_a_preset_and_its_file_are_equal(name):
    assert load_policy(os.path.join(PRESET_FOLDER, f"{name}.toml")) == preset(name)


def test_each_file_is_a_preset():
    names = {name.removesuffix(".toml") for name in os.listdir(PRESET_FOLDER)}
    assert names == PRESETS.keys() - {"default"}, "the default is in the declaration of each field, and has no file"


def test_presets_are_kept_and_default_is_the_default():
    assert preset("strict") is preset("strict")
    assert preset("default") == Policy()


def test_strict_is_nowhere_looser_than_default():
    for section in OF_ONE_RUN:
        for key in of_one_run(section).values():
            strict, default = key.of(preset("strict")), key.of(preset("default"))
            assert not key.looser(default, strict), f"{key.name}: give it a tighter value in named.py and strict.toml"
    strict, default = preset("strict").limits, preset("default").limits
    for name in ("wall_time", "cpu_time", "memory", "disk", "files", "threads", "calls"):
        assert getattr(strict, name) < getattr(default, name), name


@pytest.mark.parametrize("name", PRESETS)
def test_presets_preload_nothing_and_only_the_prompt_s_can_be_copied(name):
    session = SessionLimits(branches=24) if name == "repl" else SessionLimits()
    assert (preset(name).session, preset(name).preload) == (session, ())


def test_an_unknown_preset_is_explained():
    with pytest.raises(PolicyError, match=r"did you mean strict.*classroom"):
        preset("stirct")


def test_what_a_policy_can_be_given_as(write):
    path = write("mine.toml", "randomness = 1\n")
    seeded = Policy(randomness=1)
    assert as_policy(None) == as_policy("default") == Policy()
    assert as_policy(seeded) is seeded
    assert as_policy("strict") is preset("strict")
    assert as_policy({"randomness": 1}) == seeded
    assert as_policy(path) == as_policy(str(path)) == seeded
    with pytest.raises(PolicyError, match="want a Policy"):
        as_policy(3)
    with pytest.raises(PolicyError, match=r"no/such\.toml: cannot be read: No such file"):
        as_policy("no/such.toml")


# --- files ----------------------------------------------------------------------------------------


def test_a_file_with_everything(write, tmp_path):
    path = write(
        "all.toml",
        """
        randomness = 7
        on_denied = "end"
        require_layers = ["landlock"]
        preload = ["json", "xml.dom", "json"]
        session = { wall_time = "1h", branches = 8, value_size = "4M", grace = "250ms" }
        network = "none"
        time = { kind = "frozen", at = 2026-01-01T12:00:00Z }
        limits = { wall_time = "1m30s", memory = "none" }

        [environment.variables]
        GREETING = "hello"

        [[filesystem.mounts]]
        target = "/data"
        source = "data"

        [[filesystem.mounts]]
        target = "/scratch"
        size = "1M"

        [[filesystem.mounts]]
        target = "/src"
        source = { "a.py" = "1", "sub/b.py" = "2" }
        mode = "memory"

        [[filesystem.mounts]]
        target = "/motd"
        content = "hi"
        """,
    )
    assert load_policy(path) == Policy(
        randomness=7,
        on_denied="end",
        require_layers=("landlock",),
        preload=("json", "xml.dom"),
        session=SessionLimits(wall_time=3600, branches=8, value_size=4 << 20, grace=0.25),
        time=Time.frozen("2026-01-01T12:00:00Z"),
        limits=Limits(wall_time=90, memory=None),
        environment={"variables": {"GREETING": "hello"}},
        filesystem=[
            Mount("/data", tmp_path / "data"),
            Mount("/scratch", size="1M"),
            Mount("/src", {"a.py": "1", "sub": {"b.py": "2"}}, mode="memory"),
            Mount("/motd", b"hi"),
        ],
    )


def test_mounts_as_text_are_relative_to_the_file_too(write, tmp_path):
    path = write("m.toml", 'filesystem.mounts = ["data:/data:rw", "/srv:/srv"]\n')
    assert load_policy(path).filesystem.mounts == (
        Mount("/data", tmp_path / "data", mode="rw"),
        Mount("/srv", "/srv"),
    )


def test_all_faults_are_told_with_file_key_and_suggestion(write):
    path = write(
        "bad.toml",
        """
        on_denid = "x"
        wall_time = 3
        preload = ["json", "my-lib"]
        output = 3
        [limits]
        wall_time = -1
        memry = "1G"
        [session]
        brances = 3
        value_size = "none"
        [[filesystem.mounts]]
        source = "data"
        [[filesystem.mounts]]
        target = "/a"
        tagret = "/b"
        mode = 3
        [time]
        kind = "frozen"
        [environment.variables]
        A = 1
        """,
    )
    found = problems_of(lambda: load_policy(path))
    assert set(found) == {
        "on_denid",
        "wall_time",
        "output",
        "limits.wall_time",
        "limits.memry",
        "session.brances",
        "session.value_size",
        "preload[1]",
        "filesystem.mounts[0].target",
        "filesystem.mounts[1].tagret",
        "filesystem.mounts[1].mode",
        "time.at",
        "environment.variables.A",
    }
    assert {problem.file for problem in found.values()} == {str(path)}
    assert found["wall_time"].meant == "limits.wall_time"
    assert found["limits.memry"].meant == "memory"
    assert found["session.brances"].meant == "branches"
    assert found["preload[1]"].meant == "my_lib"
    assert found["filesystem.mounts[1].tagret"].meant == "target"
    assert "limits.memry: there is no such key; did you mean memory?" in str(found["limits.memry"])


def test_conflicts_of_mounts_are_found_across_the_list():
    mounts = [{"target": "/a"}, {"target": "/a"}]
    assert set(problems_of(lambda: from_dict({"filesystem": {"mounts": mounts}}))) == {"filesystem.mounts[1].target"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits = \n", r"x\.toml: not TOML: .*line 1"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "9" * 5000, "not TOML"),
        ("extends = 3", "extends: want the name of a preset"),
        ('extends = "stirct"', "extends: .*did you mean strict"),
        ('extends = "./none.toml"', "none.toml: cannot be read"),
    ],
)
def test_what_is_no_policy(text, words):
    with pytest.raises(PolicyError, match=words):
        from_toml(text, name="x.toml")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    (tmp_path / "big.toml").write_bytes(b"#" * (2 << 20))
    for name, words in (
        ("", "Is a directory"),
        ("none.toml", "No such file"),
        ("a\0b.toml", "null"),
        ("latin.toml", "decode"),
        ("big.toml", "1 MiB"),
    ):
        with pytest.raises(PolicyError, match=words):
            load_policy(os.path.join(tmp_path, name))


# --- extends --------------------------------------------------------------------------------------


def test_only_a_regular_file_is_opened(tmp_path):
    """It is opened without waiting and with O_CLOEXEC. Only this user may use a new file."""
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/proc/self/fd")
    for name, error in (("pipe", "no regular file"), (".", "directory"), ("none", "No such file")):
        with pytest.raises(OSError, match=error):
            regular(str(tmp_path / name), os.O_RDONLY)
    assert os.listdir("/proc/self/fd") == before
    mask = os.umask(0)
    fd = regular(str(tmp_path / "new"), os.O_WRONLY | os.O_CREAT)
    os.umask(mask)
    assert os.fstat(fd).st_mode & 0o777 == 0o600
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_NONBLOCK) == os.O_WRONLY | os.O_NONBLOCK
    os.close(fd)


def test_tables_are_merged_and_the_rest_is_replaced(write):
    write(
        "base/base.toml",
        'extends = "strict"\nlimits.calls = 5\nsession.branches = 5\npreload = ["re"]\nfilesystem.mounts = ["x:/x"]\n',
    )
    path = write(
        "mine.toml",
        """
        extends = "base/base.toml"
        time = "real"
        preload = ["json"]
        [limits]
        wall_time = 1
        [session]
        grace = 1
        [environment.variables]
        A = "1"
        """,
    )
    policy = load_policy(path)
    assert policy.time == Time.real()
    assert (policy.limits.wall_time, policy.limits.calls, policy.limits.threads) == (1.0, 5, 0)
    assert policy.session == SessionLimits(branches=5, grace=1)
    assert policy.preload == ("json",)
    assert policy.filesystem.box == "memory"
    assert policy.filesystem.mounts[0].source == str(path.parent / "base" / "x")
    again = write("again.toml", 'extends = "./mine.toml"\nfilesystem.mounts = []\n')
    assert load_policy(again).filesystem.mounts == ()
    assert load_policy(again).environment.variables == {"A": "1"}


def test_a_fault_is_told_with_the_file_that_it_stands_in(write):
    base = write("base.toml", "limits.calls = 0\nlimits.files = -1\n")
    path = write("mine.toml", 'extends = "./base.toml"\nlimits.files = 3\nlimits.disk = -1\n')
    found = problems_of(lambda: load_policy(path))
    assert {key: os.path.basename(problem.file) for key, problem in found.items()} == {
        "limits.calls": base.name,
        "limits.disk": path.name,
    }


def test_a_fault_within_a_list_and_a_key_that_is_missing_have_their_files(write):
    base = write("base.toml", 'extends = "strict"\nfilesystem.mounts = [{target = "x", source = "/x"}]\n')
    path = write("mine.toml", 'extends = "./base.toml"\n[filesystem]\nhide_dotfiles = 3\n')
    found = problems_of(lambda: load_policy(path))
    assert {key: os.path.basename(problem.file) for key, problem in found.items()} == {
        "filesystem.mounts[0].target": base.name,
        "filesystem.hide_dotfiles": path.name,
    }
    path = write("last.toml", 'extends = "strict"\nfilesystem.mounts = [{target = "/x"}, {source = "/x"}]\n')
    assert {problem.file for problem in problems_of(lambda: load_policy(path)).values()} == {str(path)}


def test_short_forms_are_merged_as_the_tables_that_they_stand_for(write):
    write(
        "base.toml",
        'filesystem.box = "memory"\nenvironment.variables = {A = "1"}\ntime = {kind = "scaled", rate = 2}\n',
    )
    text = 'extends = "./base.toml"\nfilesystem = ["/x:/x"]\nenvironment.variables = {kind = "2"}\ntime = "virtual"\n'
    policy = load_policy(write("mine.toml", text))
    assert (policy.filesystem.box, policy.filesystem.mounts) == ("memory", (Mount("/x", "/x"),))
    assert policy.environment.variables == {"A": "1", "kind": "2"}
    assert policy.time == Time.virtual()


@pytest.mark.parametrize("files", [_CHAIN_MAX, _CHAIN_MAX + 1])
def test_so_many_files_extend_each_other(write, files):
    for number in range(files):
        write(f"{number}.toml", f'extends = "./{number + 1}.toml"\n' if number + 1 < files else "limits.calls = 7\n")
    path = os.path.join(os.path.dirname(write("x.toml", "")), "0.toml")
    if files == _CHAIN_MAX:
        assert load_policy(path).limits.calls == 7
    else:
        with pytest.raises(PolicyError, match="extends itself"):
            load_policy(path)


def test_a_table_without_end_is_told():
    deep: dict[str, object] = {}
    for _ in range(5000):
        deep = {"a": deep}
    (problem,) = problems_of(lambda: from_dict({"environment": deep}, name="its name")).values()
    assert (problem.message, problem.file) == ("nested too deeply", "its name")


def test_a_circle_is_told(write):
    write("a.toml", 'extends = "./b.toml"\n')
    path = write("b.toml", 'extends = "./a.toml"\n')
    with pytest.raises(PolicyError, match="extends itself"):
        load_policy(path)
