"""HTML from a hostile box on a notebook's page: only tables and text. Tests are named by attack."""

import re
from typing import Any

import pytest

from proxybox.kernel.reducing import reduced
from proxybox.kernel.refusal import CannotShow
from proxybox.kernel.sanitising import Sanitiser
from proxybox.policies import Policy

#: A table as pandas writes it.
FRAME = """<div>
<style scoped>
    .dataframe tbody tr th { vertical-align: top; }
</style>
<table border="1" class="dataframe">
  <thead>
    <tr style="text-align: right;"><th></th><th colspan="2">a &amp; b</th></tr>
  </thead>
  <tbody>
    <tr><th>0</th><td>1</td><td>&lt;x&gt;</td></tr>
  </tbody>
</table>
<p>1 rows × 2 columns</p>
</div>"""
#: All that the result may contain.
HARMLESS = re.compile(
    r"(?:[^<]|</?(?:table|caption|thead|tbody|tfoot|tr|div|p|pre|blockquote|ul|ol|li|dl|dt|dd|span|b|strong|i|em|u|s|"
    r'code|kbd|samp|var|sub|sup|small|h[1-6])>|<[bh]r>|<t[hd](?: (?:col|row)span="\d{1,4}")*>|</t[hd]>)*'
)


def shown(html: Any) -> dict[str, Any]:
    return Sanitiser(Policy().output.display).bundle({"text/plain": "plain", "text/html": html}, {})[0]


def clean(html: str) -> str:
    """Returns the reduced HTML, or why it was refused; checks that the HTML is harmless."""
    try:
        found = reduced(html)
    except CannotShow as error:
        return f"refused: {error}"
    assert HARMLESS.fullmatch(found), found
    return found


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_a_table_is_shown_without_its_style() -> None:
    text = re.sub(r"\s*\n\s*", "", shown(FRAME)["text/html"])
    assert text == (
        '<div><table><thead><tr><th></th><th colspan="2">a &amp; b</th></tr></thead><tbody><tr><th>0</th><td>1</td>'
        "<td>&lt;x&gt;</td></tr></tbody></table><p>1 rows × 2 columns</p></div>"
    )
    assert shown(FRAME)["text/plain"] == "plain"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("<B>bold</b> <i>and</I>", "<b>bold</b> <i>and</i>"),
        ("1 < 2 & 3 > 2", "1 &lt; 2 &amp; 3 &gt; 2"),
        ("<p>one<p>two", "<p>one</p><p>two</p>"),
        ("<ul>" + "<li>x" * 100 + "</ul>", "<ul>" + "<li>x</li>" * 100 + "</ul>"),
        ("<table><tr><td>a<td>b<tr><td>c</table>",
         "<table><tbody><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></tbody></table>"),
        ("a<br/>b<hr>", "a<br>b<hr>"),
        ("</b></table>text", "text"),
        ("<section><custom-tag>text</custom-tag></section>", "text"),
        ("<!DOCTYPE html><?php ?>text", "text"),
    ],
)  # fmt: skip
def test_text_is_shown(given: str, text: str) -> None:
    assert clean(given) == text


def test_a_policy_that_shows_text_alone() -> None:
    data, _ = Sanitiser(["text/plain"]).bundle({"text/plain": "plain", "text/html": FRAME}, {})
    assert data == {"text/plain": "plain\n[not shown: text/html]"}


def test_html_of_which_nothing_is_left_is_said_to_be() -> None:
    for html in ("", "<style>p {}</style>", "<script>alert(1)</script>"):
        assert shown(html) == {"text/plain": "plain\n[not shown: text/html (it has no table and no text)]"}
    for other in (b"<b>", 3, None, ["<b>"], {"a": 1}):
        assert shown(other) == {"text/plain": "plain\n[not shown: text/html (no text)]"}


# --- what runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<SCRIPT >alert(1)</SCRIPT >",
        "<script>alert(1)",
        "<script/src=//evil></script>",
        "<scr<script></script>ipt>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<img/src='x'/onerror='alert(1)'>",
        "<td onclick=alert(1) colspan=2 onmouseover='alert(1)'>",
        "<b onclick=alert(1)>",
        "<table background='javascript:alert(1)'>",
        "<body onload=alert(1)>",
        "<svg onload=alert(1)>",
        "<svg><script>alert(1)</script></svg>",
        "<svg><animate onbegin=alert(1) attributeName=x></svg>",
        "<math href='javascript:alert(1)'>alert(1)</math>",
        "<details open ontoggle=alert(1)>",
        "<video><source onerror=alert(1)></video>",
        "<input autofocus onfocus=alert(1)>",
        "<marquee onstart=alert(1)>",
        "<template><script>alert(1)</script></template>",
        "<xmp><script>alert(1)</script></xmp>",
        "<a href='javascript:alert(1)'>",
        "<a href='java\nscript:alert(1)'>",
        "<form action='javascript:alert(1)'><button formaction='javascript:alert(1)'>",
        "<iframe src='javascript:alert(1)'></iframe>",
        "<iframe srcdoc='&lt;script&gt;alert(1)&lt;/script&gt;'></iframe>",
        "<object data='javascript:alert(1)'></object><embed src='javascript:alert(1)'>",
        "<meta http-equiv=refresh content='0;javascript:alert(1)'>",
        "<base href='javascript:alert(1)//'>",
        "<link rel=stylesheet href='javascript:alert(1)'>",
        "<style>@import 'javascript:alert(1)';</style>",
    ],
)
def test_what_runs_or_loads(hostile: str) -> None:
    for html in (hostile, f"<table><tr><td>{hostile}</td></tr></table>", f"<b>{hostile}</b>", f"{hostile}<p>text</p>"):
        found = re.sub(r"<script>|&lt;script&gt;", "", clean(html))
        assert "javascript:" not in found
        assert "=" not in found.replace('colspan="2"', "")


@pytest.mark.parametrize(
    "attribute",
    ["style='position:fixed;top:0;left:0'", "class='jp-mod-active'", "id='site'", "name='getElementById'", "hidden",
     "data-commandlinker-command='x'", "align=right", "bgcolor=red", "title='x'", "dir=rtl", "tabindex=1", "is=x",
     "contenteditable", "width=100000", "height=100000", "xmlns='http://www.w3.org/2000/svg'", "slot=a", "popover"],
)  # fmt: skip
def test_what_stands_over_the_page_or_for_its_names(attribute: str) -> None:
    """Styles and classes could cover parts of the page; ids replace the page's own (DOM clobbering)."""
    assert clean(f"<b {attribute}>x</b>") == "<b>x</b>"
    assert clean(f"<table {attribute}><tr {attribute}><td {attribute}>x</td></tr></table>") == (
        "<table><tbody><tr><td>x</td></tr></tbody></table>"
    )


@pytest.mark.parametrize(
    "hostile",
    ["<img src='http://evil/x.png'>", "<a href='http://evil'>text</a>", "<table background='//evil'>",
     "<link rel=icon href='//evil'>", "<form action='//evil'><input name=q><button>text</button></form>",
     "<iframe src='//evil'></iframe>", "<base href='//evil'>", "<meta http-equiv=refresh content='0;url=//evil'>",
     "<style>b { background: url(//evil) }</style>", "<b style='background: url(//evil)'>text</b>",
     "<video poster='//evil'>", "<audio src='//evil'>", "<picture><source srcset='//evil'></picture>"],
)  # fmt: skip
def test_another_server_does_not_learn_who_looks(hostile: str) -> None:
    assert "evil" not in clean(hostile + "more")


@pytest.mark.parametrize(
    "hostile",
    [
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
        "<svg></p><style><a id='</style><img src=1 onerror=alert(1)>'>",
        "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
        "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
        "<table><caption><svg><title><style><img src=x onerror=alert(1)></style></title></svg>",
        "<p><style><!--</style><script>alert(1)//--></script>",
        "<!--><img src=x onerror=alert(1)>-->",
        "<!--!><img src=x onerror=alert(1)>--!>",
        "<![CDATA[<img src=x onerror=alert(1)>]]>",
        "<div><title></div><img src=x onerror=alert(1)></title>",
        "<a title='</textarea><img src=x onerror=alert(1)>'><textarea>",
        "<listing>&lt;img src=x onerror=alert(1)&gt;</listing>",
        "<pre>&lt;img src=x onerror=alert(1)&gt;</pre>",
        "&lt;img src=x onerror=alert(1)&gt;",
        "&amp;lt;img src=x onerror=alert(1)&amp;gt;",
        "<b<img src=x onerror=alert(1)>",
        "<<img src=x onerror=alert(1)>",
        "<\0img src=x onerror=alert(1)>",
        "<td/colspan='\"><img src=x onerror=alert(1)>'>",
        "<td colspan=\"1' onclick=alert(1) '\">",
        "<ımg src=x onerror=alert(1)><\u017fcript>alert(1)</\u017fcript>",
        "<plaintext><img src=x onerror=alert(1)>",
        "<select><template><style><!--</style><a rel='--><img src=x onerror=alert(1)>'>",
    ],
)
def test_markup_that_two_parsers_read_in_two_ways(hostile: str) -> None:
    """Against mutation XSS: the result has only text and allowed tags, and does not change when it is parsed again."""
    for html in (hostile, f"<table>{hostile}</table>", f"<table><tr><td>{hostile}"):
        found = clean(html)
        assert "<img" not in found
        if not found.startswith("refused"):
            assert clean(found.replace("<span>", "").replace("</span>", "")) == found


def test_formulas_that_the_page_would_set() -> None:
    r"""MathJax would make links and styles of them: \href, \style, \class."""
    for formula in (r"$\href{javascript:alert(1)}{x}$", r"\(\style{position:fixed}{x}\)", r"$$x$$", "&#36;x&#36;",
                    r"\begin{equation}x\end{equation}"):  # fmt: skip
        pieces = re.split(r"</?\w+>", clean(f"<p>{formula}</p>"))
        assert all(piece in ("$", "\\") or not set("$\\") & set(piece) for piece in pieces)


# --- text -------------------------------------------------------------------------------------------------------------


def test_controls_and_what_reorders_text() -> None:
    found = clean("a\x1b[31mb\u202ec&#x202e;d\x9b\ud800")
    assert found.replace("<span>\\</span>", "\\") == "a\\x1b[31mb\\u202ec\\u202ed\\x9b\\ud800"
    assert clean("&nbsp;a&nbsp;b") == "a b"


# --- too much ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "why"),
    [
        ("a" * (1 << 20) + "b", "too large"),
        ("&" * (1 << 20), "too large"),
        ("\x1b" * (1 << 20), "too large"),
        ("<b>x</b>" * 60_000, "too many elements"),
        ("<br>" * 60_000, "too many elements"),
        ("<div>" * 100 + "x", "too deep"),
        ("<table><tr><td>" * 100 + "x", "too deep"),
        ("<table><tr>" + "<td colspan=1000 rowspan=1000>x" * 3, "too many cells"),
        ("<table><tr>" + "<td colspan=9999 rowspan=9999>x" * 3, "too many cells"),
    ],
)
def test_what_would_fill_the_page(html: str, why: str) -> None:
    with pytest.raises(CannotShow, match=why):
        reduced(html)
    assert shown(html) == {"text/plain": f"plain\n[not shown: text/html ({why})]"}


@pytest.mark.parametrize(
    "html",
    ["<" * (1 << 19), "<a" * (1 << 18), "<b " * (1 << 18), "<!--" * (1 << 17), "-->" * (1 << 17), "&#" * (1 << 18),
     "<" + "a" * (1 << 19) + ">", "<td " + "colspan=" * (1 << 16) + ">", "<td colspan" + " " * (1 << 19) + ">",
     "<script>" * (1 << 16), "</b>" * (1 << 17), "<b a=1><p>" * 50 * 200, "<table>" + "<b>x</b>" * 40_000,
     ("<b>" * 50 + "</b>" * 50 + "<p>x</p>") * 400, "<b><p>x</b></p>" * 10_000],
)  # fmt: skip
def test_markup_that_takes_long_to_read(html: str) -> None:
    """The time grows linearly with the length.

    Formatting without an end, repeated in each paragraph, would take hours.
    """
    clean(html)
