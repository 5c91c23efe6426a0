"""Finds in the syntax tree of a source the facts for the rules of an exercise (rules.py).

Rules: this file is read as text and runs in a box, where a source that makes the parser take gigabytes or crash does no
harm. So it uses only Python 3.9's language and standard library. Nothing here recurses, because the author of the
source decides how deep the tree is.
"""

from __future__ import annotations

import ast
import builtins
import io
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

#: Python 3.9 has no match statement.
_MATCH_CLASS: Final = getattr(ast, "MatchClass", ())

#: The most levels of nested packages.
_MOST_LEVELS: Final = 8
#: The most characters of a message.
_MOST_TOLD: Final = 500
_BUILTINS: Final = frozenset(name for name in dir(builtins) if name.islower() and not name.startswith("_"))

_NODES: Final[dict[str, tuple[str, ...]]] = {
    "Assert": ("assert",),
    "Break": ("break",),
    "ClassDef": ("class",),
    "ListComp": ("comprehension",),
    "SetComp": ("comprehension",),
    "DictComp": ("comprehension",),
    "GeneratorExp": ("comprehension",),
    "Continue": ("continue",),
    "Delete": ("del",),
    "For": ("for", "loop"),
    "AsyncFor": ("for", "loop"),
    "While": ("while", "loop"),
    "JoinedStr": ("fstring",),
    "FunctionDef": ("function",),
    "AsyncFunctionDef": ("function",),
    "Global": ("global",),
    "If": ("if",),
    "IfExp": ("if",),
    "Import": ("import",),
    "ImportFrom": ("import",),
    "Lambda": ("lambda",),
    "Match": ("match",),
    "Nonlocal": ("nonlocal",),
    "Slice": ("slice",),
    "Try": ("try",),
    "TryStar": ("try",),
    "With": ("with",),
    "AsyncWith": ("with",),
    "Yield": ("yield",),
    "YieldFrom": ("yield",),
}


#: The answer for a source that could not be examined.
_NOTHING: Final[dict[str, Any]] = {
    "fault": "", "message": "", "line": None, "forbidden": [], "required": [], "lines": 0, "beyond": None,
}  # fmt: skip


def look_at(path: str, *rules: Any) -> dict[str, Any]:
    """Like `look`, for a file."""
    with open(path, encoding="utf-8", errors="surrogatepass", newline="") as file:
        return look(file.read(), *rules)


def look(
    source: str,
    most: int,
    forbid: Sequence[str],
    require: Sequence[str],
    most_lines: int | None,
    constructs: Sequence[str],
) -> dict[str, Any]:
    """Finds the facts for rules in a source (rules.py).

    most: characters of code. constructs: rule words for constructs of Python.

    Returns a dict. fault: "long", "syntax" (with a message and a line), "deep" or "text" for a source that cannot be
    examined. forbidden, required: for each word the line where it first occurs, or None. lines: how many lines of code.
    beyond: the first line of code after the allowed number.
    """
    if len(source) > most and not _is_short(source, most):
        return {**_NOTHING, "fault": "long"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of invalid escapes in a submission do not matter here
            tree = ast.parse(source)
    except SyntaxError as error:
        message = (error.msg or "invalid syntax")[:_MOST_TOLD]
        return {**_NOTHING, "fault": "syntax", "message": message, "line": error.lineno or None}
    except RecursionError:
        return {**_NOTHING, "fault": "deep"}
    except ValueError:  # NUL, in some versions, and surrogates
        return {**_NOTHING, "fault": "text"}
    facts = _Facts(tree)
    lines, beyond = _lines(source, most_lines)
    return {
        **_NOTHING,
        "forbidden": [_line(facts, word, constructs, forbidden=True) for word in forbid],
        "required": [_line(facts, word, constructs) for word in require],
        "lines": lines,
        "beyond": beyond,
    }


def _lines(source: str, most: int | None) -> tuple[int, int | None]:
    count, beyond = 0, None
    for number, line in enumerate(source.splitlines(), 1):
        text = line.strip()
        count += bool(text and text[0] != "#")
        if most is not None and beyond is None and count > most:
            beyond = number
    return count, beyond


def _is_short(source: str, most: int) -> bool:
    """Whether the source is within the limit without its comments and empty lines. Stops reading at the limit."""
    size = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            size += len(token.string) if token.type not in (tokenize.COMMENT, tokenize.NL) else 0
            if size > most:
                return False
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _line(facts: _Facts, word: str, constructs: Sequence[str], *, forbidden: bool = False) -> int | None:
    """The first line of a submission that contains the construct of a rule word; doubtful cases favour the student."""
    kind, colon, name = word.partition(":")
    if not colon:
        if word in constructs:
            return facts.recursion(strictly=forbidden) if word == "recursion" else facts.constructs.get(word)
        return facts.names.get(word)
    tables: dict[str, Any] = {
        "import": facts.imports, "call": facts.calls, "method": facts.methods, "function": facts.functions,
        "class": facts.classes, "docstring": facts.docstrings,
    }  # fmt: skip
    line: int | None = tables[kind].get(name)
    return line


# --- walking the tree -------------------------------------------------------------------------------------------------

_Lines = dict[str, int]


def _note(table: _Lines, name: str, line: int) -> None:
    table[name] = min(line, table.get(name, line))


class _Scope:
    """The meanings of names in a module, class, function or comprehension.

    function: the function whose body this is, or that contains it. bound: names that are bound here. classes: the
    classes that are defined here. elsewhere: names that are declared global or nonlocal here.
    """

    __slots__ = ("bound", "classes", "elsewhere", "function", "kind", "outer")

    def __init__(self, kind: str, outer: _Scope | None = None, function: _Key | None = None) -> None:
        self.kind = kind
        self.outer = outer
        self.function = function
        self.bound: set[str] = set()
        self.classes: dict[str, _Scope] = {}
        self.elsewhere: dict[str, str] = {}

    def around(self) -> Iterator[_Scope]:
        """This scope, and the scopes around it whose names are visible in it."""
        yield self
        outer = self.outer
        while outer is not None:
            if outer.kind != "class":
                yield outer
            outer = outer.outer

    def home(self, name: str) -> _Scope:
        """The scope to which a name belongs when it is bound here."""
        if self.elsewhere.get(name) == "global":
            return list(self.around())[-1]
        if self.elsewhere.get(name) == "nonlocal":
            return next((each for each in self.around() if name in each.bound), self)
        return self

    def find(self, name: str) -> _Scope | None:
        """The scope in which a name that is used here is bound. None: it is a builtin, or unbound."""
        home = self.home(name)
        return next((each for each in home.around() if name in each.bound), None)


#: A function: the scope where it is defined, and its name.
_Key = tuple["_Scope", str]
_Graph = dict[_Key, set[_Key]]
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class _Facts:
    """The facts of a submission: each table maps names to their first line.

    One pass over the tree collects them; names are resolved after that. Nothing here recurses or takes more than linear
    time, because the submission's author decides the shape of the tree.

    constructs: by rule word. names: builtins that are read. calls, methods: called functions and methods. imports:
    modules, and the packages that contain them. functions, classes, docstrings: by name, with the names of the
    containing classes and functions ("Point.area").
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
        # (node, the names that contain it, its scope, whether it is only part of a type)
        self._open: list[tuple[ast.AST, str, _Scope, bool]] = [(tree, "", _Scope("module"), False)]
        while self._open:
            self._look(*self._open.pop())
        for use in self._uses:
            self._resolve(*use)

    def recursion(self, *, strictly: bool) -> int | None:
        """The line of the first function that calls itself, also through others. Not strictly: mentions itself."""
        graph = self._called if strictly else self._mentioned
        calls = {key: graph.get(key, set()) & self._defined.keys() for key in self._defined}
        callers: _Graph = {key: set() for key in self._defined}
        for key, called in calls.items():
            for each in called:
                callers[each].add(key)
        left = set(self._defined)
        for ahead, behind in ((calls, callers), (callers, calls)):
            # Repeatedly removes functions that call none of the remaining ones, and then functions that none of the
            # remaining ones call. Cycles remain, and functions on a path between two cycles.
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
        for word in _NODES.get(type(node).__name__, ()) if not _is_main(node, scope) else ():
            _note(self.constructs, word, line)
        if isinstance(node, _FUNCTIONS):
            self._function(node, within, scope)
        elif isinstance(node, ast.ClassDef):
            self._class(node, within, scope)
        elif isinstance(node, ast.Lambda):
            self._body(node.args, [node.body], within, scope, scope.function)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Lambda):
            self._named_lambda(node, node.value, within, scope)
        else:
            self._other(node, within, scope, typed)

    def _push(self, nodes: Iterable[ast.AST | None], within: str, scope: _Scope, *, typed: bool = False) -> None:
        """Adds nodes to visit, in their order: a global declaration must be seen before the name is used."""
        self._open += [(node, within, scope, typed) for node in reversed(list(nodes)) if node is not None]

    def _define(self, name: str, line: int, within: str, scope: _Scope) -> _Key:
        home = scope.home(name)
        home.bound.add(name)
        _note(self.functions, within + name, line)
        key = (home, name)
        self._defined[key] = min(line, self._defined.get(key, line))
        return key

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, within: str, scope: _Scope) -> None:
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

    def _document(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, within: str) -> None:
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
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            scope.elsewhere.update(dict.fromkeys(node.names, type(node).__name__.lower()))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load) and not typed:
            self._uses.append((node, scope, False))
        children = [node.value] if isinstance(node, ast.NamedExpr) else list(ast.iter_child_nodes(node))
        types: list[ast.AST] = []
        if isinstance(node, ast.Call):
            typed = False
            self._uses += [(node.func, scope, True)] if isinstance(node.func, (ast.Name, ast.Attribute)) else []
            if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
                types = [*node.args[1:]]
        elif isinstance(node, ast.AnnAssign):
            types = [node.annotation]
        elif isinstance(node, _MATCH_CLASS):
            types = [node.cls]
        elif isinstance(node, _COMPREHENSIONS):
            scope = _Scope("comprehension", scope, scope.function)
        apart = {id(each) for each in types}
        self._push(types, within, scope, typed=True)
        self._push([each for each in children if id(each) not in apart], within, scope, typed=typed)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif node.level:
            modules = []  # modules of the submission
        else:
            modules = [node.module or ""]
            for alias in node.names:  # these may be modules of a package, too
                _note(self.imports, f"{node.module}.{alias.name}", node.lineno)
        for module in modules:
            parts = module.split(".")[:_MOST_LEVELS]
            for count in range(1, len(parts) + 1):
                _note(self.imports, ".".join(parts[:count]), node.lineno)

    def _resolve(self, node: ast.Name | ast.Attribute, scope: _Scope, called: bool) -> None:
        """Records the use of a name. It runs after the pass, because only then are all bindings known."""
        owner = _owner(scope)
        key: _Key | None = None
        sure = True
        if isinstance(node, ast.Name):
            home = scope.find(node.id)
            if home is not None:
                key = (home, node.id)
            else:
                _note(self.names, node.id, node.lineno)
            if called and (home is None or node.id not in _BUILTINS):
                _note(self.calls, node.id, node.lineno)
        else:
            if called:
                _note(self.methods, node.attr, node.lineno)
            base = node.value.id if isinstance(node.value, ast.Name) else ""
            home = scope.find(base) if base else None
            of = owner if base in ("self", "cls") else home and home.classes.get(base)
            sure = of is not None
            of = of or owner  # such as self.left.size() in size
            key = (of, node.attr) if of else None
        if key is not None and scope.function is not None:
            self._mentioned.setdefault(scope.function, set()).add(key)
            if called and sure:
                self._called.setdefault(scope.function, set()).add(key)


def _owner(scope: _Scope | None) -> _Scope | None:
    """The innermost class around a scope."""
    while scope is not None and scope.kind != "class":
        scope = scope.outer
    return scope


_MAIN: Final = ast.dump(ast.parse("__name__ == '__main__'", mode="eval").body)


def _is_main(node: ast.AST, scope: _Scope) -> bool:
    """Whether it is the usual `if __name__ == "__main__":`, which does not count as an if."""
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
    """The names that a node itself binds."""
    if isinstance(node, ast.Name):
        return [node.id] if isinstance(node.ctx, (ast.Store, ast.Del)) else []
    if isinstance(node, ast.NamedExpr):
        return [node.target.id]
    if isinstance(node, ast.Import):
        return [each.asname or each.name.partition(".")[0] for each in node.names]
    if isinstance(node, ast.ImportFrom):
        return [each.asname or each.name for each in node.names]
    if type(node).__name__ in ("ExceptHandler", "MatchAs", "MatchStar", "MatchMapping"):
        return filter(None, [getattr(node, "name", None) or getattr(node, "rest", None)])
    return []
