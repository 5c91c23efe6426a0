#!/usr/bin/env python3
"""Prints the public names that are not described. `make docs` and the tests check this, too.

Public names are those of `__all__`; in a module without it, those that it defines or imports as themselves (`import X
as X`).
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
MODULES = (
    "proxybox", "proxybox.controller", "proxybox.policies", "proxybox.commits", "proxybox.review", "proxybox.agents",
)  # fmt: skip
REFERENCE = ("docs/api.md", "docs/api-policies.md", "docs/api-controller.md")


def public(module: ModuleType) -> list[str]:
    names = getattr(module, "__all__", None)
    if names is not None:
        return list(names)
    found = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom):
            found |= {each.name for each in node.names if each.asname == each.name}
    found |= {
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__
    }
    return sorted(name for name in found if not name.startswith("_"))


def faults() -> Iterator[str]:
    """Yields a message for each name that has no docstring, or is on no page of the reference."""
    text = "".join((ROOT / place).read_text() for place in REFERENCE)
    standing = set(re.findall(r"^::: [\w.]*?(\w+)$|`(\w+)`", text, re.MULTILINE))
    standing = {name for pair in standing for name in pair if name}
    for path in MODULES:
        module = import_module(path)
        for name in public(module):
            if name not in standing:
                yield f"{path}.{name} stands in none of {', '.join(REFERENCE)}"
            if not _is_described(module, name):
                yield f"{path}.{name} has no docstring"


def _is_described(module: ModuleType, name: str) -> bool:
    value = getattr(module, name)
    if inspect.isclass(value):
        return bool(value.__dict__.get("__doc__"))
    if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        return bool(value.__doc__)
    return any(_has_text_below(each, name) for each in _homes(module, name))


def _homes(module: ModuleType, name: str) -> Iterator[ModuleType]:
    """Yields the modules that may define a value: this one, and those from which it is imported."""
    yield module
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module and any(each.name == name for each in node.names):
            yield import_module(node.module)


def _has_text_below(module: ModuleType, name: str) -> bool:
    for node, below in pairwise(_tree(module).body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    return False


def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(module.__file__ or "").read_text())


if __name__ == "__main__":
    found = list(faults())
    print("\n".join(found) or "Every public name is described, and stands in the reference.")
    sys.exit(bool(found))
