"""Colours (SGR) for Python and for tracebacks, in text of a box that is already harmless (harmless.py).

Rule: the time is linear in the length of the text, and bounded. Pygments colours only expressions and lines of source,
a few thousand characters at the most. Its lexer of tracebacks is not used: a message that looks like a line of a
traceback can make it loop.
"""

import re
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pygments.formatter import Formatter

#: Colours that can be read on any background, by Pygments' kinds of tokens.
PYTHON: Final = {
    "Keyword": "magenta", "Keyword.Constant": "cyan", "Operator.Word": "magenta",
    "Literal.String": "green", "Literal.Number": "cyan",
    "Name.Builtin": "cyan", "Name.Exception": "red", "Name.Function": "brightblue", "Name.Class": "brightblue",
    "Name.Decorator": "brightblue", "Comment": "brightblack",
}  # fmt: skip
#: Texts, and lines of a traceback, of more characters than these are not coloured.
MOST, _MOST_OF_LINE = 4000, 400
_FRAME = re.compile(r'(  File )("[^"\n]*")(, line )(\d+)(.*)')
_ERROR = re.compile(r"([^\W\d][\w.]{0,200})(:.*)?")
_RED, _GREEN, _CYAN, _OFF = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[39m"


def python(text: str) -> str:
    """Colours an expression or source."""
    if not text or len(text) > MOST:
        return text
    from pygments import highlight
    from pygments.lexers.python import PythonLexer

    coloured: str = highlight(f"{text}\n", PythonLexer(stripnl=False, ensurenl=False), _formatter())
    return coloured.removesuffix("\n")


def traceback(text: str) -> str:
    """Colours a traceback: the places, the lines of source below them, and the name of the exception."""
    lines, left = [], MOST
    for line in text.split("\n"):
        if frame := _FRAME.fullmatch(line[:_MOST_OF_LINE]):
            start, file, word, number, rest = frame.groups()
            line = f"{start}{_GREEN}{file}{_OFF}{word}{_CYAN}{number}{_OFF}{rest}{line[_MOST_OF_LINE:]}"
        elif line.startswith("    ") and len(line) <= min(left, _MOST_OF_LINE):
            left -= len(line)
            line = python(line)
        elif not line.startswith((" ", "Traceback ")) and (error := _ERROR.fullmatch(line)):
            line = f"{_RED}{error[1]}{_OFF}{error[2] or ''}"
        lines.append(line)
    return "\n".join(lines)


@cache
def _formatter() -> "Formatter[str]":
    from pygments.formatters.terminal import TerminalFormatter
    from pygments.token import Token, string_to_tokentype

    colours = {Token: ("", ""), **{string_to_tokentype(kind): (colour, colour) for kind, colour in PYTHON.items()}}
    return TerminalFormatter(colorscheme=colours)
