"""Questions in a real terminal: what each answer allows, and what is never allowed without an answer of its own."""

import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

from tests.learning.hosts import SECRET, Place

QUESTION = r"let it in\? .* \[n\] "
READS_TWO = (
    "import sys\nfor name in ('sales.csv', 'texts/a.txt'):\n    print(len(open(sys.argv[1] + '/' + name).read()))\n"
)
READS_SECRET = "import os\nprint(len(open(os.path.expanduser('~/.ssh/id_rsa')).read()))\n"


class Terminal:
    """`proxybox learn` in a terminal."""

    def __init__(self, place: Place, *words: Any, **variables: str) -> None:
        self.child = pexpect.spawn(
            sys.executable, ["-m", "proxybox.cli", "learn", *map(str, words)], encoding="utf-8", timeout=60,
            env={**place.environment(), "TERM": "xterm", "NO_COLOR": "1", **variables}, dimensions=(50, 250),
        )  # fmt: skip

    def question(self) -> str:
        """Waits for a question; returns the output up to it."""
        self.child.expect(QUESTION)
        return str(self.child.before)

    def answer(self, word: str) -> None:
        self.child.sendline(word)

    def end(self) -> str:
        """Waits for the end; returns the output up to it."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        return str(self.child.before)


@pytest.fixture
def started() -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for each in made:
        each.child.close(force=True)


def test_each_line_is_asked_with_its_calls_and_what_it_lets_in(place: Place, started: list[Terminal]) -> None:
    term = Terminal(place, "-o", place.root / "x.toml", place.script(READS_TWO), place.data)
    started.append(term)
    first = term.question()
    assert f"[1] {place.data}/sales.csv, read-only" in first
    assert "wanted by openat ×1" in first
    assert "lets in this file alone, 26 bytes" in first
    assert not (place.root / "x.toml").exists()
    term.answer("y")
    assert f"[2] {place.data}/texts/a.txt, read-only" in term.question()
    term.answer("yes")
    assert "passes under this policy, with 2 lines learned" in term.end()
    assert term.child.exitstatus == 0
    assert (place.root / "x.toml").read_text().count("[[filesystem.mounts]]") == 2


@pytest.mark.parametrize("answer", ["n", "", "no"])
def test_what_is_refused_is_not_let_in_and_not_asked_again(answer: str, place: Place, started: list[Terminal]) -> None:
    term = Terminal(place, "-o", place.root / "x.toml", place.script(READS_TWO), place.data)
    started.append(term)
    term.question()
    term.answer(answer)
    assert "the program does not pass: error (FileNotFoundError" in term.end()
    assert term.child.exitstatus == 1
    text = (place.root / "x.toml").read_text()
    assert "[[filesystem.mounts]]" not in text
    assert f"# Not let in: {place.data}/sales.csv" in text


def test_all_asks_no_more_but_for_secrets(place: Place, started: list[Terminal]) -> None:
    term = Terminal(place, place.script(READS_TWO + READS_SECRET), place.data)
    started.append(term)
    term.question()
    term.answer("a")
    asked = term.question()
    assert "texts/a.txt" not in asked.partition("[2]")[2]
    assert "SECRET? .ssh begins with a dot" in asked
    term.answer("a")
    assert "asked alone: y or n" in term.question()
    term.answer("n")
    assert "does not pass" in term.end()


def test_a_secret_is_let_in_by_its_own_answer(place: Place, started: list[Terminal]) -> None:
    term = Terminal(place, place.script(READS_SECRET), place.data)
    started.append(term)
    assert "SECRET?" in term.question()
    term.answer("y")
    said = term.end()
    assert term.child.exitstatus == 0
    assert SECRET not in said  # the program's output is not shown


@pytest.mark.parametrize("way", ["q", "end of input"])
def test_quitting_lets_nothing_more_in(way: str, place: Place, started: list[Terminal]) -> None:
    term = Terminal(place, "-o", place.root / "x.toml", place.script(READS_TWO), place.data)
    started.append(term)
    term.question()
    term.answer("y")
    term.question()
    if way == "q":
        term.answer("q")
    else:
        term.child.sendeof()
    assert "does not pass" in term.end()
    assert (place.root / "x.toml").read_text().count("[[filesystem.mounts]]") == 1


def test_ctrl_c_at_a_question_ends_it_with_nothing_written(place: Place, started: list[Terminal]) -> None:
    term = Terminal(place, "-o", place.root / "x.toml", place.script(READS_TWO), place.data)
    started.append(term)
    term.question()
    term.child.sendintr()
    term.end()
    assert term.child.signalstatus == signal.SIGINT or term.child.exitstatus == 130
    assert not (place.root / "x.toml").exists()


def test_ctrl_c_in_a_run_ends_it(place: Place, started: list[Terminal]) -> None:
    script = place.script(READS_TWO + "while True: pass\n")
    term = Terminal(place, "--set", "limits.cpu_time=300", "--set", "limits.wall_time=300", script, place.data)
    started.append(term)
    for _ in range(2):
        term.question()
        term.answer("y")
    term.child.expect("y\r\n")
    term.child.sendintr()
    term.end()
    assert term.child.signalstatus == signal.SIGINT or term.child.exitstatus == 130


def test_what_was_typed_before_a_question_answers_nothing(place: Place, started: list[Terminal]) -> None:
    """A user who types ahead, while the program runs, has not read the question."""
    term = Terminal(place, place.script("sum(range(10**7))\n" + READS_SECRET))
    started.append(term)
    term.answer("y")
    term.answer("y")
    term.question()
    term.answer("n")
    assert "does not pass" in term.end()


def test_colours_honour_no_color(place: Place, started: list[Terminal]) -> None:
    for variables, is_coloured in (({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)):
        term = Terminal(place, place.script(READS_SECRET), place.data, **variables)
        started.append(term)
        assert ("\x1b[31m" in term.question()) is is_coloured
        term.answer("q")
        term.end()


def test_a_forged_question_reaches_no_terminal(place: Place, started: list[Terminal]) -> None:
    """A program prints a false question about something else, and moves the cursor."""
    forged = (
        "import sys\nprint('\\x1b[2J\\x1b[H[1] nothing at all\\n    let it in? [n] ')\n"
        "print('\\x1b]0;x\\x07', file=sys.stderr)\n"
    )
    term = Terminal(place, place.script(forged + READS_TWO), place.data)
    started.append(term)
    asked = term.question()
    assert "nothing at all" not in asked
    assert not re.search(r"\x1b|\x07", asked)
    term.answer("q")
    assert "\x1b" not in term.end()
