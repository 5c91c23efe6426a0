"""All regular expressions of the product, from its sources, with the methods that are called on them."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[2]
_CALLS = ("match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer")
#: Code that runs only in boxes: slow patterns there cost only the program's own time.
_IN_BOXES = ("proxybox/guest/", "proxybox/shims/codejail/jailed.py")
_NO_MODULES = (
    "proxybox/controller",
    "proxybox/policies",
    "proxybox/teach/exercises",
    "proxybox/teach/template",
    "proxybox/classroom/course/",
    "proxybox/classroom/template",
)


@attrs.frozen
class Use:
    """A pattern. place: its file and name, or its file and text. methods: that are called on it.

    pattern: None when it is made at run time.
    """

    place: str
    methods: tuple[str, ...]
    pattern: "re.Pattern[Any] | None"


def uses() -> list[Use]:
    """Returns every pattern of the product."""
    texts = {path: (ROOT / path).read_text() for path in _files()}
    makers = {path for path, text in texts.items() if "import re\n" in text}
    # Each process that runs tests does this, so files without patterns and calls of them are not parsed.
    users = {path for path, text in texts.items() if any(f".{call}" in text for call in _CALLS)}
    trees = {path: ast.parse(text) for path, text in texts.items() if path in makers | users}
    asked = _asked(trees.values())
    found: dict[str, Use] = {}
    for path in sorted(makers):
        for use in _of_file(path, trees[path], asked):
            known = found.get(use.place)
            found[use.place] = attrs.evolve(use, methods=tuple({*use.methods, *(known.methods if known else ())}))
    return list(found.values())


def _files() -> list[str]:
    found = [
        str(path.relative_to(ROOT))
        for folder in ("proxybox", "controller", "policies")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    return [path for path in found if not path.startswith((*_IN_BOXES, *_NO_MODULES))]


def _asked(trees: Any) -> dict[str, set[str]]:
    """Returns the methods that are called anywhere on the names of patterns."""
    asked: dict[str, set[str]] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in _CALLS
                and isinstance(node.value, ast.Name | ast.Attribute)
            ):
                name = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                asked.setdefault(name, set()).add(node.attr)
    return asked


def _of_file(path: str, tree: ast.Module, asked: dict[str, set[str]]) -> Iterator[Use]:
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            continue
        if node.func.value.id != "re" or node.func.attr not in ("compile", *_CALLS):
            continue
        names = _names(node, above)
        methods = {node.func.attr} - {"compile"} or {method for name in names for method in asked.get(name, ())}
        bound = above[node]
        if isinstance(bound, ast.Attribute) and bound.attr in _CALLS:
            methods = {bound.attr}
        place = f"{path}: {names[0] if names else ast.unparse(node.args[0])}"
        yield Use(place, tuple(sorted(methods)) or ("fullmatch", "search"), _made(path, node))


def _names(node: ast.AST, above: dict[ast.AST, ast.AST]) -> list[str]:
    while node in above and not isinstance(node, ast.stmt):
        node = above[node]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return (
        [each.id for each in targets if isinstance(each, ast.Name)] if isinstance(above.get(node), ast.Module) else []
    )


def _made(path: str, call: ast.Call) -> "re.Pattern[Any] | None":
    """Returns the pattern, evaluated in its module; None when it needs local names."""
    first = 1 if call.func.attr in ("compile",) else {"sub": 3, "subn": 3}.get(call.func.attr, 2)  # type: ignore[attr-defined]
    flags = [*call.args[first:], *(each.value for each in call.keywords if each.arg == "flags")]
    if call.func.attr in ("sub", "subn", "split"):  # type: ignore[attr-defined]
        flags = [each.value for each in call.keywords if each.arg == "flags"]
    try:
        return re.compile(*(_value(path, each) for each in (call.args[0], *flags)))
    except NameError:
        return None


def _value(path: str, expression: ast.expr) -> Any:
    code = compile(ast.Expression(expression), "a pattern", "eval")
    try:
        return eval(code, {"re": re})
    except NameError:
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = module if module.startswith("proxybox") else f"proxybox.{module}"
        return eval(code, {**vars(importlib.import_module(module)), "re": re})
