"""Attacks on the terminal of a person at the prompt: only text of the box reaches it."""

import importlib.util
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wcwidth import wcwidth

_spec = importlib.util.spec_from_file_location("terminals", Path(__file__).with_name("terminals.py"))
assert _spec is not None
assert _spec.loader is not None
attacks: Any = importlib.util.module_from_spec(_spec)
sys.modules["terminals"] = attacks
_spec.loader.exec_module(attacks)


@pytest.fixture
def make() -> Iterator[Any]:
    with attacks.shells() as make:
        yield make


@pytest.mark.parametrize("way", attacks.WAYS)
def test_every_sequence_by_every_way(make: Any, way: str) -> None:
    shell, terminal = make()
    reached = {}
    for name, sequence in attacks.SEQUENCES.items():
        start = len(terminal.getvalue())
        attacks.WAYS[way](shell, sequence)
        text = terminal.getvalue()[start:]
        assert shell.console.session.alive
        assert text.strip(), name  # the sequence reached the terminal as text
        if found := attacks.active(text):
            reached[name] = found
    assert reached == {}


def test_with_colours_there_are_no_others_than_ours(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shell, terminal = make()
    for sequence in attacks.SEQUENCES.values():
        for way in ("stderr", "a value's repr", "an exception's text", "an exception's name"):
            attacks.WAYS[way](shell, sequence)
    text = terminal.getvalue()
    assert "\x1b[" in text
    assert attacks.active(attacks._COLOUR.sub("", text)) == ""
    assert "\x1b[8m" not in text


@pytest.mark.parametrize("colours", ["NO_COLOR", "FORCE_COLOR"])
@pytest.mark.parametrize(
    "text",
    [">>> %get secret", "... ", "[input] name? ", "proxybox: a new box was started", ">>>\xa0%get", "\u200d>>> %get",
     ">\u200c>\ufe0f> %get", "\u0301" * 2000 + ">>> %get", "\u1161>>> %get", ">\u11a8>\ud7b0\ud7fb> %get",
     "\u0903>>> %get", "\uff1e>\uff1e %get", "\u2026 ", "\uff3binput] name? "],
)  # fmt: skip
def test_nothing_passes_for_the_prompt(make: Any, text: str, colours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(colours, "1")
    shell, terminal = make()
    shell.take(f"T = {text!r}\nimport sys\nprint(T)\nprint(T, file=sys.stderr)")
    shell.take("for char in T: print(char, end='', flush=True)\nprint()")
    shell.take("class A:\n    def __repr__(self): return 'a\\n' + T\nA()")
    shell.take("raise ValueError('a\\r' + T)")
    lines = attacks._COLOUR.sub("", terminal.getvalue()).split("\n")
    visible = ["".join(unicodedata.normalize("NFKC", char) for char in line if wcwidth(char) != 0) for line in lines]
    assert sum("\\" in line for line in visible) >= 5
    assert not [line for line in visible if line.startswith((">>>", "...", "[input]", "proxybox:"))]


#: Replaces the function that inspects objects for the person at the prompt.
SHOWING = """
import gc, types
for found in gc.get_objects():
    if isinstance(found, types.FunctionType) and found.__name__ == 'inspect' and 'proxybox' in found.__code__.co_filename:
        found.__code__ = (lambda *_: {'name': T, 'type': 'x'}).__code__
        found.__globals__['T'] = T
"""


@pytest.mark.parametrize("name", [">>> %get secret", "\u1161... ", "[input] name?", "proxybox: a new box was started"])
def test_a_guest_that_tells_what_it_likes_of_an_object(make: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shell, terminal = make()
    shell.take(f"T = {name!r}\n{SHOWING}")
    start = len(terminal.getvalue())
    shell.take("len?")
    assert terminal.getvalue()[start:] == f"\\{name}  (x)\n"


def test_a_line_without_end_in_many_pieces(make: Any) -> None:
    """The output takes time in proportion to its length, not to the square of it."""
    shell, terminal = make()
    shell.take("import os\nfor _ in range(20_000): os.write(1, b'x' * 400)")
    assert len(terminal.getvalue()) > 1 << 20


CIRCLES = 'x\n  File "a", line 1!'


def test_a_message_that_looks_like_a_line_of_a_traceback(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lexer of tracebacks must not take time without end."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    shell, terminal = make()
    for text in (CIRCLES, CIRCLES * 500, "\n    " * 2000, '  File "a", line 1, in ' * 500, " \n" * 4000):
        shell.take(f"raise Exception({text!r})")
    assert "Exception" in terminal.getvalue()


def test_a_guest_that_completes_what_it_likes(make: Any) -> None:
    """A completion must continue the word before the cursor and be a name."""
    from proxybox.commands import completion_of

    forged = ["%put /etc/hostname stolen", "imp\nx", "import os; x", "other", "imp" + "o" * 300, "important", 5]
    for start in (0, -5, 10**9):
        assert completion_of((start, forged), "a = imp", 7).matches == ("important",)
        assert completion_of((start, forged), "a = imp", 7).start == 4


def test_looks_ask_nobody(make: Any) -> None:
    shell, terminal = make()
    shell.take(
        "class A:\n    def __dir__(self): return [input('asked')]\n    def __repr__(self): return input('asked')\na = A()"
    )
    assert shell.console.session.complete("a.").matches == ()
    shell.take("a?")
    assert "[input]" not in terminal.getvalue()
    assert shell.console.session.alive


@pytest.mark.parametrize("indent", ["\x1c", "\u2028", "\n", " " * 300, "x"])
def test_indents_that_are_none(indent: str) -> None:
    from proxybox.commands import completeness_of

    assert completeness_of(("incomplete", indent)).indent == ""


def test_a_block_that_is_too_large_to_cross(make: Any) -> None:
    shell, terminal = make()
    assert shell.take("x = '" + "a" * 3_000_000 + "'") is None
    assert "proxybox: " in terminal.getvalue()
    assert shell.console.session.complete("y" * 3_000_000).matches == ()
    assert shell.console.session.alive
