"""Policies explained in words, and written as text."""

import difflib
import json
import tomllib

import pytest

from proxybox.policies import (
    PRESETS,
    Mount,
    Policy,
    PolicyError,
    explain_policy,
    explain_text,
    from_dict,
    from_toml,
    preset,
    to_dict,
    to_toml,
)
from proxybox.policies.declaring import Measure
from proxybox.policies.keys import keys

MOUNTS = [
    [Mount("/m", {"f": "x"}, mode="overlay", size="1M")],
    [Mount("/g", print)],
    [Mount("/n", "/srv", names=["*.csv"])],
]
ALONE = {"time.start", "time.rate", "network.access"}  # alone, these have no other valid value


def other_values(key):
    """Values that differ from the default, from the declaration of a key."""
    if key.facts.measure is Measure.MOUNTS:
        return MOUNTS
    default = key.of(Policy())
    values = [*key.choices, key.facts.example, *([None] if key.is_optional else []), not default]
    if key.range is not None:
        values += [
            key.range.low,
            3 * (key.range.low or 1),
            default + 1 if isinstance(default, int | float) else default,
        ]
    return [value for value in values if value != default and is_one(key, value)]


def with_value(key, value):
    return Policy(**({key.section: {key.field.name: value}} if key.section else {key.field.name: value}))


def is_one(key, value):
    try:
        with_value(key, value)
    except PolicyError:
        return False
    return True


@pytest.mark.parametrize("key", keys().values(), ids=lambda key: key.name)
def test_every_key_is_told_of(key):
    values = other_values(key)
    assert bool(values) is (key.name not in ALONE), "give it an example in its declaration"
    for value in values:
        assert explain_text(with_value(key, value)) != explain_text(Policy()), (
            f"proxybox policy explain says nothing of {key.name} = {value!r}: declare(..., explain=...) has a sentence"
        )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_told_in_sections_and_written_out(name):
    policy = preset(name)
    assert len(explain_policy(policy)) == 12
    assert from_toml(to_toml(policy)) == policy
    assert from_dict(json.loads(json.dumps(to_dict(policy)))) == policy
    assert tomllib.loads(to_toml(policy)) == to_dict(policy) or not policy.filesystem.mounts


MANY = {
    "filesystem": {
        "box": "memory", "hide_dotfiles": False, "mounts": [
            Mount("/a", "/srv", names=["*.csv", "x-*"]), Mount("/b", "/srv/b", mode="rw"),
            Mount("/c", "/srv/c", mode="overlay", size="2M", files=1),
            Mount("/d", {"x": "1", "y": {"z": "2", "w": b"3"}}, mode="memory", files=1000), Mount("/e", bytes(2048)),
            Mount("/f", print),
        ],
    },
    "limits": {"wall_time": 90, "cpu_time": None, "disk": None, "files": None, "threads": 1, "calls": None},
    "session": {
        "wall_time": "1h", "cpu_time": 90, "calls": 1, "branches": 1_000, "value_size": "1K", "grace": 0,
    },
    "time": {"kind": "scaled", "rate": 2.5, "start": "2026-01-01"}, "randomness": 42, "on_denied": "end",
    "require_layers": ["landlock"], "preload": ["xml.dom", "json"], "warm_up": "import re",
    "output": {"limit": "2M", "lines": 1, "on_excess": "end", "escapes": "raw", "display": ["image/png", "text/html"]},
    "environment": {"user": "ann", "cpu_count": 2, "variables": {"B": "1", "A": "2"}},
}  # fmt: skip
OTHERS = {
    "time": {"kind": "virtual"}, "limits": {"wall_time": 1, "cpu_time": 1, "input_wait": "counted"},
    "session": {"branches": 1}, "filesystem": {"box": "rw"}, "output": {"limit": None, "escapes": "neutralise"},
}  # fmt: skip
SAID = [
    (MANY, """
- The folder of the script, at /box.
- Of folders of the host, files and folders that begin with a dot are hidden.
+ Where it starts warm, imported before any untrusted code runs: xml.dom, json.
+ Where it starts warm, statements of the policy's have run before any untrusted code (warm_up).
+ A copy of the script's folder, at /box, made when the box starts.
+ /a: /srv of the host, of which only names that match *.csv or x-*.
+ /b: /srv/b of the host.
+ /c: /srv/c of the host.
+ /d: a tree of 3 files that the policy brings.
+ /e: a file of 2 KiB that the policy brings.
+ /f: a file that a function of the caller's generates.
+ Of folders of the host, files and folders that begin with a dot are seen too.
- /box: changes are kept apart and reported; the host's files stay as they are.
- All that it writes in memory and overlays together: at most 64 MiB, 10,000 files.
+ In memory, until the box ends: /box; the host's files stay as they are.
+ /a is read-only.
+ /b: what it changes there is changed on the host, at once.
+ /c: changes are kept apart and reported (at most 2 MiB and 1 file).
+ In memory, until the box ends: /d (at most 1,000 files).
+ /e is read-only.
+ /f is read-only.
+ All that it writes in memory and overlays together: any amount, any number of files.
- The host's clocks.
- A sleep waits for its time.
+ Clocks that start at 2026-01-01 00:00:00 UTC and run 2.5 times as fast as real ones.
+ A sleep waits for its time divided by 2.5.
- From the host's generator: different in each run.
+ From the seed 42: the same program with the same input under the same policy does the same, byte for byte, \
if it has one thread and its time is not the host's.
- 10 s in all; then it is ended (time_limit).
+ 1 min 30 s of real time in all; then it is ended (time_limit).
- 5 s of processor time; then the same.
+ With any amount of processor time.
- 1,000,000 OS calls in all; then it is ended (call_limit).
+ Any number of OS calls.
- 16 threads at once, the main one among them.
+ One thread: no other can be started.
- At most 1 MiB on each of stdout and stderr; the rest is dropped.
- Terminal escape sequences are made visible text on terminals, and kept elsewhere.
- On a notebook's page it can show plain text, image/png, image/jpeg, image/gif, image/svg+xml, application/json; \\
of HTML, tables and text; of anything else, the plain text.
+ At most 2 MiB and 1 line on each of stdout and stderr; then it is ended.
+ Terminal escape sequences are passed on as they are: it can control the terminal.
+ On a notebook's page it can show plain text, image/png, text/html; of anything else, the plain text.
+ With text/html it can do on that page whatever its reader can: read, write and run.
- It lasts until it is closed, whatever its calls use together.
- A call that meets a limit of time is interrupted; if it goes on for 500 ms, the session is ended.
- It cannot be copied.
- A value that goes in or comes out takes at most 1 MiB, encoded.
+ All its calls together: 1 h from its start, 1 min 30 s of processor time, 1 OS call; then it is ended.
+ A call that meets a limit of time ends the session at once.
+ 1,000 copies of it may live at once besides it.
+ A value that goes in or comes out takes at most 1 KiB, encoded.
- User user (uid 1000, gid 1000) with the home folder /home/user.
- On a host named box with 1 processor, locale C.UTF-8.
+ User ann (uid 1000, gid 1000) with the home folder /home/user.
+ On a host named box with 2 processors, locale C.UTF-8.
- No environment variable but the usual ones (HOME, USER, LANG, PATH).
+ Environment variables besides the usual ones: A, B.
- It fails with an error number, as it would on Linux, and is listed in the result.
+ The box is ended (denied).
- Nothing beyond what every box needs; further layers are used where they are there.
+ landlock: a box without them does not start.
"""),
    (OTHERS, """
- /box: changes are kept apart and reported; the host's files stay as they are.
+ /box: what it changes there is changed on the host, at once.
- The host's clocks.
- A sleep waits for its time.
+ Clocks of its own, which start at 2026-01-01 00:00:00 UTC and move as it sleeps and reads them.
+ No clock of the host's can be read; alarms go off by its time while the program computes.
+ A sleep returns at once, with the clocks moved on by its length.
- 10 s in all; then it is ended (time_limit).
- Waiting for a person at a terminal, or a function of the caller's, does not count.
- 5 s of processor time; then the same.
+ 1 s of real time in all; then it is ended (time_limit).
+ Waiting for standard input counts.
+ 1 s of processor time; then the same.
- At most 1 MiB on each of stdout and stderr; the rest is dropped.
- Terminal escape sequences are made visible text on terminals, and kept elsewhere.
+ Any amount.
+ Terminal escape sequences are made visible text.
- It cannot be copied.
+ 1 copy of it may live at once besides it.
"""),
    ({"time": {"kind": "frozen", "at": "2026-01-02"}}, """
- The host's clocks.
- A sleep waits for its time.
+ Clocks that stand still at 2026-01-02 00:00:00 UTC.
+ No clock of the host's can be read; alarms go off by its time while the program computes.
+ A sleep returns at once.
- 10 s in all; then it is ended (time_limit).
+ 10 s of real time in all; then it is ended (time_limit).
"""),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "said"), SAID, ids=["many values", "others", "frozen time"])
def test_how_the_text_differs_from_that_of_the_default(sections, said):
    before, after = (explain_text(Policy(**fields)).splitlines() for fields in ({}, sections))
    changed = [line for line in difflib.unified_diff(before, after, n=0, lineterm="") if line[1:5] == "  - "]
    assert [f"{line[0]} {line[5:]}" for line in changed] == said.replace("\\\n", "").strip().splitlines()


def session_lines(**sections):
    (found,) = (
        section for section in explain_policy(Policy(**sections)) if section.title == "What holds for a session"
    )
    return list(found.lines)


@pytest.mark.parametrize(
    ("limit", "seen"),
    [({}, False), ({"limits.cpu_time": 1}, True), ({"session.wall_time": 1}, True), ({"session.cpu_time": 1}, True)],
)
def test_grace_is_told_of_where_a_limit_of_time_can_interrupt(limit, seen):
    sections = {"limits": {"wall_time": None, "cpu_time": None}, "session": {}}
    for key, value in limit.items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    assert any("limit of time" in line for line in session_lines(**sections)) is seen


def test_sessions_and_preloads_are_written_out():
    session = {"wall_time": 1.5, "calls": 9, "branches": 3, "value_size": "64M", "grace": 0}
    policy = Policy(preload=("json", "xml.dom"), session=session)
    assert to_dict(policy)["preload"] == ["json", "xml.dom"]
    assert to_dict(policy)["session"] == {**session, "cpu_time": "none"}
    assert 'preload = ["json", "xml.dom"]\n' in to_toml(policy)
    assert (
        '[session]\nwall_time = 1.5\ncpu_time = "none"\ncalls = 9\nbranches = 3\nvalue_size = "64M"\ngrace = 0\n'
    ) in to_toml(policy)
    assert from_toml(to_toml(policy)) == policy


def test_what_no_file_can_hold_is_told():
    for source in (print, b"\xff", {"a": {"b": b"\xff"}}):
        with pytest.raises(PolicyError, match=r"filesystem\.mounts\[0\]\.source"):
            to_toml(Policy(filesystem=[Mount("/a", source)]))
    with pytest.raises(PolicyError, match="not Unicode"):
        to_toml(Policy(environment={"variables": {"A": "\udcff"}}))


@pytest.mark.parametrize(("threads", "words"), [
    (0, "One thread: no other can be started."), (1, "One thread: no other can be started."), (2, "2 threads at once"),
    (1000, "256 threads at once"), (None, "256 threads at once"),
])  # fmt: skip
def test_as_many_threads_are_told_of_as_there_can_be(threads, words):
    assert words in explain_text(Policy(limits={"threads": threads}))
