"""One policy made from another: keyword arguments and --set."""

import pytest

from proxybox.policies import (
    Limits,
    Mount,
    Policy,
    PolicyError,
    SessionLimits,
    Time,
    evolve,
    preset,
    tightened,
    with_settings,
)
from proxybox.policies.overrides import restricted, within


def test_a_dict_changes_the_keys_it_names():
    policy = evolve(preset("strict"), limits={"wall_time": "3s"}, randomness=1)
    assert policy.limits.wall_time == 3.0
    assert policy.limits.memory == preset("strict").limits.memory
    assert policy.randomness == 1


def test_a_section_s_class_replaces_it():
    assert evolve(preset("strict"), limits=Limits(wall_time=3)).limits == Limits(wall_time=3)


def test_a_session_is_changed_key_by_key_and_preloads_are_replaced():
    base = Policy(session={"branches": 3, "grace": 1}, preload=["json"])
    assert evolve(base, session={"branches": 4}).session == SessionLimits(branches=4, grace=1)
    assert evolve(base, session=SessionLimits(branches=4)).session == SessionLimits(branches=4)
    assert evolve(base, preload=["re"]).preload == ("re",)
    assert evolve(base, limits={"calls": 5}).session == base.session


def test_variables_are_merged_and_mounts_are_replaced():
    base = Policy(environment={"variables": {"A": "1"}}, filesystem=[Mount("/a")])
    policy = evolve(
        base,
        environment={"variables": {"B": "2"}, "user": "me"},
        filesystem=[Mount("/b")],
    )
    assert policy.environment.variables == {"A": "1", "B": "2"}
    assert [mount.target for mount in policy.filesystem.mounts] == ["/b"]
    assert evolve(preset("strict"), filesystem=[Mount("/b")]).filesystem.box == "memory"


def test_another_kind_of_time_starts_afresh():
    strict = preset("strict")
    assert evolve(strict, time="real").time == Time.real()
    assert evolve(strict, time={"kind": "scaled", "rate": 2}).time == Time.scaled(2)
    assert evolve(strict, time={"sleep": "real"}).time == Time.virtual(sleep="real")


def test_evolve_tells_all_faults():
    with pytest.raises(PolicyError) as caught:
        evolve(
            Policy(),
            wall_time=3,
            limits={"cpu_tme": 1, "disk": -1},
            output=3,
            randomness=-1,
        )
    found = {problem.key: problem for problem in caught.value.problems}
    assert set(found) == {"wall_time", "limits.cpu_tme", "limits.disk", "output", "randomness"}
    assert found["wall_time"].meant == "limits.wall_time"


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ([], Policy()),
        (["limits.wall_time=3"], Policy(limits={"wall_time": 3})),
        (["limits.wall_time=1m30s"], Policy(limits={"wall_time": 90})),
        (["limits.memory=256M"], Policy(limits={"memory": "256M"})),
        (['limits.memory="256M"'], Policy(limits={"memory": "256M"})),
        (
            ["limits.memory=none", "limits.calls=10_000"],
            Policy(limits=Limits(memory=None, calls=10**4)),
        ),
        (["limits.calls=3", "limits.calls=4"], Policy(limits={"calls": 4})),
        (["randomness=42"], Policy(randomness=42)),
        (["filesystem.hide_dotfiles=false"], Policy(filesystem={"hide_dotfiles": False})),
        (['filesystem.mounts=["/srv:/data"]'], Policy(filesystem=["/srv:/data"])),
        (["time=virtual"], Policy(time="virtual")),
        (["time=frozen", "time.at=2026-01-01"], Policy(time=Time.frozen("2026-01-01"))),
        (["time.kind=scaled", "time.rate=2"], Policy(time=Time.scaled(2))),
        (["environment.variables.A=1"], Policy(environment={"variables": {"A": "1"}})),
        (["environment.variables.A.B=a=b"], Policy(environment={"variables": {"A.B": "a=b"}})),
        (["environment.hostname=123"], Policy(environment={"hostname": "123"})),
        (['require_layers=["landlock"]'], Policy(require_layers=["landlock"])),
        (['preload=["json", "xml.dom"]'], Policy(preload=("json", "xml.dom"))),
        (["session.branches=3", "session.grace=0"], Policy(session=SessionLimits(branches=3, grace=0))),
        (["session.wall_time=1h", "session.value_size=4M"], Policy(session={"wall_time": 3600, "value_size": "4M"})),
        (["session.calls=none"], Policy()),
        (["network=none"], Policy()),
    ],
)
def test_settings(settings, policy):
    assert with_settings(Policy(), settings) == policy


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("wall_time=3", "did you mean limits.wall_time"),
        ("limits.wal_time=3", "did you mean wall_time"),
        ("limit.wall_time=3", "did you mean limits"),
        ("cpu_time=3", "did you mean limits.cpu_time"),
        ("calls=3", "did you mean limits.calls"),
        ("branches=3", "did you mean session.branches"),
        ("sesion.branches=3", "did you mean session"),
        ("session.brances=3", "session.brances: there is no such key; did you mean branches?"),
        ("session.value_size=none", "session.value_size: want a size from 1K to 64M"),
        ("session=3", "want a table"),
        ("preload=json", 'did you mean ["json"]?'),
        ('preload=["my-lib"]', "preload[0]: want the dotted name of a module"),
        ("preload.json=3", "did you mean preload?"),
        ("limits.wall_time", "want KEY=VALUE"),
        ("=3", "want KEY=VALUE"),
        ("", "want KEY=VALUE"),
        ("limits.wall_time=", "there is no value"),
        ("limits.wall_time=soon", "want a duration"),
        ("limits.wall_time=3\ncalls=4", "want a duration"),
        ("limits.wall_time=[", "not a TOML value"),
        ("limits.wall_time=" + "[" * 10_000, "not a TOML value"),
        ("limits.wall_time.x=3", "no such key"),
        ("randomness.x=3", "no such key"),
        ("limits=3", "want a table"),
        ("environment.variables=3", "want a table"),
        ("environment.variables.LD_PRELOAD=x", "LD_PRELOAD: may not be set"),
    ],
)
def test_settings_that_make_no_sense(setting, words):
    with pytest.raises(PolicyError) as caught:
        with_settings(Policy(), [setting])
    assert words in str(caught.value)


def test_all_settings_are_checked():
    with pytest.raises(PolicyError) as caught:
        with_settings(Policy(), ["nonsense", "limits.disk=-1", "output.limit=x", "a.b=3"])
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    "settings",
    [
        ["limits=3", "limits.calls=2"],
        ["environment.variables=0", "environment.variables.A=0"],
    ],
)
def test_what_is_no_table_cannot_be_added_to(settings):
    with pytest.raises(PolicyError, match="want a table"):
        with_settings(Policy(), settings)


def test_one_run_can_be_held_tighter_and_never_looser():
    base = preset("default")
    tighter = tightened(base, limits={"memory": "64M", "wall_time": "500ms"}, output={"lines": 3, "on_excess": "end"})
    assert tighter == evolve(
        base, limits={"memory": 64 << 20, "wall_time": 0.5}, output={"lines": 3, "on_excess": "end"}
    )
    assert tightened(base, limits={"memory": base.limits.memory}) == base
    assert tightened(base) is base
    assert tightened(evolve(base, limits={"calls": None}), limits={"calls": 1 << 40}).limits.calls == 1 << 40


def test_what_is_wanted_of_one_run_is_held_within_the_policy():
    base = evolve(preset("default"), limits={"calls": None})
    wanted = {"limits.memory": 1, "limits.cpu_time": 99.0, "limits.calls": 5, "output.limit": 10}
    held = {"limits": {"memory": 16 << 20, "cpu_time": 5.0, "calls": 5}, "output": {"limit": 10}}
    assert within(base, wanted) == held, "the least that the key takes, the policy's limit, or what is wanted"
    assert tightened(base, **held) == evolve(base, **held)


@pytest.mark.parametrize("key", ["limits.input_wait", "output.on_excess", "limits.none"])
def test_what_is_no_number_is_not_held_within_a_policy(key):
    with pytest.raises(PolicyError, match=f"{key}: want a limit that is a number"):
        within(preset("default"), {key: 1})


def test_all_faults_of_what_one_run_wants_are_reported():
    limits = {"memory": "1G", "disk": None, "calls": "x", "nursery": "1M", "thread": 3, "input_wait": "free"}
    with pytest.raises(PolicyError) as caught:
        tightened(preset("default"), limits=limits, output={"limit": "2M", "escapes": "raw"})
    assert {problem.key: problem.message for problem in caught.value.problems} == {
        "limits.memory": "looser than the policy",
        "limits.disk": "looser than the policy",
        "limits.input_wait": "looser than the policy",
        "limits.calls": 'want a whole number, or "none"',
        "limits.nursery": "one run cannot have its own",
        "limits.thread": "there is no such key",
        "output.limit": "looser than the policy",
        "output.escapes": "one run cannot have its own",
    }
    assert "limits.memory: looser than the policy, got 1G (allowed: at most 512M)" in str(caught.value)


@pytest.mark.parametrize("given", [3, "memory=1M", [("memory", 1)], Limits(), {3: 4}])
def test_what_one_run_wants_is_a_table(given: object):
    with pytest.raises(PolicyError, match=r"limits: "):
        tightened(preset("default"), limits=given)


def test_less_memory_must_leave_room_for_the_nursery_of_the_policy():
    base = evolve(preset("default"), limits={"nursery": "64M"})
    with pytest.raises(PolicyError, match=r"limits\.nursery: want at most half of limits\.memory"):
        tightened(base, limits={"memory": "64M"})


def test_a_restricted_policy_has_the_tighter_limits_of_both():
    base = evolve(preset("classroom"), preload=["json"], limits={"calls": None}, output={"on_excess": "end"})
    limits = {"wall_time": "1h", "cpu_time": 2, "memory": "none", "calls": 5000, "input_wait": "free", "nursery": "8M"}
    found = restricted(
        base, limits=limits, output={"lines": 10, "on_excess": "truncate", "display": ["text/plain"]}, randomness=7,
        preload=["csv", "json"], require_layers=["landlock"],
    )  # fmt: skip
    assert found == evolve(
        base, limits={"cpu_time": 2, "calls": 5000, "nursery": "8M"}, output={"lines": 10, "display": ["text/plain"]},
        randomness=7, preload=["json", "csv"], require_layers=["landlock"],
    )  # fmt: skip
    assert restricted(base) == base


def test_all_faults_of_a_restriction_are_reported():
    with pytest.raises(PolicyError) as caught:
        restricted(preset("classroom"), limits={"wal_time": 3}, output={"lines": -1}, wall_time=3)
    assert sorted(problem.key for problem in caught.value.problems) == ["limits.wal_time", "output.lines", "wall_time"]
