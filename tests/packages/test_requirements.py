"""What requirements files and inline metadata ask for, and what of it is refused before anything is installed."""

from pathlib import Path

import pytest

from proxybox.controller import find_guest
from proxybox.errors import PackagesError
from proxybox.packages.requirements import wanted


def test_a_requirements_file_says_the_same_as_its_lines(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/base.txt").write_text("idna==3.4 --hash=sha256:00 \\\n  --hash=sha256:11\n")
    file = tmp_path / "requirements.txt"
    file.write_text(
        "# what it needs\n-i https://example.org/simple\n--pre\n-f wheels\n\n"
        "attrs >= 23 ; python_version > '3'  # small\n"
        "-r more/base.txt\nrich[jupyter]\nx @ https://example.org/x-1-py3-none-any.whl\n"
    )
    assert wanted(str(file), find_guest()).splitlines() == [
        "-i https://example.org/simple", "--pre", f"-f {tmp_path}/wheels", "attrs >= 23 ; python_version > '3'",
        "idna==3.4 --hash=sha256:00    --hash=sha256:11", "rich[jupyter]", "x @ https://example.org/x-1-py3-none-any.whl",
    ]  # fmt: skip


REFUSED = {
    "editable": ("-e .", "-e: want a requirement"),
    "a path": ("./package", "would be built here"),
    "an archive": ("https://example.org/x.tar.gz", "would be built here"),
    "an archive with a name": ("x @ https://example.org/x.tar.gz", "would be built here"),
    "version control": ("git+https://example.org/x.git", "would be built here"),
    "version control with a name": ("x @ git+https://example.org/x.git", "would be built here"),
    "a build that is wanted": ("--no-binary :all:", "--no-binary: want a requirement"),
    "options of a build": ("x --config-settings=a=b", "is no requirement"),
    "no requirement": ("two words", "is no requirement"),
    "a file that is not there": ("-r none.txt", "none.txt: cannot be read"),
    "itself": ("-r requirements.txt", "name each other"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_the_line(name: str, tmp_path: Path) -> None:
    line, reason = REFUSED[name]
    file = tmp_path / "requirements.txt"
    file.write_text(f"attrs\n{line}\n")
    with pytest.raises(PackagesError, match=reason) as caught:
        wanted(str(file), find_guest())
    assert "line 2" in str(caught.value) or line.startswith("-r")


def script(path: Path, *lines: str) -> str:
    file = path / "script.py"
    file.write_text("import sys\n" + "".join(f"# {line}\n" for line in lines) + "print(1)\n")
    return str(file)


def test_inline_metadata(tmp_path: Path) -> None:
    lines = ("/// script", 'requires-python = ">=3.9"', "dependencies = [", '  "attrs<99",', '  "rich",', "]", "///")
    assert wanted(script(tmp_path, *lines), find_guest()) == "attrs<99\nrich\n"
    assert wanted(script(tmp_path, "/// script", "///"), find_guest()) == "\n"


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
