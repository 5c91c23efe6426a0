"""Where proxybox's options end and the program's options begin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxybox.cli import options as shared
from proxybox.cli.arguments import BATCH, LEARN, PROGRAM, REPL, RUN, TRACE, Option, Parsed, parse
from proxybox.cli.choosing import choose_policy
from proxybox.cli.programs import program_command
from proxybox.policies.declaring import Measure
from proxybox.policies.keys import keys

ALL = {option.flags: option for option in (*RUN, *TRACE, *LEARN, *REPL, *BATCH, *PROGRAM)}.values()
#: Values without completion: texts that only the user knows.
OWN_TEXTS = {"CODE", "MODULE", "SRC:DST[:MODE]", "DURATION", "SIZE", "NAME=VALUE", "NAME", "ARGS", "N", "ADDRESS"}


@pytest.mark.parametrize(
    ("words", "kind", "program", "rest"),
    [
        (["script.py"], "script", "script.py", ()),
        (["script.py", "--policy", "x", "-c"], "script", "script.py", ("--policy", "x", "-c")),
        (["-c", "pass", "--rw", "--", "-"], "code", "pass", ("--rw", "--", "-")),
        (["-cpass", "a"], "code", "pass", ("a",)),
        (["-m", "json.tool", "--json"], "module", "json.tool", ("--json",)),
        (["-", "--json"], "stdin", "-", ("--json",)),
        (["--", "-weird.py", "x"], "script", "-weird.py", ("x",)),
        (["--rw", "-v", "a.py", "--", "b"], "script", "a.py", ("--", "b")),
        (["-c", "", ""], "code", "", ("",)),
        (["--code=1", "-x"], "code", "1", ("-x",)),
    ],
)
def test_the_program_ends_the_options(words: list[str], kind: str, program: str, rest: tuple[str, ...]) -> None:
    for parsed in (parse(words, RUN), by_click(words)):
        assert parsed is not None
        assert (parsed.kind, parsed.program, parsed.arguments) == (kind, program, rest)


@pytest.mark.parametrize("line", ["", "--help", "-h", "--nope x", "--policy", "-c", "--rw=1 x", "--"])
def test_what_is_not_well_formed_is_left_to_click(line: str) -> None:
    assert parse(line.split(), RUN) is None


def test_repeated_options_are_kept_in_order() -> None:
    parsed = parse(["--set", "a=1", "-sb=2", "--set=c=3", "--timeout", "2", "x.py"], RUN)
    assert parsed is not None
    assert parsed.texts("set") == ("a=1", "b=2", "c=3")
    assert parsed.text("timeout") == "2"
    assert parsed.text("memory") is None
    assert not parsed.flag("json")


@pytest.mark.parametrize("option", ALL, ids=lambda option: option.flags[0])
def test_what_is_declared_of_an_option(option: Option) -> None:
    assert option.help.endswith((".", "...")), "a sentence"
    assert option.metavar is None or option.metavar in shared.completers().keys() | OWN_TEXTS, (
        f"say in options.completers() what completes {option.metavar}, or add it to OWN_TEXTS here"
    )
    made = shared.click_option(option)
    assert made.help is not None
    assert option.sets in made.help


@pytest.mark.parametrize("option", [each for each in ALL if each.sets], ids=lambda option: option.flags[0])
def test_an_option_that_is_another_name_for_a_key(option: Option) -> None:
    assert option.sets in keys(), f"there is no such key of a policy: {option.sets}"
    key = keys()[option.sets]
    assert option.metavar == {Measure.SIZE: "SIZE", Measure.DURATION: "DURATION", Measure.COUNT: "N"}[key.facts.measure]
    given, value = {"SIZE": ("77M", 77 << 20), "DURATION": ("77s", 77), "N": ("77", 77)}[option.metavar]
    parsed = parse([option.flags[0], given, "x.py"], RUN)
    assert parsed is not None
    assert key.of(choose_policy(parsed)) == value


@pytest.mark.parametrize("table", [RUN, TRACE])
def test_no_spelling_is_used_twice(table: tuple) -> None:  # type: ignore[type-arg]
    flags = [flag for option in (*table, *PROGRAM) for flag in option.flags]
    assert len(flags) == len(set(flags))


def by_click(words: list[str]) -> Parsed:
    """Returns what click parses from the same words."""
    seen: list[Parsed] = []

    def keep(parsed: Parsed) -> int:
        seen.append(parsed)
        return 0

    command = program_command("run", "", "", RUN, keep)
    command.main(words, standalone_mode=False)
    return seen[0]


values = st.text("ab=/-.: ", max_size=4)
one_option = st.sampled_from(RUN).flatmap(
    lambda option: st.tuples(st.sampled_from(option.flags), st.none() if option.metavar is None else values)
)
programs = st.one_of(
    st.tuples(st.sampled_from(["-c", "-m", "--code", "--module"]), values),
    st.tuples(st.sampled_from(["x.py", "-"])),
    st.tuples(st.just("--"), st.sampled_from(["-x.py", "y"])),
)
tails = st.lists(st.sampled_from(["-c", "--", "-", "--rw", "x", "", "-vh", "--help"]), max_size=3)


@given(st.lists(one_option, max_size=4), programs, tails)
def test_both_parsers_agree(options: list[tuple[str, str | None]], program: tuple[str, ...], tail: list[str]) -> None:
    words = [word for pair in options for word in pair if word is not None]
    words += [*program, *tail]
    fast = parse(words, RUN)
    if fast is not None:
        assert fast == by_click(words)
