"""Output compared as contest judges do, and values as teachers mean it."""

import math
from typing import Any

import pytest

from proxybox.teach.compare import alike, difference
from proxybox.teach.shown import shown
from proxybox.teach.student import line_of


@pytest.mark.parametrize(
    ("output", "expected"),
    [("8\n", "8"), (" 1  2\n3 ", "1 2 3"), ("", ""), ("\n\n", ""), ("a\r\nb", "a b"), ("1.0", "1.0")],
)
def test_the_same_tokens(output: str, expected: str) -> None:
    assert difference(output, expected) == ""


@pytest.mark.parametrize(
    ("output", "expected", "words"),
    [
        ("7", "8", "'8' was expected, and '7' came (word 1, line 1)"),
        ("1\n2 x", "1 2 3", "'3' was expected, and 'x' came (word 3, line 2)"),
        ("1 2", "1", "there is more output than was expected: '2' on line 1"),
        ("1", "1 2", "the output ends where '2' was expected"),
        ("", "1", "the output ends where '1' was expected"),
        ("a" * 100, "b", f"'b' was expected, and '{'a' * 60}...' came (word 1, line 1)"),
        ("nan", "1.0", "'1.0' was expected, and 'nan' came (word 1, line 1)"),
    ],
)
def test_other_tokens(output: str, expected: str, words: str) -> None:
    assert difference(output, expected, tolerance=1e-6) == words


@pytest.mark.parametrize(
    ("output", "same"), [("3.1416", True), ("3.2", False), ("pi", False), ("31416e-4", True), ("inf", False)]
)
def test_numbers_within_a_tolerance(output: str, same: bool) -> None:
    assert (difference(output, str(math.pi), tolerance=1e-4) == "") is same


def test_lines() -> None:
    assert difference("1 2\n3", "1 2 3") == ""
    assert difference("1 2\n3", "1 2 3", lines=True).startswith("line 1: ")
    assert difference("1 2\n3\n", "1  2\n3", lines=True) == ""


@pytest.mark.parametrize(
    ("value", "expected", "tolerance", "same"),
    [
        (1, 1, None, True), (1.0, 1, None, True), (True, 1, None, False), (1, True, None, False),
        (None, None, None, True),
        (0, None, None, False), ("1", 1, None, False), ([1], (1,), None, False), ([1, [2.0]], [1, [2]], None, True),
        (0.1 + 0.2, 0.3, None, False), (0.1 + 0.2, 0.3, 1e-9, True), ([0.1 + 0.2], [0.3], 1e-9, True),
        ({"a": 0.3}, {"a": 0.1 + 0.2}, 1e-9, True), ({"a": 1}, {"b": 1}, None, False), ([1, 2], [1], None, False),
        (float("nan"), float("nan"), 1e-9, False), ({1, 2}, {2, 1}, None, True),
        (b"a", "a", None, False), (float("inf"), float("inf"), None, True),
        ({"a": [1]}.items(), {"a": [1]}.items(), None, True), ({"a": [1]}.items(), {"a": [2]}.items(), None, False),
        ({"a": [1]}.items(), {("a", 1)}, None, False), ({("a", 1)}, {"a": [1]}.items(), None, False),
        ({("a", 1)}, {"a": 1}.items(), None, True), ({"a": 0.3}.items(), {"a": 0.1 + 0.2}.items(), 1e-9, True),
        ({"a": 1, "b": 2}.values(), {"c": 1, "d": 2}.values(), None, True),
        ({"a": 1, "b": 2}.values(), {"a": 2, "b": 1}.values(), None, False),
        ({"a": True}.values(), {"a": 1}.values(), None, False), ([1], {"a": 1}.values(), None, False),
    ],
)  # fmt: skip
def test_values(value: Any, expected: Any, tolerance: float | None, same: bool) -> None:
    assert alike(value, expected, tolerance) is same


def test_values_are_shown_harmless_and_short() -> None:
    assert shown("\x1b[2J") == repr("\x1b[2J")
    assert len(shown("a" * 10_000)) < 210
    assert "thousands of digits" in shown([10**5000])


@pytest.mark.parametrize(
    ("traceback", "line"),
    [('  File "s.py", line 3, in f\n  File "/usr/lib/x.py", line 9', 3), ("", None), ('File "s.py", line x', None),
     ('File "s.py", line 1\nFile "s.py", line 12\n', 12), ('File "s.py", line ' + "9" * 50, 999999999)],
)  # fmt: skip
def test_the_line_of_the_submission(traceback: str, line: int | None) -> None:
    assert line_of(traceback, "s.py") == line


def test_a_number_that_no_float_is_as_large_as() -> None:
    assert not alike(10**5000, 1.5, 1e-9)
