"""The parts of the prompt: keys through prompt_toolkit's pipe input, without a terminal."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from proxybox import Session
from proxybox.repl.prompt import Names, TerminalPrompter, history_file, open_history
from proxybox.session import Completeness

Make = Callable[..., Any]
ENTER, ALT_ENTER, CTRL_O, BACKSPACE, LEFT, UP = "\r", "\x1b\r", "\x0f", "\x7f", "\x1b[D", "\x1b[A"


@pytest.fixture
def typed(sitting: Make) -> Iterator[Callable[[str], str]]:
    """Returns a function that presses keys, and returns the block that is read."""
    box = sitting(session={"branches": 0})
    with create_pipe_input() as keys:
        prompt = TerminalPrompter(box.shell, input=keys, output=DummyOutput())

        def read(text: str) -> str:
            keys.send_text(text)
            return prompt.read()

        yield read


@pytest.mark.parametrize(
    ("keys", "block"),
    [
        ("1 + 1" + ENTER, "1 + 1"),
        (ENTER, ""),
        ("if 1:" + ENTER + "x" + ENTER + ENTER, "if 1:\n    x"),
        ("f(" + ENTER + "1)" + ENTER, "f(\n1)"),
        ("if 1:" + ENTER + BACKSPACE + "x" + ENTER, "if 1:\nx"),  # the guest's grammar decides
        ("if 1:" + ENTER + "if 2:" + ENTER + "x" + ENTER + BACKSPACE + "y" + ENTER + ENTER,
         "if 1:\n    if 2:\n        x\n    y"),
        ("1 +" + ENTER, "1 +"),
        ("x = (" + ALT_ENTER, "x = ("),
        ("a" + CTRL_O + "b" + ENTER, "a\nb"),
        ("%get (" + ENTER, "%get ("),
        ("len(?" + ENTER, "len(?"),
        ("a" + CTRL_O + "b" + "\x1b[A" + ENTER + "\x1b[B" + ENTER, "a\n\nb"),  # within a block, Enter begins a new line
    ],
)  # fmt: skip
def test_enter(typed: Callable[[str], str], keys: str, block: str) -> None:
    assert typed(keys) == block


@pytest.mark.parametrize("word", ["exit", " quit "])
def test_no_guest_is_asked_about_leaving(
    typed: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """The guest might not answer."""
    asked: list[str] = []
    monkeypatch.setattr(Session, "is_complete", lambda session, code: asked.append(code) or Completeness("complete"))
    assert typed(word + ENTER) == word
    assert asked == []


def test_earlier_blocks_come_back_whole(typed: Callable[[str], str]) -> None:
    typed("if 1:" + ENTER + "x" + ENTER + ENTER)
    typed("y = 1" + ENTER)
    assert typed(UP + ENTER) == "y = 1"
    assert typed("if" + UP + ALT_ENTER) == "if 1:\n    x"


def test_ctrl_c_and_ctrl_d(typed: Callable[[str], str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        typed("abc\x03")
    with pytest.raises(EOFError):
        typed("\x04")
    assert typed("1\x04" + ENTER) == "1"


def test_questions(sitting: Make) -> None:
    box = sitting(session={"branches": 0})
    with create_pipe_input() as keys:
        prompt = TerminalPrompter(box.shell, input=keys, output=DummyOutput())
        keys.send_text("Ada" + ENTER)
        assert prompt.ask("name? ", echo=True) == "Ada"
        keys.send_text("secret" + ENTER)
        assert prompt.ask("password? ", echo=False) == "secret"
        keys.send_text("\x04")
        with pytest.raises(EOFError):
            prompt.ask("", echo=True)


def test_answers_are_no_blocks(sitting: Make, tmp_path: Path) -> None:
    """The history contains no answers, above all no passwords."""
    box = sitting(session={"branches": 0})
    path = tmp_path / "history"
    with create_pipe_input() as keys:
        prompt = TerminalPrompter(box.shell, input=keys, output=DummyOutput(), history=path)
        keys.send_text("block" + ENTER)
        prompt.read()
        keys.send_text("secret" + ENTER)
        prompt.ask("", echo=False)
        keys.send_text(UP + "next" + ENTER)
        assert prompt.ask("", echo=True) == "next"
    assert "block" in path.read_text()
    assert "secret" not in path.read_text()


def test_names_that_a_terminal_cannot_show_are_left_out(sitting: Make) -> None:
    box = sitting(session={"branches": 0})
    box.do("class A:\n    def __dir__(self): return ['good', 'go\\x1b]52;c;AA\\x07', 'go\\u202e', 'go\\n']\na = A()")
    found = Names(box.shell).get_completions(Document("a.go"), CompleteEvent())
    assert [(each.text, each.start_position) for each in found] == [("good", -2)]


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "proxybox" / "repl_history"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert history_file() == Path("/home/somebody/.local/state/proxybox/repl_history")
    assert open_history(None)[1] == ""
