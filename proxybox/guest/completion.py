"""Answers questions of a person at a prompt about the live objects of a session.

It runs the program's own code (properties, `__dir__`), so it has the limits of any call.
"""

import builtins
import codeop
import keyword
import re
import sys
import warnings

import kind

LONGEST, MOST = 1 << 15, 1000
#: How many characters before the cursor are searched for a name: the regular expressions take quadratic time.
NEAR = 1000
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*\.?$")
_CALL = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)\s*\(?\s*$")
_IMPORT = re.compile(
    r"\s*(?:from\s+([\w.]+)\s+import\s+(?:[\w\s,(]*[,(\s])?|(?:import|from)\s+(?:[\w\s,.]*,\s*)?)[\w.]*$"
)


class Lent:
    """A context in which our modules are in sys.modules, for the library (bootstrap.own says why)."""

    def __init__(self, *modules):
        self.modules = {module.__name__: module for module in modules}

    def __enter__(self):
        self.theirs = {name: sys.modules[name] for name in self.modules if name in sys.modules}
        sys.modules.update(self.modules)

    def __exit__(self, *_):
        for name in self.modules:
            sys.modules.pop(name, None)
        sys.modules.update(self.theirs)


def complete(names, text, cursor):
    """Returns the names that may follow at the cursor: (where the word begins, matches)."""
    line = re.split(r"[\n;]", text[:cursor])[-1][-NEAR:]
    found = _DOTTED.search(line)
    word = found.group() if found else ""
    holder, dot, start = word.rpartition(".")
    importing = _IMPORT.match(line)
    if importing and importing.group(1):
        known = attributes(sys.modules.get(importing.group(1)))
    elif importing:
        known = modules(holder)
    elif dot:
        try:
            known = attributes(look_up(names, holder))
        except Exception:
            known = []
    # after `f().`, the names depend on a value that is known only when the code runs
    elif word and not line[: -len(word)].rstrip().endswith("."):
        known = [*names, *dir(builtins), *keyword.kwlist]
    else:
        known = []
    matches = {name for name in known if isinstance(name, str) and name.startswith(start)}
    if not start.startswith("_"):
        matches = {name for name in matches if not name.startswith("_")}
    return cursor - len(start), sorted(matches)[:MOST]


def attributes(thing):
    """Returns the names that may follow a dot after an object."""
    return [] if thing is None else [name for name in dir(thing) if isinstance(name, str)]


def modules(package):
    """Returns names of modules in a package, or at the top level: loaded, built-in, and files in a folder."""
    depth = package.count(".") + 1 if package else 0
    known = {name.split(".")[depth] for name in sys.modules if not package or name.startswith(package + ".")}
    folders = list(sys.path)
    if package:
        folders = getattr(sys.modules.get(package), "__path__", [])
    else:
        known.update(sys.builtin_module_names)
    posix = sys.modules["posix"]
    for folder in folders:
        try:
            entries = posix.listdir(folder or ".")
        except OSError:
            continue
        known.update(entry.partition(".")[0] for entry in entries if "." not in entry or entry.endswith((".py", ".so")))
    return [name for name in known if name.isidentifier()]


@kind.hidden
def look_up(names, dotted):
    """Returns the object of a dotted name.

    Raises NameError or AttributeError when there is none.
    """
    first, *rest = dotted.split(".")
    if first in names:
        found = names[first]
    elif first in vars(builtins):
        found = vars(builtins)[first]
    else:
        raise NameError(f"name {first!r} is not defined")
    for part in rest:
        found = getattr(found, part)
    return found


def inspect(look, sources, names, text, cursor, detail):
    """Returns None, or the name, type, signature, documentation and, with detail 1, source of the object at the cursor.

    look: the library's module `inspect`. sources: the `Sources` of the session.
    """
    look.functools = sys.modules.get("functools", look.functools)  # the program may have used its partial()
    after = re.match(r"\w*", text[cursor:]).group()
    found = _CALL.search(text[:cursor][-NEAR:] + after)
    if not found:
        return None
    name = found.group(1)
    try:
        thing = look_up(names, name)
    except (AttributeError, NameError):
        return None
    facts = {"name": name, "type": type(thing).__name__, "signature": None, "doc": None, "source": None, "text": None}
    try:
        facts["signature"] = cut(str(look.signature(thing))) if callable(thing) else None
    except (TypeError, ValueError):
        pass
    facts["doc"] = cut(look.getdoc(thing))
    if not callable(thing):
        facts["text"] = cut(repr(thing))
    if detail:
        try:
            facts["source"] = cut(look.getsource(thing))
        except (OSError, TypeError):
            if isinstance(thing, type):
                facts["source"] = cut(sources.of_class(look, thing))
    return facts


def cut(text):
    return text[:LONGEST] if isinstance(text, str) else None


# --- whether statements are complete ----------------------------------------------------------------------------------


def is_complete(text):
    """Returns (complete | incomplete | invalid, the indentation of the next line)."""
    # for Python 3.9, the line after the backslash, which does not exist yet, is an empty line
    begun = text[:-1] if text.endswith("\\\n") else text
    try:
        with Lent(warnings), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if codeop.compile_command(begun, "<input>", "exec") is None:
                return unfinished(text)
            block = open_block(text)
    except (SyntaxError, OverflowError, ValueError, MemoryError, RecursionError):
        return "invalid", ""
    return ("complete", "") if block is None else ("incomplete", block)


def unfinished(text):
    """Returns the same for a text that is incomplete for codeop: whether more text can complete it."""
    indent = indent_of(text.split("\n")[-1])
    if text.rstrip(" \t").endswith(("\\", "\\\n", "\\\r\n")):
        return "incomplete", indent
    try:
        compile(text + "\n\n", "<input>", "exec", 0, True)
    except SyntaxError as error:
        message = str(error.msg)
        if message.startswith("expected an indented block"):
            found = re.search(r"on line (\d+)", message)
            lines = [line for line in text.split("\n") if line.strip()]
            header = text.split("\n")[int(found.group(1)) - 1] if found else lines[-1]
            return "incomplete", indent_of(header) + "    "
        # after `(*, a)` PyPy words the message differently
        if isinstance(error, IndentationError) and text.rstrip().endswith(":"):
            return "incomplete", indent + "    "
        if message.startswith(("unterminated string literal", "unterminated f-string literal", "EOL while scanning")):
            return "invalid", ""
        if message == "invalid syntax" and not compiles(text.rstrip() + "\n" + indent + "def _(): pass\n"):
            return "invalid", ""  # even a definition, which may follow a decorator or a backslash, does not complete it
    return "incomplete", indent


def compiles(text):
    try:
        compile(text, "<input>", "exec", 0, True)
    except (SyntaxError, ValueError):
        return False
    return True


def open_block(text):
    """Returns the indentation of the block in which the text ends; None where it ends in none.

    Such a block continues until an empty line.
    """
    if not text.split("\n")[-1].strip():
        return None
    tree = compile(text, "<input>", "exec", 0x400, True)  # a syntax tree only: ast.PyCF_ONLY_AST
    last = tree.body[-1] if tree.body else None
    if last is None or last.end_lineno == last.lineno or not hasattr(last, "body"):
        return None
    while getattr(last, "body", None):
        for part in ("finalbody", "orelse", "handlers", "cases", "body"):
            inner = getattr(last, part, None)
            if isinstance(inner, list) and inner:
                last = inner[-1]
                break
        else:
            break
    return indent_of(text.split("\n")[last.lineno - 1])


def indent_of(line):
    return line[: len(line) - len(line.lstrip())]
