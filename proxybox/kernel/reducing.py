"""HTML of a box, reduced to tables and text.

The promise: what `reduced` returns consists of the tags below, without any attribute but the spans of cells, and of
text. So nothing in it runs, loads, links, is styled, or has an id on the page. Control characters and characters that
reorder text become visible escapes. No page makes formulas of the text: the signs of formulas are in separate elements.

The HTML is cleaned twice, and each time would be enough. First this module writes the tags anew, closes each where it
belongs, and escapes the text between them. Then nh3 parses this output as a page would, and corrects tables. It reads
only this output, so no markup takes it long to parse.
"""

import html
import re
from typing import Any, Final

import nh3

from proxybox.kernel.budget import StepBudget
from proxybox.kernel.refusal import CannotShow

_CHARACTERS, _ELEMENTS, _DEPTH = 1 << 20, 50_000, 60
#: How many places of a table all cells together may span.
_PLACES: Final = 200_000
_MOST_SPANNED: Final = 1000

_TABLES: Final = frozenset(["table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"])
_TEXT: Final = frozenset([
    "div", "p", "pre", "blockquote", "ul", "ol", "li", "dl", "dt", "dd", "span", "b", "strong", "i", "em", "u", "s",
    "code", "kbd", "samp", "var", "sub", "sup", "small", "h1", "h2", "h3", "h4", "h5", "h6",
])  # fmt: skip
_WITHOUT_END: Final = frozenset(["br", "hr"])
#: Open elements that end when another one begins: their end tags are often left out.
_ENDED_BY: Final = {
    "tr": ("td", "th", "tr"), "td": ("td", "th"), "th": ("td", "th"), "p": ("p",), "li": ("li",), "dt": ("dt", "dd"),
    "dd": ("dt", "dd"),
}  # fmt: skip
#: Elements whose content is no text.
_LEFT_OUT: Final = frozenset([
    "script", "style", "title", "template", "noscript", "iframe", "object", "svg", "math", "select", "textarea",
    "noembed", "noframes", "xmp",
])  # fmt: skip
_MARKUP: Final = re.compile(
    r"(?P<begin><!--)|(?P<end>-->)|<[!?][^<>]*>"
    r"|<(?P<slash>/?)(?P<name>[a-z][a-z0-9-]{0,40})(?P<attributes>(?:[\s/][^<>]*)?)>",
    re.ASCII | re.IGNORECASE,
)
_SPAN: Final = re.compile(r"""\b(colspan|rowspan)\s*=\s*["']?(\d{1,4})\b""", re.ASCII | re.IGNORECASE)
#: References to no character: `int` refuses a number of thousands of digits.
_LONG: Final = re.compile("&#(?=[0-9]{8})")
#: Signs of formulas: MathJax finds formulas within one element only.
_FORMULA: Final = re.compile(r"[$\\]")
_CLEANER: Final = nh3.Cleaner(
    tags=_TABLES | _TEXT | _WITHOUT_END,
    clean_content_tags=set(),
    attributes={cell: {"colspan", "rowspan"} for cell in ("td", "th")},
    link_rel=None,
    url_schemes=set(),
)


def reduced(value: Any, budget: StepBudget | None = None) -> str:
    """Returns HTML as tables and text, for a page that trusts it. Raises CannotShow."""
    if not isinstance(value, str):
        raise CannotShow("no text")
    if len(value) > _CHARACTERS:
        raise CannotShow("too large")
    writer = _Writer(budget or StepBudget())
    at = 0  # the end of the text that has been read
    for found in _MARKUP.finditer(value):
        writer.text(value[at : found.start()])
        writer.markup(found)
        at = found.end()
    writer.text(value[at:])
    clean = _CLEANER.clean(writer.whole()).strip()
    if not clean:
        raise CannotShow("it has no table and no text")
    return clean


class _Writer:
    """Writes what is allowed. It stores which elements are open, and which element it leaves out now."""

    def __init__(self, budget: StepBudget) -> None:
        self._budget = budget
        self._parts: list[str] = []
        self._size = self._count = self._places = 0
        self._open: list[str] = []
        self._left_out = ""  # the name of the element; "!" for a comment

    def text(self, text: str) -> None:
        if text and not self._left_out:
            self._budget.take(2 + text.count("&"))
            plain = self._budget.harmless(html.unescape(_LONG.sub("&amp;#", text)).replace("\xa0", " "))
            self._put(_FORMULA.sub(r"<span>\g<0></span>", html.escape(plain, quote=False)))

    def markup(self, found: "re.Match[str]") -> None:
        name = (found["name"] or "").lower()
        self._budget.take(2)
        if self._left_out:
            if found["end"] if self._left_out == "!" else found["slash"] and name == self._left_out:
                self._left_out = ""
        elif found["begin"]:
            self._left_out = "!"
        elif found["end"]:
            self._put("--&gt;")
        elif name in _LEFT_OUT and not found["slash"]:
            self._left_out = name
        elif name in _WITHOUT_END:
            self._begin(name, "")
        elif name in _TABLES or name in _TEXT:
            if found["slash"]:
                self._end(name)
            else:
                while self._open and self._open[-1] in _ENDED_BY.get(name, ()):
                    self._put(f"</{self._open.pop()}>")
                self._begin(name, self._spans(found["attributes"]) if name in ("td", "th") else "")
                self._open.append(name)

    def whole(self) -> str:
        while self._open:
            self._put(f"</{self._open.pop()}>")
        return "".join(self._parts)

    def _begin(self, name: str, attributes: str) -> None:
        self._count += 1
        if self._count > _ELEMENTS:
            raise CannotShow("too many elements")
        if len(self._open) >= _DEPTH:
            raise CannotShow("too deep")
        self._put(f"<{name}{attributes}>")

    def _end(self, name: str) -> None:
        while name in self._open:
            ended = self._open.pop()
            self._put(f"</{ended}>")
            if ended == name:
                return

    def _spans(self, attributes: str) -> str:
        spans = {name.lower(): min(int(number), _MOST_SPANNED) for name, number in _SPAN.findall(attributes)}
        self._places += spans.get("colspan", 1) * spans.get("rowspan", 1)
        if self._places > _PLACES:
            raise CannotShow("too many cells")
        return "".join(f' {name}="{number}"' for name, number in spans.items())

    def _put(self, part: str) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > 2 * _CHARACTERS:
            raise CannotShow("too large")
