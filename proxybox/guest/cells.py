"""Parts of a cell besides Python: lines that set up matplotlib, and a semicolon that hides its last value."""

import ast
import re

import kind

hidden = kind.hidden
#: Lines of IPython: `%matplotlib inline`, and `%config InlineBackend.figure_format = "retina"`.
_LINE = re.compile(
    r"(?P<indent>[ \t]*)%(?:matplotlib(?:[ \t]+inline)?"
    r"|config[ \t]+InlineBackend\.figure_formats?[ \t]*=[ \t]*(?P<formats>[\[\]{}()'\" \t,\w]+?))[ \t]*(?:\#.*)?"
)
_END = re.compile(r"(\r\n?|\n)")


@hidden
def parsed(source, name, flags):
    """Returns a cell as (its tree, the text of the tree, the formats of each line that sets up matplotlib).

    A line sets up matplotlib only where the compiler finds an error: it may be inside a string.
    """
    asked = []
    while True:
        try:
            return compile(source, name, "exec", flags | ast.PyCF_ONLY_AST, True), source, asked
        except SyntaxError as error:
            pieces = _END.split(source)  # lines, and their ends
            at = 2 * ((error.lineno or 0) - 1)
            found = _LINE.fullmatch(pieces[at]) if 0 <= at < len(pieces) else None
            if found is None:
                raise
            asked.append(tuple(re.findall(r"\w+", found.group("formats") or "")))
            pieces[at] = found.group("indent") + "pass"
            source = "".join(pieces)


@hidden
def is_hushed(source, last):
    """Whether a semicolon follows the last expression, as in IPython. last: its statement."""
    lines = source.encode("utf-8", "surrogatepass").splitlines()  # where lines end for the compiler
    rest = [lines[last.end_lineno - 1][last.end_col_offset :], *lines[last.end_lineno :]]
    return b"".join(line.partition(b"#")[0] for line in rest).strip().endswith(b";")
