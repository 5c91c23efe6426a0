"""Hooks of mkdocs (mkdocs.yml): the site has the paths of git, so that links between documents are the same in both.

A linked file that is not a page, such as a source file, becomes a page that shows it. With `strict`, every warning
makes the build fail, and so does a public name without a description (tools/publicnames.py).
"""

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from tools import publicnames

ROOT = Path(__file__).resolve().parent.parent
#: Documents outside of docs/.
OTHERS = [*sorted(ROOT.glob("*.md")), *(ROOT / name for name in (
    "controller/README.md", "controller/vfs/README.md", "deploy/README.md", "proxybox/README.md",
    "proxybox/guest/README.md",
))]  # fmt: skip
#: A link to a file, with an optional title behind the target.
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
#: A nested list: two spaces are enough on forges, but not here.
NESTED = re.compile(r"^  (?=- )", re.MULTILINE)
CELL = re.compile(r"<td>.*?</td>")
LANGUAGES = {".py": "python", ".c": "c", ".h": "c", ".toml": "toml", ".svg": "xml"}
log = logging.getLogger("mkdocs.proxybox")


@event_priority(100)  # before mkdocstrings reads the configuration
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Makes a tree with the links in proxybox/ to the folders beside it, if an unpacked source archive lacks them."""
    if not (ROOT / "proxybox/controller").exists():
        tree = ROOT / "build/tree/proxybox"
        tree.mkdir(parents=True, exist_ok=True)
        for path in (*(ROOT / "proxybox").iterdir(), ROOT / "controller", ROOT / "policies"):
            if not (tree / path.name).is_symlink():
                (tree / path.name).symlink_to(path)
        config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(tree.parent)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    documents = [*OTHERS, *(path for path in sorted((ROOT / "docs").rglob("*")) if path.is_file())]
    places = {path.relative_to(ROOT).as_posix(): path for path in documents}
    found = [File.generated(config, place, abs_src_path=str(path)) for place, path in places.items()]
    shown = {target for path in documents if path.suffix == ".md" for target in _targets(path)} - set(places)
    found += [
        File.generated(config, f"{place}.md", content=_shown(place), inclusion=InclusionLevel.NOT_IN_NAV)
        for place in sorted(shown)
    ]
    theme = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*theme, *found])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Changes links to files without a page of their own, so that they lead to the page that shows the file."""
    folder = posixpath.dirname(page.file.src_uri)

    def led(link: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(folder, link[2]))
        is_shown = files.get_file_from_path(place) is None and files.get_file_from_path(f"{place}.md")
        return f"{link[1]}{link[2]}{'.md' if is_shown else ''}{link[3]}"

    return NESTED.sub("    ", LINK.sub(led, markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Removes the backslash before a bar within a table, as forges do."""
    return CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)


def on_env(env: Any, config: MkDocsConfig, files: Files) -> None:
    for fault in publicnames.faults():
        log.warning(fault)


def _targets(document: Path) -> Iterator[str]:
    """Yields the files of this tree to which a document links."""
    for _, target, _ in LINK.findall(document.read_text()):
        place = (document.parent / target).resolve()
        if "://" not in target and place.is_file() and place.is_relative_to(ROOT):
            yield place.relative_to(ROOT).as_posix()


def _shown(place: str) -> str:
    text = (ROOT / place).read_text()
    fence = "`" * 6
    language = LANGUAGES.get(posixpath.splitext(place)[1], "text")
    return f"---\nsearch:\n  exclude: true\n---\n# {place}\n\n{fence}{language}\n{text}\n{fence}\n"
