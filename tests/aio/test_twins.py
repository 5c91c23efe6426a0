"""Blocking classes and their twins for event loops have the same names, the same arguments, and the same docstrings."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxybox import AsyncPool, AsyncSandbox, AsyncSession, Pool, Sandbox, Session

DOCS = Path(__file__).resolve().parents[2] / "docs"
TWINS: list[tuple[type, type]] = [(Sandbox, AsyncSandbox), (Session, AsyncSession), (Pool, AsyncPool)]
_FUTURES = "an Executor gives futures to threads; a loop has tasks"
_CANCELS = "a loop cancels the task that waits"
_HERE = "a Pool's boxes may be those of other processes, where its caller sees no calls and has no interpreter"
_NO_LOOP = "for the command line and its like, which have no loop"

#: Names that only one of two twins has, with the reason.
ONLY = {
    (Pool, "submit"): _FUTURES,
    (Pool, "map"): _FUTURES,
    (Pool, "shutdown"): _FUTURES,
    (AsyncPool, "guest"): _HERE,
    (AsyncPool, "interrupt"): _HERE,
}
#: Parameters that only one of two twins has, with the reason.
PARAMETERS_ONLY = {
    (Sandbox, "run", "on_start"): _CANCELS,
    (Pool, "run", "on_start"): _CANCELS,
    (Sandbox, "run_program", "on_stdout"): _NO_LOOP,
    (Sandbox, "run_program", "on_stderr"): _NO_LOOP,
    (Sandbox, "run_program", "capture"): _NO_LOOP,
    (Sandbox, "run_program", "on_start"): _CANCELS,
    (Pool, "run_program", "on_start"): _CANCELS,
    (Pool, "run_program", "on_stdout"): _NO_LOOP,
    (Pool, "run_program", "on_stderr"): _NO_LOOP,
    (Pool, "__init__", "processes"): "one thread serves all boxes of a loop; a server's workers are its own affair",
    (AsyncPool, "__init__", "interceptors"): _HERE,
    (AsyncPool, "__init__", "audit"): _HERE,
    (AsyncPool, "__init__", "guest_library"): _HERE,
}
#: Classes whose objects only a sandbox or a pool makes.
MADE_INSIDE = {Session}

_OF_LOOPS = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
_SPELT = [
    (r"proxybox\.(\w+\.)+", ""),
    (r"AsyncSession", "Session"),
    (r"collections\.abc\.AsyncGenerator", "collections.abc.Iterator"),
    (r"collections\.abc\.Callable\[\[str\], (typing\.Any|object)\]", "Callback"),
]


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """Replaces the fixture that looks for leaks: no box starts here, and 200 looks would take half a minute."""


def names(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")} | {"__init__", *_OF_LOOPS} & set(dir(cls))


def spelt(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for pattern, word in _SPELT:
        text = re.sub(pattern, word, text)
    return text.strip("'\"")


def parameters(cls: type, name: str) -> Iterator[tuple[str, Any, Any, str]]:
    """Yields the parameters of a method. Keyword arguments that `__init__` passes on to another class are left out."""
    found = inspect.signature(getattr(cls, name)).parameters.values()
    handed_on = [each for each in found if each.kind is each.VAR_KEYWORD and each.name == "options"]
    for each in found:
        if (cls, name, each.name) not in PARAMETERS_ONLY and each not in (handed_on if name == "__init__" else ()):
            yield each.name, each.kind, each.default, spelt(each.annotation)


PAIRS = [
    pytest.param(one, other, name, id=f"{other.__name__}.{name}")
    for one, other in TWINS
    for name in sorted(names(one) & (names(other) | set(_OF_LOOPS)))
    if not (name == "__init__" and one in MADE_INSIDE)
]


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_each_has_what_the_other_has(one: type, other: type) -> None:
    mine, theirs = names(one), {_OF_LOOPS.get(name, name) for name in names(one)}
    assert {(one, name) for name in mine if _OF_LOOPS.get(name, name) not in dir(other)} == {
        key for key in ONLY if key[0] is one
    }
    assert {(other, name) for name in names(other) - theirs} == {key for key in ONLY if key[0] is other}


@pytest.mark.parametrize(("one", "other", "name"), PAIRS)
def test_they_take_the_same(one: type, other: type, name: str) -> None:
    twin = _OF_LOOPS.get(name, name)
    mine, theirs = getattr(one, name), getattr(other, twin)
    if isinstance(mine, property) or isinstance(theirs, property):
        assert isinstance(mine, property)
        assert isinstance(theirs, property)
        assert (mine.fset is None) == (theirs.fset is None)
        mine, theirs = mine.fget, theirs.fget
    else:
        fixed = [each for each in parameters(one, name) if each[1] is not inspect.Parameter.VAR_KEYWORD]
        assert [each for each in parameters(other, twin) if each[1] is not inspect.Parameter.VAR_KEYWORD] == fixed
        if name != "__init__":
            assert list(parameters(other, twin)) == list(parameters(one, name))
    returned = [spelt(inspect.signature(each).return_annotation) for each in (mine, theirs)]
    assert returned[0] == returned[1]


@pytest.mark.parametrize(("cls", "name", "parameter"), PARAMETERS_ONLY)
def test_a_difference_that_is_listed_is_one(cls: type, name: str, parameter: str) -> None:
    twins = dict(TWINS) | {other: one for one, other in TWINS}
    taken = {each for base in cls.__mro__ if hasattr(base, name) for each in _named(base, name)}
    assert parameter in taken
    assert parameter not in _named(twins[cls], name)


def _named(cls: type, name: str) -> list[str]:
    return list(inspect.signature(getattr(cls, name)).parameters)


@pytest.mark.parametrize(("one", "other", "name"), PAIRS)
def test_both_say_what_it_is(one: type, other: type, name: str) -> None:
    if name.startswith("__"):
        return
    assert inspect.getdoc(getattr(one, name))
    words = inspect.getdoc(getattr(other, name)) or ""
    assert words
    if as_other := re.match(r"As `(\w+)\.(\w+)`", words):
        assert as_other.groups() in {(one.__name__, name), (other.__mro__[1].__name__, name), ("Sandbox", name)}


@pytest.mark.parametrize("cls", [Sandbox, Pool, AsyncPool])
def test_every_argument_is_told(cls: type) -> None:
    words = inspect.getdoc(cls) or ""
    for name in {name for each in (cls, *cls.__mro__) if "__init__" in vars(each) for name in _named(each, "__init__")}:
        if name not in ("self", "options", "args", "kwargs"):
            assert re.search(rf"\b{name}\b", words), name


def test_every_call_of_a_session_is_in_the_document() -> None:
    text = (DOCS / "api.md").read_text()
    for name in names(Session) - set(_OF_LOOPS) - {"__init__"}:
        assert re.search(rf"^\| .*`[^`\n]*\b{name}\b", text, re.MULTILINE), name
