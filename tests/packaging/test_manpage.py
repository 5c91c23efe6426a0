"""The manual page and the completions of shells are made from the commands, and contain exactly their options."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pexpect
import pytest

from proxybox.cli.app import main_group
from tools import manpage

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "share/man/man1/proxybox.1"
BASH = shutil.which("bash")
Commands = dict[str, click.Command]


def commands_of(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands_of(each, f"{path} {name}")


COMMANDS: Commands = dict(commands_of(main_group(), "proxybox"))


def flags_of(command: click.Command) -> set[str]:
    context = click.Context(command, help_option_names=["-h", "--help"])
    found = (each for each in command.get_params(context) if isinstance(each, click.Option))
    return {flag for each in found for flag in (*each.opts, *each.secondary_opts)}


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == manpage.page(), "it is stale: make man"


def test_the_tables_of_documents_are_what_the_commands_say() -> None:
    for path, text in manpage.documents().items():
        assert path.read_text() == text, f"the tables of {path} are stale: make man"


def test_the_document_has_all_options_and_no_others() -> None:
    """Where it has no table of options, it names them in its text."""
    text = manpage.DOCUMENT.read_text()
    known = {flag for command in COMMANDS.values() for flag in flags_of(command) if flag.startswith("--")}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - {"--kernel"}  # Jupyter's: --kernel_name
    short = {"--version", "--code", "--module"}  # there the last two are -c and -m
    assert sorted(known - named - short) == [], "docs/cli.md lacks these options"
    assert sorted(named - known - {"--sandbox"}) == [], "no command has these options of docs/cli.md"  # of PyPy


def plain(roff: str) -> str:
    """Returns the text without fonts and escapes."""
    text = re.sub(r"\\f[BIR]", "", roff)
    for escape, char in (("\\-", "-"), ("\\(aq", "'"), ("\\(dq", '"'), ("\\(ga", "`"), ("\\&", ""), ("\\e", "\\")):
        text = text.replace(escape, char)
    return text


def sections() -> dict[str, str]:
    parts = re.split(r"^\.SH (.+)$", plain(PAGE.read_text()), flags=re.MULTILINE)
    return {name.strip('"'): text for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("path", COMMANDS)
def test_each_command_has_its_options_and_no_others(path: str) -> None:
    text = sections()["OPTIONS" if path == "proxybox" else path.upper()]
    seen = re.findall(r"^\.TP\n(.+)\n(.+)$", text, re.MULTILINE)
    assert {flag for flags, _ in seen for flag in re.findall(r"(?<!\S)--?[\w-]+", flags)} == flags_of(COMMANDS[path])
    assert all(what.strip() for _, what in seen)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_say_of_it() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-c", PAGE], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stderr == ""
    shown = re.sub(".\b", "", done.stdout)
    assert "proxybox run -c 'print(6 * 7)'" in shown, "examples stay as they stand, quotes and all"
    assert "\n              Change one key of the policy: limits.threads=4. May be repeated.\n" in shown


def test_it_is_installed() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    assert data["share/man/man1"] == [str(PAGE.relative_to(ROOT))]


def test_the_environment_is_that_of_the_documentation() -> None:
    of_page = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", sections()["NOTES"]))
    table = (ROOT / "docs/cli.md").read_text().partition("## Environment")[2]
    names = (line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert of_page == set(re.findall(r"`(\w+)`", " ".join(names)))


# --- completion -------------------------------------------------------------------------------------------------------

SCRIPT = r"""
compopt() { :; }  # which only a Tab may call
eval "$(proxybox completion bash)"
while IFS= read -r line; do
    read -ra COMP_WORDS <<< "$line"
    case $line in *' ') COMP_WORDS+=("") ;; esac
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _proxybox_completion proxybox < /dev/null
    echo "${COMPREPLY[@]}"
done
"""


@pytest.fixture
def with_command(tmp_path: Path) -> dict[str, str]:
    """An environment in which `proxybox` runs with this Python."""
    command = tmp_path / "bin/proxybox"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m proxybox.cli "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}", "TERM": "dumb"}


@pytest.mark.full
@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_bash_completes_what_the_page_has(with_command: dict[str, str], tmp_path: Path) -> None:
    """Names of commands, and all options, also of commands that are parsed without click."""
    (tmp_path / "script.py").touch()
    paths = ["proxybox", "proxybox run", "proxybox repl", "proxybox grade", "proxybox exercise"]
    wanted: dict[str, set[str]] = {}
    for path in paths:
        wanted[f"{path} -"] = flags_of(COMMANDS[path])
        if names := getattr(COMMANDS[path], "commands", None):
            wanted[f"{path} "] = set(names)
    wanted["proxybox run --policy st"] = {"strict"}
    wanted["proxybox trace --family cl"] = {"clock"}
    wanted["proxybox grade 05"] = {"05-second-largest"}
    wanted["proxybox run scr"] = set()  # bash itself completes files
    assert BASH is not None
    done = subprocess.run(
        [BASH, "--norc", "-c", SCRIPT], input="".join(f"{line}\n" for line in wanted), cwd=tmp_path, env=with_command,
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    assert done.stderr == ""
    seen = dict(zip(wanted, map(str.split, done.stdout.splitlines()), strict=True))
    assert {line: sorted(words) for line, words in seen.items()} == {line: sorted(w) for line, w in wanted.items()}


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_tab_in_bash(with_command: dict[str, str], tmp_path: Path) -> None:
    assert BASH is not None
    child = pexpect.spawn(
        BASH, ["--norc", "--noprofile"], cwd=str(tmp_path), env={**with_command, "PS1": "@ "}, timeout=60,
        encoding="utf-8", dimensions=(24, 200),
    )  # fmt: skip
    try:
        child.sendline("bind 'set enable-bracketed-paste off'; eval \"$(proxybox completion bash)\"; echo rea''dy")
        child.expect_exact("ready")
        child.send("proxybox trace --fam\t")
        child.expect_exact("proxybox trace --family ")
        child.send("clo\t")
        child.expect_exact("clock")
    finally:
        child.close(force=True)
