"""Rules of an exercise about how it is to be solved: without `sorted`, with recursion, in at most 30 lines.

    [rules]
    forbid = ["import", "sorted", "method:sort"]
    require = ["function:area", "loop"]
    max_lines = 30

They are for teaching: they look at the syntax tree of a submission, and a submission that wants to get round them can.
What a submission can do to a machine is the policy's business, not theirs.
"""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from proxybox.policies.building import model
from proxybox.policies.checks import refusal
from proxybox.policies.errors import PolicyError, Problem, nearest, shown
from proxybox.result import on_one_line

#: Characters of a submission that is looked at: what people write is shorter, and longer ones take seconds.
MOST_SOURCE: Final = 256 * 1024
_MOST_TOLD: Final = 200
_MOST_LINES: Final = 100_000
#: Of packages in packages.
_MOST_LEVELS: Final = 8

#: Rule words for what Python is written with, and how students are told of it.
CONSTRUCTS: Final = {
    "assert": "assert",
    "break": "break",
    "class": "a class",
    "comprehension": "a comprehension",
    "continue": "continue",
    "decorator": "a decorator",
    "del": "del",
    "docstring": "a docstring",
    "for": "a for loop",
    "fstring": "an f-string",
    "function": "a function of your own",
    "global": "global",
    "if": "if",
    "import": "import",
    "lambda": "lambda",
    "loop": "a loop",
    "match": "match",
    "nonlocal": "nonlocal",
    "recursion": "recursion",
    "slice": "a slice",
    "try": "try",
    "while": "a while loop",
    "with": "with",
    "yield": "yield",
}

_NODES: Final[dict[type[ast.AST], tuple[str, ...]]] = {
    ast.Assert: ("assert",),
    ast.Break: ("break",),
    ast.ClassDef: ("class",),
    ast.ListComp: ("comprehension",),
    ast.SetComp: ("comprehension",),
    ast.DictComp: ("comprehension",),
    ast.GeneratorExp: ("comprehension",),
    ast.Continue: ("continue",),
    ast.Delete: ("del",),
    ast.For: ("for", "loop"),
    ast.AsyncFor: ("for", "loop"),
    ast.While: ("while", "loop"),
    ast.JoinedStr: ("fstring",),
    ast.FunctionDef: ("function",),
    ast.AsyncFunctionDef: ("function",),
    ast.Global: ("global",),
    ast.If: ("if",),
    ast.IfExp: ("if",),
    ast.Import: ("import",),
    ast.ImportFrom: ("import",),
    ast.Lambda: ("lambda",),
    ast.Match: ("match",),
    ast.Nonlocal: ("nonlocal",),
    ast.Slice: ("slice",),
    ast.Try: ("try",),
    ast.TryStar: ("try",),
    ast.With: ("with",),
    ast.AsyncWith: ("with",),
    ast.Yield: ("yield",),
    ast.YieldFrom: ("yield",),
}
#: Words with a name after them, and how students are told of them.
KINDS: Final = {
    "import": "importing {}",
    "call": "a call of {}",
    "method": "the method {}",
    "function": "a function called {}",
    "class": "a class called {}",
    "docstring": "a docstring in {}",
}
#: Python's own functions, each a word by itself.
BUILTINS: Final = frozenset(name for name in dir(builtins) if name.islower() and not name.startswith("_")) - {
    "copyright", "credits", "license",
}  # fmt: skip
#: What stands in a word's place when people write it as Python, or in the plural, does.
_MEANT: Final = {
    "def": "function", "except": "try", "raise": "try", "from": "import", "generator": "yield", "loops": "loop",
    "comprehensions": "comprehension", "recursive": "recursion", "imports": "import", "else": "if", "elif": "if",
}  # fmt: skip


def _to_words(value: Sequence[str]) -> tuple[str, ...]:
    """Rule words, each once. PolicyError tells of every one that there is not."""
    if not isinstance(value, list | tuple):
        meant = f'["{value}"]' if isinstance(value, str) and _fault(value) is None else ""
        raise refusal('want a list of words, such as ["import", "call:sum"]', value, meant=meant)
    problems = [attrs.evolve(fault, key=f"[{at}]") for at, word in enumerate(value) if (fault := _fault(word))]
    if problems:
        raise PolicyError(*problems)
    return tuple(dict.fromkeys(value))


def _to_lines(value: int | None) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_LINES):
        return value
    raise refusal(f"want a whole number of lines, 1 to {_MOST_LINES:,}", value)


def _fault(word: object) -> Problem | None:
    """What is wrong with a rule word."""
    if not isinstance(word, str):
        return Problem(key="", message="want a word in quotes", given=shown(word))
    if word in CONSTRUCTS or word in BUILTINS:
        return None
    kind, colon, name = word.partition(":")
    if not colon:
        allowed = f"{', '.join(sorted(CONSTRUCTS))}, a function of Python's own such as sorted, {_kinds()}"
        meant = _MEANT.get(word.lower()) or nearest(word, [*CONSTRUCTS, *sorted(BUILTINS)])
        return Problem(
            key="", message="there is no such rule", given=shown(word), meant=_quoted(meant), allowed=allowed
        )
    if kind not in KINDS:
        meant = "function" if kind == "def" else nearest(kind, KINDS)
        return Problem(
            key="", message="there is no such rule", given=shown(word), meant=_quoted(meant and f"{meant}:{name}"),
            allowed=_kinds(),
        )  # fmt: skip
    dotted = kind in ("import", "function", "docstring", "class")
    if all(part.isidentifier() for part in name.split(".")) and (dotted or "." not in name):
        return None
    bare = name.strip().removesuffix("()").rpartition(".")[2 if not dotted else 0] or name.strip().removesuffix("()")
    meant = f"{kind}:{bare}" if bare.isidentifier() and bare != name else ""
    words = f"want a name after the colon, such as {_quoted(f'{kind}:area')}"
    return Problem(key="", message=words, given=shown(word), meant=_quoted(meant))


def _kinds() -> str:
    return ", ".join(f"{kind}:NAME" for kind in KINDS)


def _quoted(text: str) -> str:
    return f'"{text}"' if text else ""


@model("rules")
@attrs.frozen(kw_only=True)
class Rules:
    """What a submission is to do without, and with. Raises PolicyError, which tells all faults at once.

    forbid, require: rule words (docs/exercises.md). max_lines: of code; empty lines and comments do not count.
    """

    forbid: tuple[str, ...] = attrs.field(default=(), converter=_to_words)
    require: tuple[str, ...] = attrs.field(default=(), converter=_to_words)
    max_lines: int | None = attrs.field(default=None, converter=_to_lines)

    def __attrs_post_init__(self) -> None:
        both = [word for word in self.require if word in self.forbid]
        if both:
            message = f"{', '.join(map(_quoted, both))} cannot be required and forbidden"
            raise PolicyError(Problem(key="rules.require", message=message, assumed="rules"))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.forbid or self.require or self.max_lines)


@attrs.frozen(kw_only=True)
class Breach:
    """A rule that is broken. rule: such as "forbid sorted"; empty for a source that cannot be looked at. message: for
    students. line: of the submission, the first one, None where there is none to point to."""

    rule: str
    message: str
    line: int | None = None


def check_rules(source: str, rules: Rules) -> list[Breach]:
    """Every rule that a submission breaks, in the order of the rules. Whatever the source is, nothing is raised."""
    if not rules:
        return []
    if len(source) > MOST_SOURCE:
        return [Breach(rule="", message=f"The file is too long: more than {MOST_SOURCE >> 10} KiB.")]
    parsed = _parsed(source)
    if isinstance(parsed, Breach):
        return [parsed]
    facts = _Facts(parsed)
    return [*_forbidden(facts, rules.forbid), *_missing(facts, rules.require), *_too_long(source, rules.max_lines)]


def _parsed(source: str) -> ast.Module | Breach:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a submission's doubtful escapes, which are no business of ours
            return ast.parse(source)
    except SyntaxError as error:
        message = on_one_line((error.msg or "invalid syntax").replace(" (<unknown>, line", " (line"))[:_MOST_TOLD]
        line = error.lineno or None
        where = f", on line {line}" if line else ""
        return Breach(rule="", message=f"The file is no Python: {message}{where}.", line=line)
    except (RecursionError, MemoryError):  # the parser's own stack is full: it says so with MemoryError
        return Breach(rule="", message="The file is no Python that can be read: it is nested too deeply.")
    except ValueError:  # NUL, in some versions, and surrogates
        return Breach(rule="", message="The file is no text: it has characters that Python files cannot have.")


def _forbidden(facts: _Facts, words: Iterable[str]) -> list[Breach]:
    found = ((word, _line(facts, word)) for word in words)
    return [
        Breach(rule=f"forbid {word}", message=f"This exercise is to be solved without {_label(word)}.", line=line)
        for word, line in found
        if line is not None
    ]


def _missing(facts: _Facts, words: Iterable[str]) -> list[Breach]:
    return [
        Breach(rule=f"require {word}", message=f"This exercise is to be solved with {_label(word)}.")
        for word in words
        if _line(facts, word) is None
    ]


def _too_long(source: str, most: int | None) -> list[Breach]:
    if most is None:
        return []
    lines = [number for number, line in enumerate(source.splitlines(), 1) if line.strip() and line.strip()[0] != "#"]
    if len(lines) <= most:
        return []
    message = f"The file has {len(lines)} lines of code, and at most {most} are wanted."
    return [Breach(rule=f"max_lines {most}", message=message, line=lines[most])]


def _label(word: str) -> str:
    kind, colon, name = word.partition(":")
    owner, dot, method = name.rpartition(".")
    if kind == "function" and dot:
        return f"a method {method} in the class {owner}"
    if colon:
        return KINDS[kind].format(name)
    return CONSTRUCTS.get(word, f"the function {word}")


def _line(facts: _Facts, word: str) -> int | None:
    """Where a submission first has what a rule word means."""
    kind, colon, name = word.partition(":")
    if not colon:
        if word in CONSTRUCTS:
            return facts.recursion() if word == "recursion" else facts.constructs.get(word)
        # Who gives a name of Python's own to something else does not use Python's.
        return None if word in facts.bound else facts.names.get(word)
    if kind == "call" and name in BUILTINS and name in facts.bound:
        return None
    tables: dict[str, Any] = {
        "import": facts.imports, "call": facts.calls, "method": facts.methods, "function": facts.functions,
        "class": facts.classes, "docstring": facts.docstrings,
    }  # fmt: skip
    line: int | None = tables[kind].get(name)
    return line


# --- what a submission has --------------------------------------------------------------------------------------------

#: A function: the class that it is a method of (empty for others), and its name.
_Key = tuple[str, str]
_Lines = dict[str, int]


def _note(table: _Lines, name: str, line: int) -> None:
    table[name] = min(line, table.get(name, line))


class _Facts:
    """What a submission has, each by name with its first line.

    It is found in one pass. Nothing here recurses, or takes more than linear time: the tree is as its author wants it.

    constructs: by rule word. names: that are read. calls, methods: what is called. imports: modules, and the packages
    that they are in. functions, classes, docstrings: by name, with those that they stand in ("Point.area"). bound:
    names to which the submission gives a meaning.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.constructs: _Lines = {}
        self.names: _Lines = {}
        self.calls: _Lines = {}
        self.methods: _Lines = {}
        self.imports: _Lines = {}
        self.functions: _Lines = {}
        self.classes: _Lines = {}
        self.docstrings: _Lines = {}
        self.bound: set[str] = set()
        self._defined: dict[_Key, int] = {}
        self._called: dict[_Key, set[_Key]] = {}
        if tree.body and ast.get_docstring(tree) is not None:
            _note(self.constructs, "docstring", 1)
        # (node, what it stands in, the class whose method it stands in, the function that it stands in)
        self._open: list[tuple[ast.AST, str, str, _Key | None]] = [(tree, "", "", None)]
        while self._open:
            self._look(*self._open.pop())

    def recursion(self) -> int | None:
        """The line of the first function that calls itself, be it through others."""
        calls = {key: self._called.get(key, set()) & self._defined.keys() for key in self._defined}
        callers: dict[_Key, set[_Key]] = {key: set() for key in self._defined}
        for key, called in calls.items():
            for each in called:
                callers[each].add(key)
        left = set(self._defined)
        for ahead, behind in ((calls, callers), (callers, calls)):
            # Takes away what leads to nothing, then what led only there: circles stay.
            counts = {key: len(ahead[key] & left) for key in left}
            ends = [key for key, count in counts.items() if not count]
            while ends:
                end = ends.pop()
                left.discard(end)
                for key in behind[end] & left:
                    counts[key] -= 1
                    if not counts[key]:
                        ends.append(key)
        return min((self._defined[key] for key in left), default=None)

    def _look(self, node: ast.AST, within: str, owner: str, function: _Key | None) -> None:
        line = getattr(node, "lineno", 1)
        for word in _NODES.get(type(node), ()):
            _note(self.constructs, word, line)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = self._define(node, within, owner, function)
            within = f"{within}{node.name}."
        elif isinstance(node, ast.ClassDef):
            within, owner, function = f"{within}{node.name}.", self._class(node, within), None
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            function = self._lambda(node, function)
        else:
            self._expression(node, owner, function)
        self._open += [(child, within, owner, function) for child in ast.iter_child_nodes(node)]

    def _define(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, within: str, owner: str, function: _Key | None
    ) -> _Key:
        self.bound.add(node.name)
        _note(self.functions, within + node.name, node.lineno)
        self._document(node, within)
        if node.decorator_list:
            _note(self.constructs, "decorator", node.lineno)
        key = (owner if function is None else "", node.name)  # in a function, it is no method
        self._defined[key] = min(node.lineno, self._defined.get(key, node.lineno))
        return key

    def _class(self, node: ast.ClassDef, within: str) -> str:
        self.bound.add(node.name)
        _note(self.classes, within + node.name, node.lineno)
        self._document(node, within)
        if node.decorator_list:
            _note(self.constructs, "decorator", node.lineno)
        return node.name

    def _document(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, within: str) -> None:
        if (ast.get_docstring(node) or "").strip():
            _note(self.docstrings, within + node.name, node.lineno)
            _note(self.constructs, "docstring", node.lineno)

    def _lambda(self, node: ast.Assign, function: _Key | None) -> _Key | None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                function = ("", target.id)
                self._defined[function] = min(node.lineno, self._defined.get(function, node.lineno))
        return function

    def _expression(self, node: ast.AST, owner: str, function: _Key | None) -> None:
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                _note(self.names, node.id, node.lineno)
            else:
                self.bound.add(node.id)
        elif isinstance(node, ast.arg):
            self.bound.add(node.arg)
        elif isinstance(node, ast.Call):
            self._call(node, owner, function)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                self._import(alias.name, node.lineno)
                self.bound.add(alias.asname or alias.name.partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            self._import(node.module or "", node.lineno)
            for alias in node.names:  # which may be modules of a package, too
                _note(self.imports, f"{node.module or ''}.{alias.name}", node.lineno)
                self.bound.add(alias.asname or alias.name)

    def _import(self, module: str, line: int) -> None:
        parts = module.split(".")[:_MOST_LEVELS]
        for count in range(1, len(parts) + 1):
            _note(self.imports, ".".join(parts[:count]), line)

    def _call(self, node: ast.Call, owner: str, function: _Key | None) -> None:
        called = node.func
        key: _Key | None = None
        if isinstance(called, ast.Name):
            _note(self.calls, called.id, node.lineno)
            key = ("", called.id)
        elif isinstance(called, ast.Attribute):
            _note(self.methods, called.attr, node.lineno)
            if isinstance(called.value, ast.Name):
                base = called.value.id
                key = (owner or base if base in ("self", "cls") else base, called.attr)
        if key is not None and function is not None:
            self._called.setdefault(function, set()).add(key)
