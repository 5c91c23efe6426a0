"""The explanation as one HTML file that needs no other file, runs no script and loads nothing."""

from collections.abc import Iterator
from typing import Final

from proxybox.records.explaining.markup import Element, as_html, element, style
from proxybox.records.explaining.picture import COLUMNS, STYLE, draw
from proxybox.records.explaining.sections import SummarySection
from proxybox.records.explaining.timeline import Timeline

#: The factor by which the second picture is wider.
STRETCHED: Final = 5
#: Rows of one table, and lines of one section.
MOST_ROWS, MOST_LINES = 2000, 2000
_STYLE: Final = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d0d7de;--box:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#9aa4af;--line:#30363d;--box:#161b22}}
*{box-sizing:border-box}body{margin:0 auto;max-width:84rem;padding:1rem;background:var(--bg);color:var(--fg);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;overflow-wrap:normal}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid var(--line);vertical-align:top}
.num{text-align:right;white-space:nowrap}td{white-space:pre-wrap}
pre{white-space:pre-wrap;background:var(--box);border:1px solid var(--line);border-radius:.3rem;padding:.6rem;margin:0}
.note{color:var(--dim)}svg.tl{max-width:none}.whole svg.tl{width:100%;height:auto}
summary{cursor:pointer}
"""


def page(timeline: Timeline, title: str, sections: list[SummarySection]) -> str:
    """Returns the page's text."""
    head = element(
        "head", None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy",
                         "content": "default-src 'none'; style-src 'unsafe-inline'"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("title", None, title),
        style(_STYLE + STYLE),
    )  # fmt: skip
    wide = draw(timeline, title, columns=COLUMNS * STRETCHED, alone=False)
    main = element(
        "main", None,
        element("h1", None, title),
        element("div", {"class": "whole"}, draw(timeline, title, alone=False)),
        element("details", None,
                element("summary", None, f"The same, {STRETCHED} times as wide"),
                _scrolled("timeline, stretched", wide)),
        *(part for section in sections for part in _section(section)),
    )  # fmt: skip
    return as_html(element("html", {"lang": "en"}, head, element("body", None, main)))


def _scrolled(name: str, inside: Element) -> Element:
    return element("div", {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": name}, inside)


def _section(section: SummarySection) -> Iterator[Element]:
    yield element("h2", None, section.title)
    lines = section.lines[:MOST_LINES]
    if lines:
        parts: list[str | Element] = []
        for line in lines:
            parts += [line, element("br")]
        yield element("pre", None, *parts[:-1])
    if section.rows:
        yield _scrolled(section.title, _table(section))
    left = len(section.rows) - MOST_ROWS + max(0, len(section.lines) - MOST_LINES)
    after = section.after if left <= 0 else (*section.after, f"{left:,} more are not shown on this page")
    for line in after:
        yield element("p", {"class": "note"}, line)


def _table(section: SummarySection) -> Element:
    def kind(column: int) -> dict[str, str | float]:
        return {"class": "num"} if column in section.right else {}

    head = element(
        "tr", None, *(element("th", {"scope": "col", **kind(at)}, name) for at, name in enumerate(section.head))
    )
    rows = (
        element("tr", None, *(element("td", kind(at), text) for at, text in enumerate(row)))
        for row in section.rows[:MOST_ROWS]
    )
    return element("table", None, element("thead", None, head), element("tbody", None, *rows))
