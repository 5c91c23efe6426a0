"""Tables: the same in every pipe, no wider than a terminal, with each text as it is."""

import io
import subprocess
import sys

import pytest
from wcwidth import wcswidth

from proxybox.terminal.tables import console, table

HEAD = ("% time", "calls", "call")
ROWS = [["1.00", "2", ("red", "openat")], ["100.00", "34", "日本語"]]


def test_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says about terminals: no colours, no spaces at the end, the same columns."""
    wanted = """\
% time  calls  call
------  -----  ------
  1.00      2  openat
100.00     34  日本語
------  -----  ------
            3  total"""
    for name, value in (("COLUMNS", "10"), ("FORCE_COLOR", "1"), ("TERM", "dumb"), ("TTY_COMPATIBLE", "1"),
                        ("COLORTERM", "truecolor")):  # fmt: skip
        monkeypatch.setenv(name, value)
        assert table(HEAD, ROWS, ("", "3", "total"), right=(0, 1)) == wanted
    assert table((), [["ada", "1"], ["日本語", ""]]) == "ada     1\n日本語"
    assert table((), []) == ""
    long = table(HEAD, [["x" * 5000] * 3])
    assert max(map(len, long.splitlines())) == 15004


def test_colours_are_those_of_the_words_alone() -> None:
    shown = table(HEAD, ROWS, right=(0, 1), coloured=True)
    assert "\x1b[31mopenat\x1b[0m" in shown
    assert shown.count("\x1b") == 2
    shown = table((), [[("green", "日本語"), "x"], ["long text", "y"]], coloured=True)
    assert shown.startswith("\x1b[32m日本語\x1b[0m     x\n")


@pytest.mark.parametrize(
    "text",
    ["[red]x[/red]", "[link=file:///etc/passwd]x[/link]", ":smile:", "[/]", "\\[b]", "https://x.org 'a' 1 True None"],
)
def test_a_text_is_a_text(text: str) -> None:
    assert table((), [[("red", text), text]], coloured=True) == f"\x1b[31m{text}\x1b[0m  {text}"


@pytest.mark.parametrize("columns", [30, 41, 60, 80, 200])
@pytest.mark.parametrize("name", ["Ada Lovelace of London " * 4, "アダ・ラブレス" * 9, "e\u0301" * 80])
def test_on_a_terminal(columns: int, name: str) -> None:
    """Names are cut to a width in columns; figures are not cut."""
    rows = [[name, "1.5 / 2", name], ["bob", "1 / 2", ""]]
    lines = table(("Submission", "Score", "Alike"), rows, columns=columns, shrinking=(0, 2)).splitlines()
    least = 10 + 2 + 7 + 2 + 12
    assert all(wcswidth(line) <= max(columns, least) for line in lines)
    assert "1.5 / 2" in lines[2]
    assert lines[2].count("…") == (2 if 2 * wcswidth(name) + 11 > columns else 0)
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"NO_COLOR": "1"}, False),
    ],
)
def test_what_rich_writes_has_colours_where_ours_has(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    file = io.StringIO()
    console(file).print("yes", style="green")
    assert ("\x1b[32m" in file.getvalue()) is coloured


def test_rich_is_loaded_by_a_table_alone() -> None:
    code = (
        "import sys, proxybox.cli.trace, proxybox.cli.grade, proxybox.cli.policy, proxybox.cli.doctor\n"
        "assert 'rich' not in sys.modules\n"
        "from proxybox.terminal.tables import table; table(('a',), [])\n"
        "assert 'rich.table' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
