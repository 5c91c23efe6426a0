"""What a person at a prompt wants to know of the live objects of a session. It runs the program's own code (properties,
`__dir__`), so it has the limits of any call.
"""

import builtins
import keyword
import re

LONGEST, MOST = 1 << 15, 1000
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*\.?$|[^\W\d]\w*$")
_CALL = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*\(?\s*$")


def complete(names, text, cursor):
    """Names that may stand at the cursor: (where the word begins, matches)."""
    before = text[:cursor]
    found = _DOTTED.search(before)
    word = found.group() if found else ""
    holder, dot, start = word.rpartition(".")
    if dot:
        known = dir(look_up(names, holder))
    elif word:
        known = [*names, *dir(builtins), *keyword.kwlist]
    else:
        return cursor, []
    matches = {name for name in known if isinstance(name, str) and name.startswith(start)}
    if not start.startswith("_"):
        matches = {name for name in matches if not name.startswith("_")}
    return cursor - len(start), sorted(matches)[:MOST]


def look_up(names, dotted):
    """The object of a dotted name; NameError, AttributeError."""
    first, *rest = dotted.split(".")
    found = names[first] if first in names else getattr(builtins, first)
    for part in rest:
        found = getattr(found, part)
    return found


def inspect(names, text, cursor, detail):
    """What stands at the cursor: None, or name, type, signature, documentation, and with detail 1 the source."""
    import inspect as look

    after = re.match(r"\w*", text[cursor:]).group()
    found = _CALL.search(text[:cursor] + after)
    if not found:
        return None
    name = found.group(1)
    try:
        thing = look_up(names, name)
    except (AttributeError, KeyError):
        return None
    told = {"name": name, "type": type(thing).__name__, "signature": None, "doc": None, "source": None, "text": None}
    try:
        told["signature"] = str(look.signature(thing)) if callable(thing) else None
    except (TypeError, ValueError):
        pass
    told["doc"] = cut(look.getdoc(thing))
    if not callable(thing):
        told["text"] = cut(repr(thing))
    if detail:
        try:
            told["source"] = cut(look.getsource(thing))
        except (OSError, TypeError):
            pass
    return told


def cut(text):
    return text[:LONGEST] if isinstance(text, str) else None


def is_complete(text):
    """(complete | incomplete | invalid, what the next line is to be indented by)."""
    import codeop
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = codeop.compile_command(text, "<input>", "exec")
    except (SyntaxError, OverflowError, ValueError):
        return "invalid", ""
    lines = text.splitlines() or [""]
    last = lines[-1]
    indent = last[: len(last) - len(last.lstrip())]
    if code is None:
        return "incomplete", indent + "    " if last.rstrip().endswith(":") else indent
    if len(lines) > 1 and last.strip() and indent:
        return "incomplete", indent  # a block goes on until an empty line
    return "complete", ""
