"""Keys of a policy that texts name exist, wherever they are named."""

import ast
import functools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from proxybox import AsyncSession, Session
from proxybox.learning.limits import LADDERS
from proxybox.policies import Policy
from proxybox.policies.declaring import Measure
from proxybox.policies.errors import ALSO_CALLED
from proxybox.policies.keys import OF_ONE_RUN, keys, of_one_run
from proxybox.policies.models import SECTIONS
from proxybox.serve.config import ServiceLimits
from tools.publicnames import ROOT

NAMED = re.compile(rf"(?<![\w./\[])({'|'.join(SECTIONS)})\.([a-z_]+)(?![\w(]|\.\w)")
#: Other names of that form: limits of the service, methods of sessions, functions of `time`, files.
OTHERS = {f"limits.{field.name}" for field in attrs.fields(ServiceLimits)} | {"session.py"}
OTHERS |= {f"session.{name}" for cls in (Session, AsyncSession) for name in dir(cls)}
OTHERS |= {f"time.{name}" for name in dir(time)}


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def texts(path: Path) -> Iterator[str]:
    """The texts of a file: the strings of a program, or the parts of a document in backquotes."""
    if path.suffix == ".md":
        yield from re.findall(r"`([^`\n]+)`", path.read_text())
        return
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


SOURCES = [path for top in ("policies", "controller", "proxybox") for path in sorted((ROOT / top).rglob("*.py"))
           if path.resolve() == path]  # fmt: skip


def test_keys_that_are_named_exist():
    documents = [path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")) if path.name != "CHANGELOG.md"]
    named = {(str(path.relative_to(ROOT)), found[0])
             for path in (*SOURCES, *documents) for text in texts(path) for found in NAMED.finditer(text)}  # fmt: skip
    assert {"limits.input_wait", "output.on_excess"} <= {key for _, key in named}
    unknown = sorted((path, key) for path, key in named if key not in keys().keys() | OTHERS)
    assert unknown == [], "these files name keys that no policy has: correct them, or add what it is to OTHERS"


def test_other_names_lead_to_keys():
    names = {key.field.name for key in keys().values()}
    assert set(ALSO_CALLED.values()) <= names, "policies/errors.py: ALSO_CALLED"


@pytest.mark.parametrize("key", keys().values(), ids=lambda key: key.name)
def test_declarations(key):
    facts = key.facts
    assert facts.means[:1].islower() or facts.means.startswith(("MIME", "OS", "Python", "`")), "a clause"
    assert not facts.means.endswith("."), "docs and docstrings add what ends it"
    assert key.values, "declare(..., values=...) says in words what it takes, or its validator does"
    assert bool(facts.explain_none) <= bool(facts.explain)
    if key.is_optional and facts.explain:
        assert facts.explain_none, "say with explain_none what holds where there is no limit"
    assert list(facts.steps) == sorted(facts.steps)
    if isinstance(facts.tightens, tuple):
        assert set(facts.tightens) == set(key.choices), "all its words, the loosest first"
    elif facts.tightens:
        assert facts.measure in (Measure.SIZE, Measure.DURATION, Measure.COUNT)
        assert facts.steps, "say with steps what `proxybox learn` proposes, one at a time"


def test_each_key_is_obeyed():
    """This test finds fields that no code reads (also packaging/test_uses.py). Only a reader can check what a field
    does.
    """
    obeying = [path for path in SOURCES if ROOT / "policies" not in path.parents]
    read = {node.attr for path in obeying for node in nodes(path) if isinstance(node, ast.Attribute)}
    for key in keys().values():
        name = key.field.name
        assert name in read | {"access"}, f"{key.name}: nothing in controller/ or proxybox/ reads it"


def test_what_one_run_can_have():
    assert OF_ONE_RUN == ("output", "limits"), "tightened() takes these two sections"
    found = {key.name for section in OF_ONE_RUN for key in of_one_run(section).values()}
    assert {"limits.memory", "limits.input_wait", "output.lines", "output.on_excess"} <= found
    assert not {"limits.nursery", "output.escapes", "output.display"} & found
    assert LADDERS.keys() == {key.name for key in keys().values() if key.facts.steps}


@pytest.mark.parametrize("cls", [Policy, *SECTIONS.values()], ids=lambda cls: cls.__name__)
def test_a_class_is_documented_with_its_fields(cls):
    for field in attrs.fields(cls):
        assert field.name in SECTIONS or f"\n    {field.name}: " in cls.__doc__
