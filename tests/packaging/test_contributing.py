"""The worked examples of CONTRIBUTING.md: each is made in a copy of the sources, and its commands are run there.

A block belongs to the file that the paragraph above it names last. Python is added to the end of that file; a diff
names its files itself.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Five changes")[2].partition("\n## ")[0]
EXAMPLES = dict(part.split("\n", 1) for part in re.split(r"^### ", CHAPTER, flags=re.MULTILINE)[1:])
#: Code in a fence; indented commands; a line of text.
PART = re.compile(r"^```(\w+)\n((?s:.*?))^```$|((?:^    .+\n)+)|^(.+)$", re.MULTILINE)
#: Files of this tree that the examples need.
COPIED = ("controller", "policies", "proxybox", "pyproject.toml", "docs", "tools", "share", "tests")


@attrs.frozen
class Block:
    """kind: "python", "diff" or "commands". file: where Python is added."""

    kind: str
    text: str
    file: str = ""


def blocks(example: str) -> Iterator[Block]:
    file = ""
    for part in PART.finditer(example):
        language, code, commands, line = part.groups()
        if language:
            yield Block(language, code, file)
        elif commands:
            yield Block("commands", commands)
        else:
            file = ([file, *re.findall(r"`([\w/.]+\.py)`", line)])[-1]


def change(copy: Path, diff: str) -> None:
    """Applies a diff without line numbers: the old text of each hunk must be in the file exactly once."""
    for file, hunks in re.findall(r"^--- (.+)\n((?:(?!--- ).*\n)+)", diff, re.MULTILINE):
        path = copy / file
        for hunk in re.split(r"^@@\n", hunks, flags=re.MULTILINE)[1:]:
            before = "".join(f"{line[1:]}\n" for line in hunk.splitlines() if line[:1] in " -")
            after = "".join(f"{line[1:]}\n" for line in hunk.splitlines() if line[:1] in " +")
            text = path.read_text()
            assert text.count(before) == 1, f"{file}: {before}"
            path.write_text(text.replace(before, after))


def write(copy: Path, block: Block) -> None:
    path = copy / block.file
    path.parent.mkdir(parents=True, exist_ok=True)
    before = f"{path.read_text()}\n\n" if path.exists() else ""
    path.write_text(before + block.text)


@pytest.fixture
def copy(tmp_path: Path, open_the_way: Callable[[Path], None]) -> Path:
    """A copy of the sources, with compiled programs, that the user of root's guests can read."""
    folder = tmp_path / "copy"
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, folder / name)
    folder.chmod(0o755)
    open_the_way(folder / "pyproject.toml")
    return folder


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not (ROOT / "proxybox/controller").is_symlink(), reason="not a checkout")
@pytest.mark.parametrize("name", EXAMPLES)
def test_what_the_page_says(name: str, copy: Path) -> None:
    found = list(blocks(EXAMPLES[name]))
    assert sorted({block.kind for block in found}) == ["commands", "diff", "python"]
    imported = run(copy, "-c", "import proxybox.controller.dispatch as it; print(it.__file__)").stdout
    assert imported.startswith(str(copy)), "it is the copy that is tested"
    for block in found:
        if block.kind == "python":
            write(copy, block)
        elif block.kind == "diff":
            change(copy, block.text)
    commands = [
        line.split(maxsplit=1) for block in found if block.kind == "commands" for line in block.text.splitlines()
    ]
    for python, words in commands:
        assert python == ".venv/bin/python"
        done = run(copy, *shlex.split(words))
        assert done.returncode == 0, done.stdout + done.stderr
        assert " -m pytest" not in f" {words}" or re.search(r"\d+ passed", done.stdout)
    changed = [str(path) for path in sorted(copy.rglob("*.py")) if not same(path, copy)]
    assert len(changed) > 1
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--quiet", *changed],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--diff", "--quiet", *changed],
        cwd=copy, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert formatted.returncode == 0, formatted.stdout


def same(path: Path, copy: Path) -> bool:
    original = ROOT / path.relative_to(copy)
    return original.exists() and original.read_bytes() == path.read_bytes()


def test_there_are_five() -> None:
    assert list(EXAMPLES) == [
        "An OS call", "A field of a policy", "An option of `run`", "A format of grades", "A field of an answer",
    ]  # fmt: skip
