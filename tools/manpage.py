#!/usr/bin/env python3
"""Writes share/man/man1/proxybox.1, and the tables in docs/cli.md and docs/grades.md.

The page and the tables of options come from click's data about the commands, which is also the source of `--help` and
of the shells' completions. The table of formats comes from the writers, as the help of --format does. `make man` runs
this; tests fail if the files differ.

The page is in man(7), for man-db and mandoc.
"""

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
from jinja2 import Environment, StrictUndefined

from proxybox.cli import arguments
from proxybox.cli.app import main_group
from proxybox.teach.writers import WRITERS
from tools.tables import filled, table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "share/man/man1/proxybox.1"
DOCUMENT = ROOT / "docs/cli.md"
GRADES = ROOT / "docs/grades.md"
#: Commands whose options are declared as data. All except `run` also have those options of `run` that describe the box.
DECLARED = {"run": arguments.RUN, "trace": arguments.TRACE, "learn": arguments.LEARN, "repl": arguments.REPL}
#: Options that many commands have: the text of the document describes them.
COMMON = {"--help", "--json", *(flag for option in arguments.BOX for flag in option.flags)}
#: A paragraph that begins with this keeps its lines (click's own mark).
AS_IT_STANDS = "\b\n"
#: Parts of a help text that are in backquotes in a document, and are not yet.
_WRITTEN = re.compile(r"(?<![\w`-])--[a-z][a-z_-]*(?:=\w+)?|(?<!\w)[@$%]\w+|(?<![\w`./])/\w+\b|\w+\.\w+=\w+")
#: Up to this many options of a command are described in the text of the document, without a table.
_FEW = 3
_PAGE = re.compile(r"docs/([\w-]+\.md)")
_SPECIAL = {"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_TEMPLATE = r"""
.\" Made by tools/manpage.py from the commands: make man
.TH PROXYBOX 1 "" "proxybox {{ version|roff }}" "User Commands"
.nh
.ad l
.SH NAME
proxybox \- {{ commands[0].command.help.rstrip(".")|roff }}
.SH SYNOPSIS
{% for context in commands %}{% if context.command.commands is undefined or context.command.invoke_without_command %}
{{ context|usage }}
.br
{% endif %}{% endfor %}
.SH OPTIONS
{{ commands[0]|options }}
{% for context in commands[1:] %}
.SH {{ context.command_path.upper()|argument }}
{{ context|usage }}
{{ context.command.help|text }}
{{ context|options }}
{% endfor %}
.SH NOTES
{{ commands[0].command.epilog|text }}
"""


def contexts(context: click.Context) -> Iterator[click.Context]:
    """Yields a command and those below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name, command in context.command.commands.items():
            yield from contexts(click.Context(command, context, name))


def roff(text: str) -> str:
    """Returns a text with its special characters escaped for roff(7)."""
    escaped = "".join(_SPECIAL.get(char, char) for char in text)
    return re.sub(r"^(?=\.)", r"\\&", escaped, flags=re.MULTILINE)


def argument(text: str) -> str:
    """Returns a text as one argument of a macro."""
    return f'"{roff(text)}"'


def text(source: str) -> str:
    """Returns a help text as paragraphs, some of which keep their lines."""
    lines = []
    for paragraph in inspect.cleandoc(source).split("\n\n"):
        if paragraph.startswith(AS_IT_STANDS):
            lines += [".PP", ".nf", roff(paragraph.removeprefix(AS_IT_STANDS)), ".fi"]
        else:
            lines += [".PP", roff(" ".join(paragraph.split()))]
    return "\n".join(lines)


def usage(context: click.Context) -> str:
    """Returns the synopsis of a command."""
    pieces = " ".join(context.command.collect_usage_pieces(context))
    return rf"\fB{roff(context.command_path)}\fR {roff(pieces)}".rstrip()


def options(context: click.Context) -> str:
    """Returns all options of a command with their descriptions."""
    lines = []
    for each in context.command.get_params(context):
        if not isinstance(each, click.Option) or (record := each.get_help_record(context)) is None:
            continue
        taken = "" if each.is_flag else each.metavar or each.type.name.upper()
        flags = ", ".join(rf"\fB{roff(flag)}\fR" for flag in sorted(each.opts, key=len))
        lines += [".TP", rf"{flags} \fI{roff(taken)}\fR" if taken else flags]
        lines.append(roff(record[1] + (" May be repeated." if each.multiple else "")))
    return "\n".join(lines)


def page() -> str:
    """Returns the manual page."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)  # noqa: S701 - no HTML
    environment.filters |= {
        "argument": argument, "options": options, "roff": roff, "text": text, "usage": usage,
    }  # fmt: skip
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    group = main_group()
    commands = list(contexts(click.Context(group, info_name=group.name, **group.context_settings)))
    made = environment.from_string(_TEMPLATE.lstrip()).render(commands=commands, version=version)
    return re.sub(r"\n{2,}", "\n", made)


def documents() -> dict[Path, str]:
    """Returns the documents with new tables."""
    rows = (
        (
            name, each.file, each.description,
            ("one submission" if each.per_submission else "all") + ("" if each.for_students else ", for teachers"),
            each.hidden,
        )
        for name, each in WRITERS.items()
    )  # fmt: skip
    formats = {"formats": table(("name", "file", "what it is", "about", "hidden tests"), rows)}
    return {
        path: filled(path.read_text(), "tools/manpage.py", tables)
        for path, tables in ((DOCUMENT, _options()), (GRADES, formats))
    }


def _options() -> dict[str, str]:
    """Returns a table of options for each command that has more than a few."""
    group = main_group()
    rows = {context.command_path.removeprefix("proxybox "): list(_rows(context)) for context in contexts(
        click.Context(group, info_name=group.name, **group.context_settings)
    )}  # fmt: skip
    rows |= {
        name: [_row(each) for each in found if name == "run" or each not in arguments.BOX]
        for name, found in DECLARED.items()
    }
    return {name: table(("option", "meaning"), found) for name, found in rows.items() if len(found) > _FEW}


def _rows(context: click.Context) -> Iterator[tuple[str, ...]]:
    """Yields the options of a command that neither many commands nor those above it have."""
    above, known = context.parent, set(COMMON)
    while above is not None:
        known |= {flag for each in above.command.params for flag in each.opts}
        above = above.parent
    for each in context.command.get_params(context):
        if isinstance(each, click.Option) and known.isdisjoint(each.opts):
            choices = "|".join(map(str, each.type.choices)) if isinstance(each.type, click.Choice) else ""
            taken = "" if each.is_flag else f" {choices or each.metavar or each.type.name.upper()}"
            *others, last = sorted(each.opts, key=len)
            meaning = _WRITTEN.sub(r"`\g<0>`", (each.help or "").removesuffix("."))
            notes = [f"default: {each.default}"] * bool(each.show_default) + ["may be repeated"] * each.multiple
            meaning = _PAGE.sub(r"[\1](\1)", meaning) + (f" ({'; '.join(notes)})" if notes else "")
            yield _escaped(", ".join(f"`{flag}`" for flag in [*others, f"{last}{taken}"]), meaning)


def _escaped(*cells: str) -> tuple[str, ...]:
    return tuple(cell.replace("|", r"\|") for cell in cells)


def _row(option: arguments.Option) -> tuple[str, ...]:
    *others, last = sorted(option.flags, key=len)
    flags = [*others, f"{last} {option.metavar}" if option.metavar else last]
    more = (
        f"sets [`{option.sets}`](policies.md#{option.sets.partition('.')[0]})" if option.sets else "",
        "may be repeated" if option.many else "",
        f"[more]({option.see})" if option.see else "",
    )
    notes = "; ".join(filter(None, more))
    meaning = _WRITTEN.sub(r"`\g<0>`", option.help.removesuffix(".")) + (f" ({notes})" if notes else "")
    return _escaped(", ".join(f"`{flag}`" for flag in flags), meaning)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    for path, text in {PAGE: page(), **documents()}.items():
        path.write_text(text)
        print(path.relative_to(ROOT))
