"""The effect of a call is written on its row, and nowhere else; every reader of calls handles each effect."""

import ast
import re
import runpy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from proxybox.controller import dispatch
from proxybox.controller.calleffects import CallEffect, Support
from proxybox.controller.dispatch import NUMBERS, TABLE, UNANSWERED, oscall, unanswered
from proxybox.controller.oscalls import refused, rows
from proxybox.controller.record import redacting
from proxybox.controller.roles import Meaning
from proxybox.controller.seal import confinement, filters, outer
from proxybox.learning import observing
from proxybox.records import openfiles, writes
from proxybox.records.differing import forms, judging
from proxybox.records.explaining import account
from proxybox.terminal import strace

ROOT = Path(__file__).resolve().parents[2]
#: Lists of calls about this machine's kernel, and not about the effect of a call in a box.
OF_THE_KERNEL = {
    "controller/seal/filters.py": "the calls that the seccomp filter of a guest lets through",
    "controller/seal/confinement.py": "the calls that helpers outside of boxes are refused",
    "controller/seal/outer.py": "the calls that the start of a box makes, each of which is tried",
    "controller/process/startfailures.py": "the steps of a start, most of which are named as the calls that they make",
}
NAMES = {*NUMBERS, *UNANSWERED.values(), *filters.NUMBERS}
LISTED = 3


# --- a row ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of the tables, which a test may change."""
    for name in ("TABLE", "NUMBERS", "UNANSWERED"):
        monkeypatch.setattr(dispatch, name, dict(getattr(dispatch, name)))


def handler(world: object) -> int:
    return 0


def theirs(world: object) -> int:
    """A handler that a user of proxybox registers."""
    return 0


handler.__module__ = f"{refused.__package__}.new"


@pytest.mark.usefixtures("tables")
def test_a_row_says_what_the_call_does() -> None:
    with pytest.raises(TypeError, match=r"new: say what it does, @oscall\(900, effect=\.\.\.\)"):
        oscall(900, "new")(handler)
    oscall(900, "new", effect=CallEffect.NONE)(handler)


@pytest.mark.usefixtures("tables")
def test_a_user_may_answer_a_call_and_say_nothing_of_it() -> None:
    number, name = next(iter(UNANSWERED.items()))
    assert dispatch.unknown_name(number) == name
    oscall(number)(theirs)
    assert (dispatch.TABLE[number].effect, dispatch.TABLE[number].support) == (CallEffect.NONE, Support.FULL)
    unanswered(number, name)
    assert number not in dispatch.UNANSWERED
    assert dispatch.unknown_name(99999) == "call_99999"


@pytest.mark.usefixtures("tables")
def test_a_call_has_one_number_and_one_answer() -> None:
    with pytest.raises(ValueError, match="call 0 has two handlers: read, handler"):
        oscall(0, "new", effect=CallEffect.NONE)(handler)
    with pytest.raises(ValueError, match="read has two numbers: 0 and 900"):
        oscall(900, "read", effect=CallEffect.NONE)(handler)
    number = next(iter(UNANSWERED))
    with pytest.raises(ValueError, match=r"take it out of UNANSWERED in oscalls/refused\.py"):
        oscall(number, "new", effect=CallEffect.NONE)(handler)
    with pytest.raises(ValueError, match=r"take it out of UNANSWERED in oscalls/refused\.py"):
        unanswered(0, "read")


def test_another_form_of_a_call_does_what_the_call_does() -> None:
    for number, row in TABLE.items():
        assert row.effect == TABLE[NUMBERS[row.name]].effect, f"call {number}"


def test_a_reason_is_given_for_what_is_lacking() -> None:
    for row in TABLE.values():
        assert (row.support is Support.FULL) == (row.reason == ""), row.name
        assert row.reason.isprintable(), row.name
        assert "|" not in row.reason, f"{row.name}: it stands in a table of docs/calls.md"


def test_what_is_refused_says_so() -> None:
    refusing = {number for number, *_ in (*refused.DENIED, *refused.ABSENT)}
    assert all(TABLE[number].support is Support.REFUSED for number in refusing)


def test_each_word_is_used() -> None:
    used = CallEffect.NONE
    for row in TABLE.values():
        used |= row.effect
    unused = [each.name for each in CallEffect if each not in used]
    assert not unused, f"no call does this any more: take {unused} out of controller/calleffects.py"


def test_where_a_path_begins() -> None:
    assert rows.paths_of("renameat2") == {"old": "olddirfd", "new": "newdirfd"}
    assert rows.paths_of("symlinkat") == {"path": "dirfd"}, "the target is a text"
    assert rows.paths_of("stat") == {"path": ""}
    assert rows.paths_of("setitimer") == rows.paths_of("frobnicate") == {}
    starting = {start for row in TABLE.values() for start in row.paths.values()}
    for row in TABLE.values():
        for name, meaning in row.meanings.items():
            assert (meaning is Meaning.DIRECTORY) == (name in starting - {""}), f"{row.name}: is {name} a DirFd?"


def words() -> Iterator[str]:
    """Yields the words of all tests that make calls or whose programs make them."""
    for path in sorted((ROOT / "tests").rglob("*")):
        if path.suffix in {".py", ".c"} and path.name not in {"profiles.py", "sweep.py", Path(__file__).name}:
            yield from re.findall(r"\w+", path.read_text(encoding="utf-8", errors="replace"))


def test_each_call_is_in_a_test() -> None:
    offered = [row for row in TABLE.values() if row.support is not Support.REFUSED]
    tested = {*words()}
    without = [row.name for row in offered if not {row.name, row.handler.__name__} & tested]
    assert not without, f"write a test of {without}, as tests/oscalls has them"


# --- whoever reads calls ----------------------------------------------------------------------------------------------


def test_nobody_forgets_an_effect() -> None:
    with pytest.raises(ValueError, match=r"CallEffect\.CLOCK: give an answer, or say that there is nothing to do"):
        rows.by_effect({CallEffect.READS: 1}, nothing=~(CallEffect.READS | CallEffect.CLOCK))
    assert rows.by_effect({CallEffect.CLOCK: 1}, nothing=~CallEffect.CLOCK)["time"] == 1


def test_the_answer_that_says_most_of_a_call_counts() -> None:
    both = CallEffect.READS | CallEffect.WRITES
    found = rows.by_effect({CallEffect.READS: "in", both: "through", CallEffect.WRITES: "out"}, nothing=~both)
    assert [found[name] for name in ("read", "write", "sendfile")] == ["in", "out", "through"]
    assert "getpid" not in found


#: Each reader's answers, made by `by_effect`, which refuses a missing effect; and effects for which it must have some.
READERS: dict[str, tuple[Mapping[str, object], CallEffect]] = {
    "learn": (observing._WANTS, CallEffect.OPENS | CallEffect.LOOKS | CallEffect.ALTERS | CallEffect.REMOVES),
    "explain": (account._COUNTED, CallEffect.OPENS | CallEffect.READS | CallEffect.SENDS | CallEffect.CLOCK),
    "diff": (judging._AT_FIRST, CallEffect.OPENS | CallEffect.STATUS | CallEffect.WAITS | CallEffect.RANDOMNESS),
    "redaction": (redacting._HOLDING, CallEffect.OPENS | CallEffect.READS | CallEffect.CALLER),
    "descriptors of a record": (openfiles._FOLLOWED, CallEffect.OPENS | CallEffect.CLOSES | CallEffect.CREATES),
    "files of a record": (writes._ACTS, CallEffect.OPENS | CallEffect.WRITES | CallEffect.RENAMES),
}


@pytest.mark.parametrize(("answers", "effects"), READERS.values(), ids=READERS)
def test_a_reader_answers_every_call_with_an_effect(answers: Mapping[str, object], effects: CallEffect) -> None:
    assert rows.names_of(effects) <= answers.keys()


def test_a_trace_prints_whatever_an_argument_means() -> None:
    without = [each.name for each in Meaning if each not in strace.PRINTERS]
    assert not without, f"say in proxybox/terminal/strace.py how {without} are printed"


def test_times_and_paths_are_no_part_of_a_form() -> None:
    assert forms._derived("clock_nanosleep") == {"request": Meaning.TIME}
    assert set(forms._derived("utimensat")) == {"path", "times"}
    assert not forms._derived("getpid")


# --- no second list ---------------------------------------------------------------------------------------------------


def texts(node: ast.AST) -> list[object]:
    """Returns the texts in a list of any kind; of pairs the first ones; of a text its words."""
    match node:
        case ast.Dict():
            each: list[ast.AST | None] = [*node.keys]
        case ast.Set() | ast.Tuple() | ast.List():
            each = [*node.elts]
        case ast.MatchOr():
            each = [pattern.value for pattern in node.patterns if isinstance(pattern, ast.MatchValue)]
        case ast.Constant(value=str(text)):
            return [*text.split()]
        case _:
            return []
    firsts = (item.elts[0] if isinstance(item, ast.Tuple | ast.List) and item.elts else item for item in each)
    return [item.value if isinstance(item, ast.Constant) else None for item in firsts]


def lists(source: str) -> Iterator[tuple[int, set[str]]]:
    """Yields the lists that consist mostly of calls, each with its line."""
    for node in ast.walk(ast.parse(source)):
        found = texts(node)
        calls = [text for text in found if isinstance(text, str) and text in NAMES]
        if len(set(calls)) >= LISTED and 2 * len(calls) > len(found):
            yield getattr(node, "lineno", 0), set(calls)


@pytest.mark.parametrize(
    ("source", "are_found"),
    [
        ("A = frozenset({'stat', 'lstat', 'access'})", True),
        ("A = {'open': 1, 'openat': 1, 'creat': 1}", True),
        ("A = 'read write pread64'.split()", True),
        ("match name:\n    case 'read' | 'write' | 'lseek': pass", True),
        ("A = [('read', 0), ('write', 1), ('open', 2)]", True),
        ("A = {'stat', 'lstat'}", False),
        ("A = {'red', 'time', 'pipe', 'link', 'blue', 'green', 'grey'}", False),
    ],
)
def test_a_list_of_calls_is_found(source: str, *, are_found: bool) -> None:
    assert any(lists(source)) == are_found


def sources() -> Iterator[Path]:
    for folder in ("controller", "policies", "proxybox", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(above.is_symlink() for above in path.parents) and "oscalls" not in path.parts:
                yield path


def test_no_list_of_calls_stands_beside_the_rows() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}": calls
        for path in sources()
        if str(path.relative_to(ROOT)) not in OF_THE_KERNEL
        for line, calls in lists(path.read_text(encoding="utf-8"))
    }
    assert not found, (
        f"{found}: what calls do is said once, on their rows (controller/oscalls). Ask for the calls that do it: "
        "names_of, numbers_of or by_effect of controller/oscalls/rows.py. Where no word of controller/calleffects.py "
        "says what they have in common, add one, and put it on their rows"
    )


def test_the_lists_of_the_kernels_calls_are_still_there() -> None:
    for name in OF_THE_KERNEL:
        assert any(lists((ROOT / name).read_text(encoding="utf-8"))), f"take {name} out of OF_THE_KERNEL"


@pytest.mark.parametrize(
    "numbers", [filters.NUMBERS, confinement.REFUSED, outer._OF_A_START], ids=["filter", "helpers", "start"]
)
def test_a_call_has_one_number_everywhere(numbers: Mapping[str, int]) -> None:
    known = {**NUMBERS, **{name: number for number, name in UNANSWERED.items()}, **filters.NUMBERS}
    assert dict(numbers) == {name: known[name] for name in numbers}, "the rows of controller/oscalls have the numbers"
    assert {NUMBERS.get(name, number) for name, number in filters.NUMBERS.items()} == {*filters.NUMBERS.values()}


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tool() -> dict[str, Callable[..., str]]:
    return runpy.run_path(str(ROOT / "tools/calls.py"))


@pytest.mark.skipif(not (ROOT / "docs/calls.md").exists(), reason="not a checkout")
def test_the_page_is_what_the_rows_say(tool: dict[str, Callable[..., str]]) -> None:
    assert (ROOT / "docs/calls.md").read_text(encoding="utf-8") == tool["page"](), "it is stale: make calls"


def test_the_page_has_every_call_of_the_kernels(tool: dict[str, Callable[..., str]]) -> None:
    numbers = {int(number) for number in re.findall(r"^\| (\d+) \|", tool["page"](), re.MULTILINE)}
    assert numbers >= {number for number in TABLE if number < 500}
    assert not numbers & UNANSWERED.keys()
