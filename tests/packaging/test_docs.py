"""The documents: links have targets, names and options exist, examples run."""

import os
import re
from pathlib import Path

import pytest

from proxybox.cli.exits import BY_STATUS
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from proxybox.evaluating import shared
from tools import publicnames

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target, _ in LINK.findall(document.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (document.parent / target).exists(), target


#: Sources whose text names other files. In a checkout proxybox/ has links to the other rooms.
SOURCES = [
    path
    for top in ("controller", "policies", "proxybox")
    for path in sorted((ROOT / top).rglob("*.*"))
    if path.suffix in (".py", ".md", ".c", ".h") and path.resolve() == path
]
PLACES = "controller|policies|proxybox|tests|tools|benchmarks|examples"
OUR_FILE = re.compile(rf"(?<![\w./-])(?:{PLACES})/[\w/]+\.(?:py|c|h|md)\b")


def test_files_that_are_named_exist() -> None:
    """Files are named by their whole path. Names of programs in boxes are not checked."""
    everywhere = [*DOCUMENTS, *SOURCES]
    named = {(str(path.relative_to(ROOT)), name) for path in everywhere for name in OUR_FILE.findall(path.read_text())}
    assert len(named) > 30
    made_up = {"tests/test_it.py", "tests/test_more.py"}  # in exercises
    made_up |= {"tests/oscalls/test_cachestat.py", "tests/policies/test_release.py"}  # in CONTRIBUTING's examples
    made_up |= {"proxybox/teach/writers/tap.py", "tests/cli/test_seed.py", "tests/serve/test_out_of_memory.py"}
    assert sorted((path, name) for path, name in named if not (ROOT / name).exists() and name not in made_up) == []


def test_every_public_name_is_described() -> None:
    """A docstring in the sources, and a place in the reference: `make docs` puts one into the other."""
    assert list(publicnames.faults()) == []


def test_a_public_name_without_a_description_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import proxybox

    monkeypatch.setattr(proxybox.Deny, "__doc__", None)
    monkeypatch.setattr(publicnames, "REFERENCE", ("docs/api-policies.md", "docs/api-controller.md"))
    found = list(publicnames.faults())
    assert "proxybox.Deny has no docstring" in found
    assert any(fault.startswith("proxybox.run stands in none of ") for fault in found)


def test_what_docstrings_say_of_names_becomes_a_list() -> None:
    pytest.importorskip("griffe", reason="the extra docs is not installed")
    from tools.docstrings import listed

    text = "A file.\n\nname: below\n/box. size, mode: as stat(2) has them: bytes. Raises OSError."
    assert listed(text, {"name", "size", "mode"}) == (
        "A file.\n\n- `name`: below /box.\n- `size`, `mode`: as stat(2) has them: bytes.\n\nRaises OSError."
    )
    assert listed("It tells the name: as text.", {"name"}) == "It tells the name: as text."


#: The purposes of pages (https://diataxis.fr). `nav` of mkdocs.yml has the kind of each page, as docs/README.md has.
KINDS = ["Tutorials", "How-to guides", "Reference", "Explanation"]
INDEX = "docs/README.md"
ROOMS = ["controller/README.md", "controller/vfs/README.md", "deploy/README.md", "proxybox/README.md",
         "proxybox/guest/README.md"]  # fmt: skip


def kinds() -> dict[str, list[str]]:
    """Returns the pages of each kind in `nav` of mkdocs.yml, in order."""
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].partition("\n\n")[0]
    groups = re.split(r"^  - (.+):$", nav, flags=re.MULTILINE)[1:]
    parts = zip(groups[::2], groups[1::2], strict=True)
    return {kind: re.findall(r"- (\S+\.md)$", pages, re.MULTILINE) for kind, pages in parts}


def test_each_page_is_of_one_kind() -> None:
    assert list(kinds()) == KINDS
    pages = [page for found in kinds().values() for page in found]
    wanted = {*(str(page.relative_to(ROOT)) for page in DOCUMENTS), *ROOMS} - {"README.md", INDEX}
    how = f"in nav of mkdocs.yml, under one of {KINDS}, and a line for it in {INDEX}; split a page that is of two kinds"
    assert sorted(wanted - set(pages)) == [], f"these pages have no kind: put each {how}"
    assert sorted(set(pages) - wanted) == [], "nav of mkdocs.yml names pages that do not exist"
    assert sorted({page for page in pages if pages.count(page) > 1}) == [], f"these come twice: put each once {how}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_index_has_the_same_kinds(kind: str) -> None:
    section = (ROOT / INDEX).read_text().partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^- (\[.*?\]\(.*?\)): \S", section, re.MULTILINE)
    titles = {page: (ROOT / page).read_text().partition("\n")[0].removeprefix("# ") for page in kinds()[kind]}
    wanted = [f"[{title}]({os.path.relpath(page, 'docs')})" for page, title in titles.items()]
    assert lines == wanted, (
        f"{INDEX}, {kind}: want the pages of this kind in mkdocs.yml, each with its title and a line"
    )


def test_every_exit_status_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    for status in {*BY_STATUS.values(), 2}:
        assert f"\n| {status} |" in text, status


@pytest.mark.parametrize("name", [
    "sessions.md", "host-functions.md", "evaluate.md", "async.md", "batch.md", "commits.md", "review.md",
    "serve-codejail.md", "agents.md",
])  # fmt: skip
def test_the_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROXYBOX_WARM", raising=False)
    path = ROOT / "docs" / name
    text = path.read_text()
    names: dict[str, object] = {}
    found = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert found
    try:
        for example in found:
            lines_before = "\n" * (text.count("\n", 0, example.start()) + 1)
            exec(compile(lines_before + example[1], str(path), "exec"), names)
    finally:
        shared.close()
        zygotepool.close()
        reaper.settle()
