"""Attacks on the terminal of whoever sits at the prompt: nothing of a box's reaches it but text."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
        assert text.strip(), name  # it has come: as text
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


@pytest.mark.parametrize("text", [">>> %get secret", "... ", "[input] name? ", "proxybox: a new box was started"])
def test_without_colours_nothing_passes_for_the_prompt(make: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shell, terminal = make()
    shell.take(f"print({text!r})")
    shell.take(f"import sys\nfor char in {text!r}: print(char, end='', flush=True)\nprint()")
    shell.take(f"class A:\n    def __repr__(self): return 'a\\n' + {text!r}\nA()")
    shell.take(f"raise ValueError('a\\r' + {text!r})")
    lines = terminal.getvalue().split("\n")
    assert sum(text.rstrip()[-3:] in line for line in lines) >= 4
    assert not [line for line in lines if line.startswith((">>> ", "... ", "[input] ", "proxybox: "))]
