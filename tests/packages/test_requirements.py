"""Entries of requirements files and inline metadata, and which of them are refused before anything is installed.

Hostile entries are in test_attacks.py.
"""

import re
from pathlib import Path

import pytest

from proxybox.controller import find_guest
from proxybox.errors import PackagesError
from proxybox.packages.indexes import Indexes
from proxybox.packages.requirements import wanted


def test_a_requirements_file_says_the_same_as_its_lines(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/base.txt").write_text(f"idna==3.4 --hash=sha256:{'1' * 64} \\\n  --hash sha512:{'A' * 128}\n")
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# what it needs\n-i https://me:secret@example.org/simple\n--pre\n-fwheels\n--find-links=https://example.org/l\n"
        "attrs >= 23 ; python_version > '3'  # small\n"
        "-r more/base.txt\nrich[jupyter]\nx @ https://example.org/x-1-py3-none-any.whl\n"
    )
    found = wanted(str(file), find_guest())
    assert found.lines() == [
        "--index-url https://example.org/simple", f"--find-links {tmp_path}/wheels", "--find-links https://example.org/l",
        "--pre", "--require-hashes", 'attrs>=23 ; python_version > "3"',
        f"idna==3.4 --hash=sha256:{'1' * 64} --hash=sha512:{'a' * 128}", "rich[jupyter]",
        "x @ https://example.org/x-1-py3-none-any.whl",
    ]  # fmt: skip
    assert found.indexes.default == "https://me:secret@example.org/simple"


def test_of_several_indexes_the_last_one_counts(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(
        "--index-url=https://a/\n--extra-index-url https://b/\n-i https://c/\n--extra-index-url https://d/\n"
    )
    assert wanted(str(file), find_guest()).indexes == Indexes(default="https://c/", extra=("https://d/", "https://b/"))


REFUSED = {
    "editable": ("-e .", "-e: want a requirement"),
    "a path": ("./package", "would be built here"),
    "an archive": ("https://example.org/x.tar.gz", "would be built here"),
    "an archive with a name": ("x @ https://example.org/x.tar.gz", "would be built here"),
    "version control": ("git+https://example.org/x.git", "would be built here"),
    "version control with a name": ("x @ git+https://example.org/x.git", "would be built here"),
    "a build that is wanted": ("--no-binary :all:", "--no-binary: want a requirement"),
    "options of a build": ("x --config-settings=a=b", "want a requirement, with --hash alone after it"),
    "a wheel of the current folder": ("good-1.0-py3-none-any.whl", "names a file"),
    "a query that looks like a wheel": ("x @ https://example.org/x.tar.gz?x=.whl", "would be built here"),
    "an address of another kind": ("x @ ftp://example.org/x-1-py3-none-any.whl", "want https://HOST/"),
    "an address without a host": ("-i https:///simple", "want https://HOST/"),
    "a port that is none": ("-i https://host:x/simple", "Port could not be cast"),
    "two options": ("-f wheels -e .", "want one option on a line"),
    "an option without a value": ("--index-url", "want --index-url with a value"),
    "an option with a value too many": ("--pre yes", "want --pre alone"),
    "a hash of an old kind": (f"x --hash=md5:{'0' * 32}", "want --hash=sha256|sha384|sha512:DIGITS"),
    "a hash that is cut off": ("x --hash=sha256:00", "want --hash=sha256|sha384|sha512:DIGITS"),
    "a constraint": ("-c other.txt", "-c: want a requirement"),
    "no requirement": ("two words", "is no requirement"),
    "a file that is not there": ("-r none.txt", "none.txt: cannot be read"),
    "itself": ("-r requirements.txt", "name each other"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_the_line(name: str, tmp_path: Path) -> None:
    line, reason = REFUSED[name]
    file = tmp_path / "requirements.txt"
    file.write_text(f"attrs\n{line}\n")
    with pytest.raises(PackagesError, match=re.escape(reason)) as caught:
        wanted(str(file), find_guest())
    assert "line 2" in str(caught.value) or line.startswith("-r")


def script(path: Path, *lines: str) -> str:
    file = path / "script.py"
    file.write_text("import sys\n" + "".join(f"# {line}\n" for line in lines) + "print(1)\n")
    return str(file)


def test_inline_metadata(tmp_path: Path) -> None:
    lines = ("/// script", 'requires-python = ">=3.9"', "dependencies = [", '  "attrs<99",', '  "rich",', "]", "///")
    assert wanted(script(tmp_path, *lines), find_guest()).lines() == ["attrs<99", "rich"]
    assert wanted(script(tmp_path, "/// script", "///"), find_guest()).lines() == []


WRONG = {
    "no block": ((), "no block of inline metadata"),
    "not closed": (("/// script", "dependencies = []"), "no block"),
    "twice": (("/// script", "///", "/// script", "///"), "several blocks"),
    "no TOML": (("/// script", "dependencies = [", "///"), "# /// script: "),
    "no list": (("/// script", 'dependencies = "attrs"', "///"), "want dependencies = "),
    "no text": (("/// script", "dependencies = [1]", "///"), "want texts, got 1"),
    "a build": (("/// script", 'dependencies = ["./here"]', "///"), "would be built here"),
    "an address": (
        ("/// script", 'dependencies = ["x @ https://example.org/x-1-py3-none-any.whl"]', "///"),
        "write it into a requirements file of your own",
    ),
    "another Python": (("/// script", 'requires-python = ">=3.99"', "///"), "is for Python >=3.99, and"),
    "no version": (("/// script", 'requires-python = "new"', "///"), "no set of versions"),
}


@pytest.mark.parametrize("name", WRONG)
def test_inline_metadata_that_makes_no_sense(name: str, tmp_path: Path) -> None:
    lines, reason = WRONG[name]
    with pytest.raises(PackagesError, match=reason):
        wanted(script(tmp_path, *lines), find_guest())
