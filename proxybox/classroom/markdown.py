"""Markdown to HTML for the pages: the texts of lessons, the syllabus, hints.

Rule: the HTML of any text consists only of the elements of CommonMark and of tables, made here. HTML in the text is
shown as text. Links lead only to http and https, and open a new page. Pictures are files of the course, as data in the
page. There is no style, no id, no script, and no class but `language-...` of code and `align-...` of cells.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from proxybox.policies import PolicyError
from proxybox.teach.folders import ExerciseError, read, to_path

PICTURES: Final[Mapping[str, str]] = {
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
"""The kinds of pictures, by the endings of their names."""
MOST_TEXT: Final = 50_000
"""The most characters of a text; what is longer is shown as it stands."""
_MOST_PICTURE: Final = 1 << 20
_MOST_PICTURES: Final = 4 << 20
_WEB: Final = re.compile(r"https?://[^\s/]\S*", re.IGNORECASE)
_HAS_SCHEME: Final = re.compile(r"[^/?#]*:")
_LANGUAGE: Final = re.compile(r"[A-Za-z0-9+-]{1,30}")
_ALIGNMENT: Final = re.compile(r"text-align:(left|right|center)")
_LOWEST: Final = 6


def to_html(text: str, *, shift: int = 1, pictures: Path | None = None) -> str:
    """Returns the HTML of a text.

    shift: by how many levels the headings are lower than in the text, because the page has headings of its own.
    pictures: the folder of relative paths of pictures. A picture is replaced by its description if there is no such
    file, if it is no picture or larger than 1 MiB, and after 4 MiB of a text's pictures.
    """
    if len(text) > MOST_TEXT:
        text = "\n".join(f"    {line}" for line in text[:MOST_TEXT].splitlines())
    rendered: str = _PARSER.render(text, {"told": _Context(shift, pictures)})
    return rendered


@attrs.define
class _Context:
    """The options of `to_html` for a text. left: bytes of pictures that it may still have."""

    shift: int
    folder: Path | None
    left: int = _MOST_PICTURES


def _is_taken(url: str) -> bool:
    """Whether a link or a picture is shown as one, not as written: its URL is of the web, or has no scheme."""
    return bool(_WEB.fullmatch(url)) or not _HAS_SCHEME.match(url)


def _tame(state: StateCore) -> None:
    """Changes the tokens of a text to those that the rule of this file allows."""
    context: _Context = state.env["told"]
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(_LOWEST, int(token.tag[1:]) + context.shift)}"
        elif token.type == "fence" and not _LANGUAGE.fullmatch(token.info.strip()):
            token.info = ""
        elif token.type in ("th_open", "td_open"):
            aligned = _ALIGNMENT.fullmatch(str(token.attrs.pop("style", "")))
            if aligned:
                token.attrs["class"] = f"align-{aligned[1]}"
        elif token.children is not None:
            token.children = list(_tame_inline(token.children, context))


def _tame_inline(tokens: Sequence[Token], context: _Context) -> Iterator[Token]:
    is_link = False
    for token in tokens:
        if token.type == "link_open":
            is_link = bool(_WEB.fullmatch(str(token.attrs["href"])))
            token.attrs |= {"rel": "noopener noreferrer", "target": "_blank"}
        if token.type == "image":
            yield _picture(token, context)
        elif is_link or token.type not in ("link_open", "link_close"):
            yield token


def _picture(token: Token, context: _Context) -> Token:
    """The token of a picture with its data, or that of its description."""
    kind, raw = _picture_of(str(token.attrs["src"]), context.folder)
    context.left -= len(raw)
    if not raw or context.left < 0:
        return Token("text", "", 0, content=token.content)
    token.attrs["src"] = f"data:{kind};base64,{base64.b64encode(raw).decode()}"  # RFC 2397
    return token


def _picture_of(src: str, folder: Path | None) -> tuple[str, bytes]:
    """The media type and the content of a picture in the folder; no content if it is not a picture."""
    try:
        path = to_path(src)
        kind = PICTURES.get(Path(path).suffix.lower(), "")
        if folder is None or not kind:
            return "", b""
        whole = (folder / path).resolve()
        if not whole.is_relative_to(folder.resolve()) or not whole.is_file():
            return "", b""
        return kind, read(whole, _MOST_PICTURE)
    except (PolicyError, ExerciseError):
        return "", b""


def _made() -> MarkdownIt:
    options: dict[str, Any] = {"html": False, "linkify": False, "typographer": False}
    parser = MarkdownIt("commonmark", options).enable(["table", "strikethrough"])
    parser.validateLink = _is_taken  # type: ignore[method-assign]
    parser.core.ruler.push("tame", _tame)
    return parser


_PARSER: Final = _made()
