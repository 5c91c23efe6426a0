"""Each option of a command, and each field of a policy, is used in a test: in a command line, or in a policy.

It is not enough that the name is somewhere in the tests: another option or a variable may have the same name.
"""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest

from proxybox.cli.app import main_group
from proxybox.policies.keys import keys
from proxybox.policies.models import SECTIONS
from tools.publicnames import ROOT

pytestmark = pytest.mark.timeout(1200)  # it parses the whole suite
#: Without this folder: its tests iterate over all options and fields, and use none.
FILES = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.parent != Path(__file__).parent]
#: The classes of sections by their names; some tests build a policy from them.
CLASSES = {cls.__name__: section for section, cls in SECTIONS.items()}

#: Functions and classes that take fields of a policy as keyword arguments.
TAKES_FIELDS = {"AsyncPool", "AsyncSandbox", "Policy", "Pool", "Sandbox", "evolve", "run", "run_file"}


@functools.lru_cache(maxsize=1)  # all of them would be a million objects, which slow the garbage collector down
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def texts(path: Path) -> Iterator[str]:
    """Yields the strings of a test module, with parts of f-strings, without docstrings."""
    alone = {id(node.value) for node in nodes(path) if isinstance(node, ast.Expr)}
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


# --- options ----------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class DeclaredOption:
    """An option that was declared once. commands: the words of each command that has it."""

    flags: tuple[str, ...]
    commands: list[tuple[str, ...]]


def commands_of(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands_of(each, (*words, name))


COMMANDS = dict(commands_of(main_group()))


def declared_options() -> list[DeclaredOption]:
    """Returns all options. Those with the same spelling and help are one, which several commands share."""
    found: defaultdict[tuple[tuple[str, ...], str | None], list[tuple[str, ...]]] = defaultdict(list)
    for words, command in COMMANDS.items():
        for each in command.params:
            if isinstance(each, click.Option):
                found[tuple(each.opts), each.help].append(words)
    return [DeclaredOption(flags, commands) for (flags, _), commands in found.items()]


@functools.cache
def words_of_command_lines(path: Path) -> frozenset[str]:
    """Returns the words of strings that begin with a command's name or an option, like parts of command lines.

    In f"--{name}" the name may be any string of the module.
    """
    names = {name for words in COMMANDS for name in words}
    found = set()
    for text in texts(path):
        words = re.split(r"[\s=]+", text.strip())
        if words[0] in names or words[0].startswith("-"):
            found.update(words)
    if "--" in found:
        found.update(f"--{text}" for text in texts(path) if re.fullmatch(r"[a-z][a-z-]*", text))
    return frozenset(found)


def is_used(option: DeclaredOption) -> bool:
    lines = [words_of_command_lines(path) for path in FILES]
    return any(
        set(option.flags) & words and any(words.issuperset(command) for command in option.commands) for words in lines
    )


def test_each_option_is_used() -> None:
    unused = [
        f"proxybox {' '.join(each.commands[0])} {each.flags[0]}" for each in declared_options() if not is_used(each)
    ]
    assert unused == [], "no test calls these: for each, write one that fails where the option does nothing"


# --- fields of policies -----------------------------------------------------------------------------------------------


@functools.cache
def fields_in(path: Path) -> frozenset[str]:
    """Returns the fields that a module sets: in a call, a dict, `--set` or the text of a policy file."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            named = {each.arg for each in node.keywords if each.arg}
            changed = {each.attr for each in node.args if isinstance(each, ast.Attribute)}  # evolve(policy.limits, ...)
            found |= {f"{section}.{field}" for section in {CLASSES.get(name, ""), *changed} for field in named}
            found |= {f"{each.arg}.{key}" for each in node.keywords for key in keys_of(each.value)}
            found |= named if name in TAKES_FIELDS else set()
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                found |= {f"{getattr(key, 'value', '')}.{each}" for each in keys_of(value)}
    for text in texts(path):
        found.update(re.findall(r"(?:^|\b[a-z]+\.)[a-z_]+(?= ?=)", text, re.MULTILINE))
        for section, table in re.findall(r"^\[([a-z]+)\]\n((?:[^\[].*\n?)*)", text, re.MULTILINE):
            found |= {f"{section}.{field}" for field in re.findall(r"^([a-z_]+) ?=", table, re.MULTILINE)}
        for section, table in re.findall(r"\b([a-z]+) ?= ?\{([^}]*)", text):
            found |= {f"{section}.{field}" for field in re.findall(r"\b([a-z_]+) ?=", table)}
    return frozenset(found)


def keys_of(node: ast.AST) -> set[str]:
    """Returns the keys of a dict display, or of dict(key=...)."""
    if isinstance(node, ast.Dict):
        return {key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    is_dict = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"
    return {each.arg for each in node.keywords if each.arg} if is_dict else set()  # type: ignore[attr-defined]


def test_each_field_of_a_policy_is_used() -> None:
    used = {field for path in FILES for field in fields_in(path)}
    unused = [key for key in keys() if key not in used]
    assert unused == [], "no test makes a policy with these: for each, write one that shows in a box what it does"
