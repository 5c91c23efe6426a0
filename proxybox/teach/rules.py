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
import io
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import attrs

from proxybox.policies.building import model
from proxybox.policies.checks import refusal
from proxybox.policies.errors import PolicyError, Problem, nearest, shown
from proxybox.result import on_one_line

#: Characters of code that is looked at, without comments: what people write is shorter, and more takes seconds.
MOST_SOURCE: Final = 256 * 1024
#: Characters with comments.
MOST_TEXT: Final = 4 * 1024 * 1024
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
    if len(source) > MOST_SOURCE and (len(source) > MOST_TEXT or not _short(source)):
        return [Breach(rule="", message=f"The file is too long: more than {MOST_SOURCE >> 10} KiB.")]
    parsed = _parsed(source)
    if isinstance(parsed, Breach):
        return [parsed]
    facts = _Facts(parsed)
    return [*_forbidden(facts, rules.forbid), *_missing(facts, rules.require), *_too_long(source, rules.max_lines)]


def _short(source: str) -> bool:
    """Whether it is within the limit without its comments and empty lines. Reads no further than it has to."""
    size = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            size += len(token.string) if token.type not in (tokenize.COMMENT, tokenize.NL) else 0
            if size > MOST_SOURCE:
                return False
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


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
    found = ((word, _line(facts, word, forbidden=True)) for word in words)
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


def _line(facts: _Facts, word: str, *, forbidden: bool = False) -> int | None:
    """Where a submission first has what a rule word means; in doubt, to the good of the student."""
    kind, colon, name = word.partition(":")
    if not colon:
        if word in CONSTRUCTS:
            return facts.recursion(strictly=forbidden) if word == "recursion" else facts.constructs.get(word)
        return facts.names.get(word)
    tables: dict[str, Any] = {
        "import": facts.imports, "call": facts.calls, "method": facts.methods, "function": facts.functions,
        "class": facts.classes, "docstring": facts.docstrings,
    }  # fmt: skip
    line: int | None = tables[kind].get(name)
    return line


# --- what a submission has --------------------------------------------------------------------------------------------

_Lines = dict[str, int]


def _note(table: _Lines, name: str, line: int) -> None:
    table[name] = min(line, table.get(name, line))


@attrs.frozen(eq=False)
class _Scope:
    """What names mean in a module, class, function or comprehension.

    function: that it is the body of, or stands in. bound: names
    that it gives a meaning. classes: those defined in it. elsewhere: its global and nonlocal names.
    """

    kind: str
    outer: _Scope | None = None
    function: _Key | None = None
    bound: set[str] = attrs.field(factory=set)
    classes: dict[str, _Scope] = attrs.field(factory=dict)
    elsewhere: dict[str, str] = attrs.field(factory=dict)

    def around(self) -> Iterator[_Scope]:
        """It, and those around it whose names it sees."""
        yield self
        outer = self.outer
        while outer is not None:
            if outer.kind != "class":
                yield outer
            outer = outer.outer

    def home(self, name: str) -> _Scope:
        """Where a name lives that is given a meaning here."""
        if self.elsewhere.get(name) == "global":
            return list(self.around())[-1]
        if self.elsewhere.get(name) == "nonlocal":
            return next((each for each in self.around() if name in each.bound), self)
        return self

    def find(self, name: str) -> _Scope | None:
        """What gives a name the meaning that it has here. None: Python itself, or nothing."""
        home = self.home(name)
        return next((each for each in home.around() if name in each.bound), None)


#: A function: where it is defined, and its name.
_Key = tuple[_Scope, str]
_Graph = dict[_Key, set[_Key]]
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class _Facts:
    """What a submission has, each by name with its first line.

    It is found in one pass, and what names mean after it. Nothing here recurses, or takes more than linear time: the
    tree is as its author wants it.

    constructs: by rule word. names: that are read, and mean Python's own. calls, methods: what is called. imports:
    modules, and the packages that they are in. functions, classes, docstrings: by name, with those that they stand in
    ("Point.area").
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
        self._defined: dict[_Key, int] = {}
        self._called: _Graph = {}
        self._mentioned: _Graph = {}
        self._uses: list[tuple[ast.Name | ast.Attribute, _Scope, bool]] = []
        if tree.body and ast.get_docstring(tree) is not None:
            _note(self.constructs, "docstring", 1)
        # (node, what it stands in, its scope, whether it only tells of types)
        self._open: list[tuple[ast.AST, str, _Scope, bool]] = [(tree, "", _Scope("module"), False)]
        while self._open:
            self._look(*self._open.pop())
        for use in self._uses:
            self._resolve(*use)

    def recursion(self, *, strictly: bool) -> int | None:
        """The line of the first function that calls itself, be it through others; not strictly: mentions itself."""
        graph = self._called if strictly else self._mentioned
        calls = {key: graph.get(key, set()) & self._defined.keys() for key in self._defined}
        callers: _Graph = {key: set() for key in self._defined}
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

    def _look(self, node: ast.AST, within: str, scope: _Scope, typed: bool) -> None:
        line = getattr(node, "lineno", 1)
        for word in _NODES.get(type(node), ()) if not _is_main(node, scope) else ():
            _note(self.constructs, word, line)
        if isinstance(node, _Function):
            self._function(node, within, scope)
        elif isinstance(node, ast.ClassDef):
            self._class(node, within, scope)
        elif isinstance(node, ast.Lambda):
            self._body(node.args, [node.body], within, scope, scope.function)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Lambda):
            self._named_lambda(node, node.value, within, scope)
        else:
            self._other(node, within, scope, typed)

    def _push(self, nodes: Iterable[ast.AST | None], within: str, scope: _Scope, *, typed: bool = False) -> None:
        """In their order: what is global is told before it is used."""
        self._open += [(node, within, scope, typed) for node in reversed(list(nodes)) if node is not None]

    def _define(self, name: str, line: int, within: str, scope: _Scope) -> _Key:
        home = scope.home(name)
        home.bound.add(name)
        _note(self.functions, within + name, line)
        key = (home, name)
        self._defined[key] = min(line, self._defined.get(key, line))
        return key

    def _function(self, node: _Function, within: str, scope: _Scope) -> None:
        key = self._define(node.name, node.lineno, within, scope)
        self._document(node, within)
        self._body(node.args, node.body, f"{within}{node.name}.", scope, key)
        self._push([node.returns], within, scope, typed=True)
        self._push(node.decorator_list, within, scope)

    def _body(
        self, args: ast.arguments, body: Sequence[ast.AST], within: str, scope: _Scope, function: _Key | None
    ) -> None:
        inner = _Scope("function", scope, function)
        every = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
        inner.bound.update(each.arg for each in every)
        self._push(body, within, inner)
        self._push([each.annotation for each in every], within, scope, typed=True)
        self._push([*args.defaults, *args.kw_defaults], within, scope)

    def _named_lambda(self, node: ast.Assign | ast.AnnAssign, value: ast.Lambda, within: str, scope: _Scope) -> None:
        _note(self.constructs, "lambda", value.lineno)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        keys = [self._define(each.id, node.lineno, within, scope) for each in targets if isinstance(each, ast.Name)]
        self._body(value.args, [value.body], within, scope, keys[-1] if keys else scope.function)
        self._push(targets, within, scope)

    def _class(self, node: ast.ClassDef, within: str, scope: _Scope) -> None:
        home = scope.home(node.name)
        home.bound.add(node.name)
        _note(self.classes, within + node.name, node.lineno)
        self._document(node, within)
        inner = home.classes[node.name] = _Scope("class", scope)
        self._push(node.body, f"{within}{node.name}.", inner)
        self._push([*node.decorator_list, *node.bases, *node.keywords], within, scope)

    def _document(self, node: _Function | ast.ClassDef, within: str) -> None:
        if node.decorator_list:
            _note(self.constructs, "decorator", node.lineno)
        if (ast.get_docstring(node) or "").strip():
            _note(self.docstrings, within + node.name, node.lineno)
            _note(self.constructs, "docstring", node.lineno)

    def _other(self, node: ast.AST, within: str, scope: _Scope, typed: bool) -> None:
        for name in _bindings(node):
            home = scope
            while home.kind == "comprehension" and isinstance(node, ast.NamedExpr) and home.outer:
                home = home.outer
            home.home(name).bound.add(name)
        if isinstance(node, ast.Global | ast.Nonlocal):
            scope.elsewhere.update(dict.fromkeys(node.names, type(node).__name__.lower()))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and not typed:
            self._uses.append((node, scope, False))
        children = [node.value] if isinstance(node, ast.NamedExpr) else list(ast.iter_child_nodes(node))
        types: list[ast.AST] = []
        if isinstance(node, ast.Call):
            typed = False
            self._uses += [(node.func, scope, True)] if isinstance(node.func, ast.Name | ast.Attribute) else []
            if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
                types = [*node.args[1:]]
        elif isinstance(node, ast.AnnAssign):
            types = [node.annotation]
        elif isinstance(node, ast.MatchClass):
            types = [node.cls]
        elif isinstance(node, _Comprehension):
            scope = _Scope("comprehension", scope, scope.function)
        apart = {id(each) for each in types}
        self._push(types, within, scope, typed=True)
        self._push([each for each in children if id(each) not in apart], within, scope, typed=typed)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif node.level:
            modules = []  # of the submission's own
        else:
            modules = [node.module or ""]
            for alias in node.names:  # which may be modules of a package, too
                _note(self.imports, f"{node.module}.{alias.name}", node.lineno)
        for module in modules:
            parts = module.split(".")[:_MOST_LEVELS]
            for count in range(1, len(parts) + 1):
                _note(self.imports, ".".join(parts[:count]), node.lineno)

    def _resolve(self, node: ast.Name | ast.Attribute, scope: _Scope, called: bool) -> None:
        """What a name means is known when all of them are."""
        owner = _owner(scope)
        key: _Key | None = None
        sure = True
        if isinstance(node, ast.Name):
            home = scope.find(node.id)
            if home is not None:
                key = (home, node.id)
            else:
                _note(self.names, node.id, node.lineno)
            if called and (home is None or node.id not in BUILTINS):
                _note(self.calls, node.id, node.lineno)
        else:
            if called:
                _note(self.methods, node.attr, node.lineno)
            base = node.value.id if isinstance(node.value, ast.Name) else ""
            home = scope.find(base) if base else None
            of = owner if base in ("self", "cls") else home and home.classes.get(base)
            sure = of is not None
            of = of or owner  # self.left.size() in size
            key = (of, node.attr) if of else None
        if key is not None and scope.function is not None:
            self._mentioned.setdefault(scope.function, set()).add(key)
            if called and sure:
                self._called.setdefault(scope.function, set()).add(key)


def _owner(scope: _Scope | None) -> _Scope | None:
    """The class that something stands in."""
    while scope is not None and scope.kind != "class":
        scope = scope.outer
    return scope


_MAIN: Final = ast.dump(ast.parse("__name__ == '__main__'", mode="eval").body)


def _is_main(node: ast.AST, scope: _Scope) -> bool:
    """Whether it is the customary `if __name__ == "__main__":`, which decides nothing."""
    return (
        isinstance(node, ast.If)
        and scope.kind == "module"
        and not node.orelse
        and isinstance(node.test, ast.Compare)
        and isinstance(node.test.left, ast.Name)
        and isinstance(node.test.comparators[0], ast.Constant)
        and len(node.test.ops) == 1
        and ast.dump(node.test) == _MAIN
    )


def _bindings(node: ast.AST) -> Iterable[str]:
    """Names that a node gives a meaning, by itself."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.NamedExpr(target=ast.Name(id=name)):
            return [name]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
        case ast.MatchMapping(rest=str(name)):
            return [name]
        case ast.Import(names=names):
            return [each.asname or each.name.partition(".")[0] for each in names]
        case ast.ImportFrom(names=names):
            return [each.asname or each.name for each in names]
    return []
