"""Markdown as HTML: whatever a text contains, no script runs, and nothing is loaded from elsewhere."""

import base64
import html.parser
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("markdown_it", reason="Markdown is read by markdown-it-py (extra classroom)")

from proxybox.classroom.markdown import MOST_TEXT, to_html

ELEMENTS = frozenset({
    "h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "code", "em", "strong", "s", "a", "img", "ul", "ol", "li",
    "blockquote", "hr", "br", "table", "thead", "tbody", "tr", "th", "td",
})  # fmt: skip
PICTURE = b"\x89PNG not really"


class Seen(html.parser.HTMLParser):
    """Parses HTML. elements: each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def elements(text: str, **more: object) -> list[tuple[str, dict[str, str | None]]]:
    """Returns the elements of a text's HTML, and checks that all of them are harmless."""
    found = Seen(to_html(text, **more)).elements  # type: ignore[arg-type]
    for tag, attributes in found:
        assert tag in ELEMENTS
        for name, value in attributes.items():
            assert value is not None
            wanted = {
                "href": r"https?://[^\s/].*",
                "rel": "noopener noreferrer",
                "target": "_blank",
                "title": ".*",
                "class": r"language-[A-Za-z0-9+-]+|align-(left|right|center)",
                "start": r"\d+",
                "src": r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+",
                "alt": ".*",
            }[name]
            assert re.fullmatch(wanted, value, re.DOTALL | re.IGNORECASE), (tag, name, value)
    return found


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a <b onclick='x'>b</b> <!-- c --> <?php ?> <![CDATA[x]]> <!DOCTYPE html>",
    "<style>*{}</style>\n\n<svg/onload=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](java%73cript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "[x](vbscript:x) [x](data:text/html,x) [x](file:///etc/passwd) [x](mailto:a@b.c) [x](ftp://a.b)",
    "<javascript:alert(1)> <data:text/html,x> <a@b.c>",
    "[x](//evil.example) [x](/etc) [x](../x) [x](#top) [x]() [x](https:x) [x](https:///x) [x](http://)",
    "[x][1] ![x][1]\n\n[1]: javascript:alert(1)",
    "[x][1] ![x][1]\n\n[1]: https://a.b 'title\" onclick=\"x'",
    '[x](https://a.b/"onclick=x) [x](https://a.b \'" onclick="x\')',
    "![x](javascript:alert(1)) ![x](https://a.b/x.png) ![x](data:image/svg+xml,<svg/onload=x>) ![x](//a.b/x.png)",
    '![" onerror="x](p.png) ![<script>](p.png)',
    '```x" onclick="y\ncode\n```',
    "```python style=x\n</code></pre><script>\n```",
    "~~~<script>\n~~~",
    "    <script>indented</script>",
    "`<script>` ``<img src=x>``",
    "| <i> | b |\n|:-:|--:|\n| <script> | `|` |",
    "# <script>\n\n<h1>\n===",
    "&lt;script&gt; &#60;script&#62; &amp;lt;",
    "[<script>](https://a.b) *<b>* **<i>** ~~<u>~~",
    "\u202e<script>\u2028</script>\0",
    "[![x](javascript:y)](javascript:z) [![x](p.png)](https://a.b)",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_text_is_carried_out(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PICTURE)
    elements(text)
    elements(text, pictures=tmp_path)
    nested = "\n".join(f"> - {line}" for line in text.splitlines())
    elements(nested, shift=2)


def test_html_is_shown_as_text() -> None:
    assert to_html("a <b>c</b>\n") == "<p>a &lt;b&gt;c&lt;/b&gt;</p>\n"


def test_links_lead_to_the_web_alone() -> None:
    text = "[a](https://a.b/?x=1&y=2) [b](HTTP://c.d) <https://e.f> [g](h.html) [i](//j) [k](javascript:l) <mailto:m@n>"
    found = elements(text)
    assert [attributes["href"] for tag, attributes in found if tag == "a"] == [
        "https://a.b/?x=1&y=2", "HTTP://c.d", "https://e.f",
    ]  # fmt: skip
    shown = to_html(text)
    assert "g i [k](javascript:l) &lt;mailto:m@n&gt;" in shown
    assert shown.count('rel="noopener noreferrer" target="_blank"') == 3


@pytest.mark.parametrize(("shift", "tags"), [(0, "h1 h2 h6"), (1, "h2 h3 h6"), (2, "h3 h4 h6")])
def test_headings_are_lower_than_those_of_the_page(shift: int, tags: str) -> None:
    assert [tag for tag, _ in elements("# One\n\nTwo\n---\n\n###### Six\n", shift=shift)] == tags.split()
    assert to_html("# One", shift=shift).endswith(f"</{tags[:2]}>\n")


def test_code_says_its_language() -> None:
    text = "```python\nif a < b:\n    pass\n```\n\n```\noutput\n```\n"
    assert to_html(text) == (
        '<pre><code class="language-python">if a &lt; b:\n    pass\n</code></pre>\n<pre><code>output\n</code></pre>\n'
    )


def test_tables_have_classes_and_no_style() -> None:
    cells = [attributes.get("class") for tag, attributes in elements("|a|b|c|\n|:-|-:|-|\n|1|2|3|") if tag == "td"]
    assert cells == ["align-left", "align-right", None]


def test_pictures_of_the_course_are_carried_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.PNG").write_bytes(PICTURE)
    text = "![a *turtle*](pictures/a.PNG)"
    ((_, _), (tag, attributes)) = elements(text, pictures=tmp_path)
    assert (tag, attributes["alt"]) == ("img", "a turtle")
    assert attributes["src"] == f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    assert to_html(text) == "<p>a *turtle*</p>\n"


def test_no_other_file_is_carried_in_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "lesson"
    (folder / "tests").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(PICTURE)
    (folder / "tests/test_it.py").write_text("secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "folder.png").mkdir()
    (folder / "large.png").write_bytes(bytes((1 << 20) + 1))
    os.mkfifo(folder / "pipe.png")
    names = (
        "../secret.png", str(tmp_path / "secret.png"), "tests/test_it.py", "link.png", "folder.png", "large.png",
        "pipe.png", "none.png", "a%2e%2e/../../secret.png", "%00.png", "secret.png#x.png",
    )  # fmt: skip
    for name in names:
        assert to_html(f"![no]({name})", pictures=folder) == "<p>no</p>\n", name


def test_the_pictures_of_a_text_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bytes(1 << 20))
    found = elements("![no](a.png)" * 7, pictures=tmp_path)
    assert [tag for tag, _ in found].count("img") == 4


def test_a_long_text_is_shown_as_it_stands() -> None:
    text = "# One\n<b>\n" + "[" * MOST_TEXT
    assert to_html(text).startswith("<pre><code># One\n&lt;b&gt;\n[[[")
    assert [tag for tag, _ in elements(text)] == ["pre", "code"]
