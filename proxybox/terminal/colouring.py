"""Colours (SGR) of Python and of tracebacks, for text of a box's that is harmless already.

Rule: it takes time that grows with the text as its length does, and that is bounded. Pygments colours expressions and
lines of source, a few thousand characters at the most; its lexer of tracebacks is not used, since it can be led round
in circles by a message that looks like a line of one.
"""

import re
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pygments.formatter import Formatter

#: Colours for any background, by kinds of tokens (Pygments).
PYTHON: Final = {
    "Keyword": "magenta", "Keyword.Constant": "cyan", "Operator.Word": "magenta",
    "Literal.String": "green", "Literal.Number": "cyan",
    "Name.Builtin": "cyan", "Name.Exception": "red", "Name.Function": "brightblue", "Name.Class": "brightblue",
    "Name.Decorator": "brightblue", "Comment": "brightblack",
}  # fmt: skip
#: Longer texts, and longer lines of a traceback, stay as they are.
MOST, _MOST_OF_LINE = 4000, 400
_FRAME = re.compile(r'(  File )("[^"\n]*")(, line )(\d+)(.*)')
_ERROR = re.compile(r"([^\W\d][\w.]{0,200})(:.*)?")
_RED, _GREEN, _CYAN, _OFF = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[39m"


def python(text: str) -> str:
    """An expression or source."""
    if not text or len(text) > MOST:
        return text
    from pygments import highlight
    from pygments.lexers.python import PythonLexer

    coloured: str = highlight(f"{text}\n", PythonLexer(stripnl=False, ensurenl=False), _formatter())
    return coloured.removesuffix("\n")


def traceback(text: str) -> str:
    """A traceback: the places, the lines of source below them, and the name of the exception."""
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
