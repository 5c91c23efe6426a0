"""Properties of every policy, and of everything that is not a policy."""

import json
import string

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from proxybox.policies import (
    LAYERS,
    Environment,
    Filesystem,
    Limits,
    Mount,
    Output,
    Policy,
    PolicyError,
    SessionLimits,
    Time,
    evolve,
    explain_text,
    from_dict,
    from_toml,
    to_dict,
    to_toml,
    with_settings,
)
from proxybox.policies.models import SECTIONS
from proxybox.policies.moments import LATEST
from proxybox.policies.schema import schema
from tests import sweeps

VALIDATOR = Draft202012Validator(schema())
FEW = settings(max_examples=sweeps.tries(50, 150), deadline=None)

# --- policies -------------------------------------------------------------------------------------

unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda text: text not in (".", "..")
)
content = unicode.map(str.encode)
tree = st.recursive(
    st.dictionaries(name, content, max_size=3),
    lambda below: st.dictionaries(name, content | below, max_size=3),
    max_leaves=5,
)
target = st.lists(name, min_size=1, max_size=3).map("/m/{}".format).filter(lambda t: len(t) < 90)


def optional(strategy):
    return st.none() | strategy


def count(low=0, high=(1 << 62) - 1):
    return optional(st.integers(low, high))


seconds = optional(st.floats(1e-9, 366 * 86400.0))
moment = st.floats(0, LATEST)
sleep = st.sampled_from(["real", "skip"])

mounts = st.one_of(
    st.builds(Mount, target=target, source=tree, mode=st.just("memory"), size=count(), files=count()),
    st.builds(Mount, target=target, source=content),
    st.builds(Mount, target=target, source=name.filter(lambda text: text[0] != "~")),
    st.builds(
        Mount,
        target=target,
        source=name.filter(lambda text: text[0] != "~"),
        names=st.lists(name, min_size=1, max_size=3),
    ),
    st.builds(Mount, target=target),
)
policies = st.builds(
    Policy,
    filesystem=st.builds(
        Filesystem,
        mounts=st.lists(mounts, max_size=3, unique_by=lambda mount: mount.target),
        box=st.sampled_from(["ro", "rw", "overlay", "memory"]),
        hide_dotfiles=st.booleans(),
    ),
    time=st.one_of(
        st.builds(Time.real, sleep=sleep),
        st.builds(Time.frozen, moment, sleep=sleep),
        st.builds(Time.virtual, moment, sleep=sleep),
        st.builds(Time.scaled, st.floats(1e-6, 1e6), optional(moment), sleep=sleep),
    ),
    output=st.builds(
        Output,
        limit=count(),
        lines=count(),
        on_excess=st.sampled_from(["truncate", "end"]),
        escapes=st.sampled_from(["auto", "neutralise", "raw"]),
        display=st.lists(st.sampled_from(["text/plain", "text/html", "image/png", "application/x.y+json"])),
    ),
    limits=st.builds(
        Limits,
        wall_time=seconds,
        cpu_time=seconds,
        memory=count(16 << 20),
        disk=count(),
        files=count(),
        open_files=count(8, 1 << 20),
        threads=count(0, 1 << 15),
        calls=count(1),
    ),
    session=st.builds(
        SessionLimits,
        wall_time=seconds,
        cpu_time=seconds,
        calls=count(1),
        branches=st.integers(0, 1_000),
        value_size=st.integers(1 << 10, 64 << 20),
        grace=st.floats(0, 60),
    ),
    environment=st.builds(
        Environment,
        variables=st.dictionaries(
            st.text(string.ascii_uppercase + ". \"'é", min_size=1, max_size=5).map("A{}".format),
            unicode.filter(lambda text: "\0" not in text),
            max_size=3,
        ),
        uid=st.integers(1, (1 << 31) - 1),
        hostname=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?(\.[a-z]{1,5})?", fullmatch=True),
        cpu_count=st.integers(1, 1024),
    ),
    randomness=st.just("system") | st.integers(0, (1 << 64) - 1),
    on_denied=st.sampled_from(["errno", "end"]),
    require_layers=st.lists(st.sampled_from(LAYERS)),
    preload=st.lists(st.sampled_from(["json", "xml.dom", "é", "_a.b1.c"])),
)


@FEW
@given(policies)
def test_a_policy_survives_being_written(policy):
    data = to_dict(policy)
    assert from_dict(data) == policy
    assert Policy(**data) == policy
    as_json = json.loads(json.dumps(data))
    assert from_dict(as_json) == policy
    assert not list(VALIDATOR.iter_errors(as_json)), "policies/schema.py refuses what proxybox takes"
    assert from_toml(to_toml(policy)) == policy
    assert explain_text(policy)


@FEW
@given(policies, policies)
def test_a_policy_s_tables_make_any_policy_into_it(policy, other):
    changed = evolve(other, **{key: getattr(policy, key) for key in to_dict(policy)})
    assert changed == policy


# --- anything at all ------------------------------------------------------------------------------

leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=10),
    st.binary(max_size=5),
    st.datetimes(),
    st.timedeltas(),
    st.dates(),
    st.sampled_from(["none", "real", "frozen", "ro", "memory", "512M", "1m", "/a", "a:/b", "strict"]),
    st.just(print),
    st.just(object()),
)
garbage = st.recursive(
    leaf,
    lambda below: (
        st.lists(below, max_size=3)
        | st.tuples(below)
        | st.dictionaries(st.text(max_size=3) | st.integers(), below, max_size=3)
    ),
    max_leaves=8,
)


def keys(cls):
    return [field.name for field in cls.__attrs_attrs__]


def table(cls, extra=()):
    names = st.sampled_from([*keys(cls), *extra])
    return st.dictionaries(names | st.text(max_size=4) | st.integers(), garbage, max_size=5)


mount_like = table(Mount, ["content"])
near = st.fixed_dictionaries(
    {},
    optional={
        **{section: table(cls, ["at"]) | garbage for section, cls in SECTIONS.items()},
        "filesystem": st.fixed_dictionaries(
            {}, optional={"mounts": st.lists(mount_like | garbage, max_size=3), "box": garbage}
        )
        | garbage,
        "randomness": garbage,
        "on_denied": garbage,
        "require_layers": garbage,
        "preload": st.lists(st.sampled_from(["json", "a-b", "class", "a..b"]) | garbage, max_size=3) | garbage,
        "extends": garbage,
        "nonsense": garbage,
    },
)


def told(error):
    assert error.problems
    assert str(error)
    return {problem.key for problem in error.problems}


def outcome(build):
    """The policy, or the keys that have errors. Any other exception is a failure."""
    try:
        policy = build()
    except PolicyError as error:
        return told(error)
    assert isinstance(policy, Policy)
    return policy


@settings(max_examples=sweeps.tries(130, 400), deadline=None)
@given(near)
def test_anything_is_a_policy_or_a_policy_error(data):
    loaded = outcome(lambda: from_dict(data))
    data = {key: value for key, value in data.items() if key != "extends"}
    built = outcome(lambda: Policy(**data))
    evolved = outcome(lambda: evolve(Policy(), **data))
    if "extends" not in data and isinstance(built, Policy):
        assert evolved == built
    del loaded


@FEW
@given(near.map(lambda data: {k: v for k, v in data.items() if k != "extends"}))
def test_a_dict_means_the_same_to_the_class_and_to_the_loader(data):
    assert outcome(lambda: from_dict(data)) == outcome(lambda: Policy(**data))


@FEW
@given(st.text(max_size=60))
def test_any_text_is_a_policy_or_a_policy_error(text):
    outcome(lambda: from_toml(text))


@FEW
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["", "time", "limits", "session", "preload", "x", "environment.variables", "filesystem.mounts"]
            ),
            st.sampled_from(["", ".", ".kind", ".wall_time", ".A", ".A.B"]),
            st.sampled_from(["=", ""]),
            st.text(max_size=6) | st.sampled_from(["3", "real", "[]", "{}", "'x'", '"']),
        ).map("".join),
        max_size=4,
    )
)
def test_any_setting_is_a_policy_or_a_policy_error(texts):
    outcome(lambda: with_settings(Policy(), texts))
