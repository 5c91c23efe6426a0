"""Each option of a command, and each field of a policy, is used in a test: in a command line, or in a policy.

That a name stands somewhere in the tests is not enough: another option or a variable may be called so.
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
#: This folder's own tests go through all options and fields, and use none.
FILES = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.parent != Path(__file__).parent]
#: The classes of sections by their names, which some tests build a policy of.
CLASSES = {cls.__name__: section for section, cls in SECTIONS.items()}

#: What takes fields of a policy by keyword arguments.
TAKES_FIELDS = {"AsyncPool", "AsyncSandbox", "Policy", "Pool", "Sandbox", "evolve", "run", "run_file"}


@functools.lru_cache(maxsize=1)  # all of them together would be a million objects, which slow Python's collector down
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def texts(path: Path) -> Iterator[str]:
    """The texts of a test module, parts of f-strings too. What stands alone is a docstring."""
    alone = {id(node.value) for node in nodes(path) if isinstance(node, ast.Expr)}
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


# --- options ----------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class DeclaredOption:
    """An option as it was declared, once. commands: all that have it, each as its words."""

    flags: tuple[str, ...]
    commands: list[tuple[str, ...]]


def commands_of(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands_of(each, (*words, name))


COMMANDS = dict(commands_of(main_group()))


def declared_options() -> list[DeclaredOption]:
    """Options with the same spelling and help are one declaration, which several commands share."""
    found: defaultdict[tuple[tuple[str, ...], str | None], list[tuple[str, ...]]] = defaultdict(list)
    for words, command in COMMANDS.items():
        for each in command.params:
            if isinstance(each, click.Option):
                found[tuple(each.opts), each.help].append(words)
    return [DeclaredOption(flags, commands) for (flags, _), commands in found.items()]


@functools.cache
def words_of_command_lines(path: Path) -> frozenset[str]:
    """The words of texts that begin with the name of a command or with an option, as parts of command lines do.

    In f"--{name}" the name may be any that the module has as a text.
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
    """The fields that a module gives a value: in a call, a table, `--set` or the text of a policy file."""
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
    """The keys of a table that stands as such, or as dict(key=...)."""
    if isinstance(node, ast.Dict):
        return {key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    is_dict = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"
    return {each.arg for each in node.keywords if each.arg} if is_dict else set()  # type: ignore[attr-defined]


def test_each_field_of_a_policy_is_used() -> None:
    used = {field for path in FILES for field in fields_in(path)}
    unused = [key for key in keys() if key not in used]
    assert unused == [], "no test makes a policy with these: for each, write one that shows in a box what it does"
