"""Displays from a hostile box on a notebook's page: only what `sanitising` promises. Tests are named by attack."""

import base64
import re
import time
from typing import Any
from xml.etree import ElementTree

import pytest

from proxybox.kernel.sanitising import CannotShow, Sanitiser, svg
from proxybox.policies import Output, Policy

PNG, JPEG, GIF = b"\x89PNG\r\n\x1a\nrest", b"\xff\xd8\xff\xe0rest", b"GIF89arest"
NS = "http://www.w3.org/2000/svg"


def shown(data: dict[str, Any], metadata: dict[str, Any] | None = None, **output: Any) -> tuple[Any, Any]:
    policy = Output(**output)
    return Sanitiser(policy.display, raw=policy.escapes == "raw").bundle(data, metadata or {})


def picture(inside: str, attributes: str = "") -> str:
    return svg(f'<svg xmlns="{NS}" xmlns:xlink="http://www.w3.org/1999/xlink" {attributes}>{inside}</svg>')


# --- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "data"), [("image/png", PNG), ("image/jpeg", JPEG), ("image/gif", GIF)])
def test_pictures_are_shown(kind: str, data: bytes) -> None:
    encoded = base64.b64encode(data).decode()
    for given in (data, encoded, encoded[:8] + "\n" + encoded[8:]):
        assert shown({"text/plain": "p", kind: given}) == ({"text/plain": "p", kind: encoded}, {})


def test_a_drawing_is_shown() -> None:
    drawing = (
        f'<svg xmlns="{NS}" width="10" height="10" viewBox="0 0 10 10"><g transform="translate(1, 2)">'
        '<path d="M0 0L1e-5 1Z" fill="#fff" stroke="rgb(1, 2, 3)"/>'
        "<text font-family=\"'DejaVu Sans', serif\">a &lt; b</text></g></svg>"
    )
    assert ElementTree.canonicalize(svg(drawing)) == ElementTree.canonicalize(drawing)
    assert svg(drawing.encode()) == svg('<?xml version="1.0" encoding="latin-1"?>\n' + drawing) == svg(drawing)


def test_json_is_shown() -> None:
    value = {"a": [1, 2.5, None, True, "x"]}
    assert shown({"application/json": value})[0]["application/json"] == value


# --- scripts in the page ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/javascript", "text/markdown", "text/latex", "a/b"])
def test_what_the_page_would_obey_is_left_out_and_said_to_be(kind: str) -> None:
    assert shown({"text/plain": "plain", kind: "<script>alert(1)</script>"}) == (
        {"text/plain": f"plain\n[not shown: {kind}]"}, {},
    )  # fmt: skip
    assert kind not in Policy().output.display


def test_html_is_tables_and_text_where_the_policy_does_not_name_it() -> None:
    """See test_reducing.py."""
    data, _ = shown({"text/plain": "plain", "text/html": "<b onclick='alert(1)'>bold</b><script>alert(1)</script>"})
    assert data == {"text/plain": "plain", "text/html": "<b>bold</b>"}
    assert "text/html" not in Policy().output.display


def test_html_is_shown_where_the_policy_names_it() -> None:
    data, _ = shown({"text/plain": "", "text/html": "<b>\ud800</b>"}, display=["text/html"])
    assert data == {"text/plain": "", "text/html": "<b>\\ud800</b>"}


@pytest.mark.parametrize("kind", ["TEXT/HTML", " text/html", "text/html;charset=utf-8", "text/html\0"])
def test_another_spelling_of_a_type(kind: str) -> None:
    data, _ = shown({"text/plain": "", kind: "<script>"})
    assert data.keys() == {"text/plain"}
    assert "\0" not in data["text/plain"]


def test_html_called_a_picture() -> None:
    for given in (b"<script>", "PHNjcmlwdD4=", "<script>", 3, None, ["x"], b""):
        data, _ = shown({"text/plain": "p", "image/png": given})
        assert data.keys() == {"text/plain"}
        assert data["text/plain"].startswith("p\n[not shown: image/png (")


def test_a_picture_of_another_kind() -> None:
    assert shown({"image/png": GIF})[0].keys() == {"text/plain"}


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<g><script href='data:,alert(1)'/></g>",
        "<foreignObject><body xmlns='http://www.w3.org/1999/xhtml'><img onerror='alert(1)'/></body></foreignObject>",
        "<style>@import url(//evil)</style>",
        "<a href='javascript:alert(1)'><text>press</text></a>",
        "<set attributeName='onmouseover' to='alert(1)'/>",
        "<animate attributeName='href' values='javascript:alert(1)'/>",
        "<h:script xmlns:h='http://www.w3.org/1999/xhtml'>alert(1)</h:script>",
        "<handler xmlns='http://www.w3.org/2001/xml-events'>alert(1)</handler>",
        "<iframe src='//evil'/><embed src='//evil'/><object data='//evil'/><video src='//evil'/>",
        "<filter id='f'/><mask id='m'/><pattern id='p'/><marker id='k'/>",
        "<metadata>x</metadata>",
    ],
)
def test_an_element_that_runs_or_loads(hostile: str) -> None:
    assert picture(hostile + "<rect/>").removesuffix("</svg>").endswith("<rect/>")
    for word in ("script", "alert", "evil", "foreign", "style", "href", "set", "animate", "filter", "metadata"):
        assert word not in picture(hostile + "<rect/>")


@pytest.mark.parametrize(
    "attribute",
    [
        "onload='alert(1)'",
        "onclick='alert(1)'",
        "ONLOAD='alert(1)'",
        "xlink:href='javascript:alert(1)'",
        "href='//evil/x.svg#a'",
        "href='file:///etc/passwd'",
        "href='data:text/html,x'",
        "fill='url(//evil)'",
        "fill='url(&quot;http://evil&quot;)'",
        "fill='url(#a) url(//evil)'",
        "fill='u\\72l(//evil)'",
        "fill='src(evil)'",
        "fill='image-set(evil)'",
        "fill='var(--evil)'",
        "clip-path='url(evil#a)'",
        "style='background: url(//evil)'",
        "style='fill: url(//evil)'",
        "style='position: fixed; top: 0'",
        "style='fill: expression(evil)'",
        "style='fill: red/**/;behavior:url(//evil)'",
        "class='evil'",
        "data-evil='x'",
        "xml:base='//evil'",
        "filter='url(#f)'",
        "cursor='url(//evil)'",
    ],
)
def test_an_attribute_that_runs_or_loads(attribute: str) -> None:
    assert picture(f"<rect {attribute}/>", attribute) == f'<svg xmlns="{NS}"><rect/></svg>'


def test_what_stands_in_for_the_pages_own() -> None:
    """The picture would replace an element of the page with the same id (DOM clobbering)."""
    drawing = picture(
        "<defs><linearGradient id='site'/><path id='p'/></defs><use xlink:href='#p'/><rect fill='url(#site)' "
        "style='clip-path: url(#site); stroke: red'/>"
    )
    assert 'id="site"' not in drawing
    assert 'id="box-site"' in drawing
    assert '<use href="#box-p"/>' in drawing
    assert '<rect fill="url(#box-site)" clip-path="url(#box-site)" stroke="red"/>' in drawing


def test_a_picture_from_elsewhere_in_a_picture() -> None:
    encoded = base64.b64encode(PNG).decode()
    assert f'href="data:image/png;base64,{encoded}"' in picture(f"<image href='data:image/png;base64,{encoded}'/>")
    for target in (
        "//evil/x.png", "data:image/svg+xml;base64,PHN2Zy8+", "data:image/png;base64,PHN2Zy8+", "data:image/png,x",
        "#a",
    ):  # fmt: skip
        assert picture(f"<image href='{target}'/>") == f'<svg xmlns="{NS}"><image/></svg>'


def test_text_that_ends_its_element() -> None:
    assert picture("<text>&lt;script&gt;</text><title><![CDATA[</svg><script>]]></title>") == (
        f'<svg xmlns="{NS}"><text>&lt;script&gt;</text><title>&lt;/svg&gt;&lt;script&gt;</title></svg>'
    )
    assert "<script" not in picture("<g fill='&quot;&gt;&lt;script&gt;'/>")


# --- XML as a weapon --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hostile", "why"),
    [
        ("<!DOCTYPE svg [<!ENTITY a 'aaa'>]><svg>&a;</svg>", "a DOCTYPE"),
        ("<!DOCTYPE svg SYSTEM 'file:///etc/passwd'><svg/>", "a DOCTYPE"),
        ("<?xml-stylesheet href='//evil'?><svg/>", "a processing instruction"),
        ("<svg><?php x?></svg>", "a processing instruction"),
        ("<svg>", "no XML"),
        ("<svg/><script/>", "no XML"),
        ("", "no XML"),
        ("<html/>", "its outermost element is no svg"),
        ("<svg xmlns='http://www.w3.org/1999/xhtml'/>", "its outermost element is no svg"),
        ("<svg>" * 100 + "</svg>" * 100, "too deep"),
        ("<svg>" + "<g/>" * 60_000 + "</svg>", "too many elements"),
        ("<svg>" + "a" * (5 << 20) + "</svg>", "too large"),
        (3, "no text"),
        ({"a": 1}, "no text"),
    ],
)
def test_xml_that_is_refused(hostile: Any, why: str) -> None:
    with pytest.raises(CannotShow, match=why):
        svg(hostile)
    data, _ = shown({"text/plain": "p", "image/svg+xml": hostile})
    assert data == {"text/plain": data["text/plain"]}
    assert f"[not shown: image/svg+xml ({why}" in data["text/plain"]


def test_uses_of_uses_of_uses() -> None:
    """Ten levels of ten would be drawn as ten thousand million elements."""
    levels = "".join(f"<g id='l{n + 1}'>" + f"<use href='#l{n}'/>" * 10 + "</g>" for n in range(10))
    drawing = picture(f"<g id='l0'><rect/></g>{levels}")
    assert drawing.count("<use ") == 10  # only the first level's: its target uses nothing


def test_clips_of_clips() -> None:
    assert picture("<clipPath id='b' clip-path='url(#a)'><rect clip-path='url(#a)'/></clipPath>") == (
        f'<svg xmlns="{NS}"><clipPath id="box-b"><rect/></clipPath></svg>'
    )


def test_many_uses_of_much() -> None:
    with pytest.raises(CannotShow, match="too many elements"):
        picture("<g id='a'>" + "<rect/>" * 1000 + "</g>" + "<use href='#a'/>" * 1000)


def test_a_use_of_itself() -> None:
    assert "<use" not in picture("<g id='a'><use href='#a'/></g>")


def test_backtracking() -> None:
    started = time.process_time()
    for value in ("url(" * 50_000, "(" * 200_000, "a" * 200_000 + "!", "rgb(" * 50_000, " " * 200_000 + "!"):
        picture(f"<rect fill='{value}' style='fill: {value};{value}'/>")
        picture(f"<image href='data:image/png;base64,{value}'/>")
    assert time.process_time() - started < 10


# --- text, JSON, metadata ---------------------------------------------------------------------------------------------


def test_escape_sequences() -> None:
    text = "a\x1b]8;;http://evil\x07b\x9b31m\u202ec\ud800\r\n\t"
    data, _ = shown({"text/plain": text})
    assert data == {"text/plain": "a\\x1b]8;;http://evil\\x07b\\x9b31m\\u202ec\\ud800\r\n\t"}
    assert shown({"text/plain": "\x1b[31m\ud800"}, escapes="raw")[0] == {"text/plain": "\x1b[31m\\ud800"}


def test_escape_sequences_in_the_name_of_a_type() -> None:
    data, _ = shown({"a/\x1b[31m\n" + "b" * 1000: "x", **{f"a/{n}": "x" for n in range(100)}})
    assert data.keys() == {"text/plain"}
    assert "\x1b" not in data["text/plain"]
    assert len(data["text/plain"]) < 300
    assert data["text/plain"].endswith(" and 91 more]")


def test_a_text_that_is_none() -> None:
    assert shown({"text/plain": b"bytes"}) == ({"text/plain": ""}, {})


def test_json_that_is_none() -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    for value in (deep, float("nan"), float("inf"), 10**5000, b"bytes", {1}):
        assert shown({"application/json": value})[0].keys() == {"text/plain"}
    assert shown({"application/json": {"\x1b": "\x1b", 1: 2}})[0]["application/json"] == {"\\x1b": "\\x1b"}


def test_metadata_is_two_numbers() -> None:
    _, metadata = shown(
        {"image/png": PNG, "text/html": "x"},
        {
            "width": 10, "height": "10px", "isolated": False, "needs_background": "<b>",
            "image/png": {"width": 3, "height": 2.5, "alt": "<script>"}, "image/gif": {"width": 3},
            "text/html": {"isolated": False}, "text/plain": {"width": True, "height": float("nan")},
        },
    )  # fmt: skip
    assert metadata == {"width": 10, "image/png": {"width": 3, "height": 2.5}}
    assert shown({}, {"width": -1, "height": 10**6})[1] == {}


@pytest.mark.parametrize("value", ["a" * 1_000_000, "url(" + " " * 1_000_000, "a(" * 300_000, " " * 1_000_000 + "("])
def test_values_that_take_long_to_look_at(value: str) -> None:
    """The time grows linearly with the length; with the square of it, it would be hours."""
    svg(f'<svg xmlns="http://www.w3.org/2000/svg"><rect transform="{value}" fill="{value}"/></svg>')


@pytest.mark.parametrize(
    "attributes",
    ["width='9' height='1000000'", "height='1e9'", "height='.9e99in'", "height='99999999999em'", "height='9000%'",
     "viewBox='0 0 1 100000'", "width='100%' viewBox='0,0,.001,9'", "width='50' viewBox='0 0 1 1000'",
     "viewBox='0 0 1e-300 1e300'", "width='1e9' height='9'", "height='500' viewBox='0 0 100 1'", "height='-1'",
     "transform='scale(1000)'", "style='transform: scale(9)' height='9' viewBox='0 0 nan 9'"],
)  # fmt: skip
def test_no_picture_fills_the_page(attributes: str) -> None:
    root = ElementTree.fromstring(picture("<rect/>", attributes))
    assert "transform" not in root.attrib
    sides = {side: root.attrib[side] for side in ("width", "height") if side in root.attrib}
    assert all(text == "100%" or 0 <= float(text) <= 10_000 for text in sides.values())
    if "viewBox" in root.attrib and "height" not in sides:
        _, _, wide, high = map(float, re.split("[ ,]", root.attrib["viewBox"]))
        width = 2000 if sides.get("width", "100%") == "100%" else float(sides["width"])
        assert high * width <= 10_000 * wide


def test_a_picture_of_a_size_that_can_be_keeps_it() -> None:
    for attributes in ('width="460.8pt" height="345.6pt" viewBox="0 0 460.8 345.6"', 'viewBox="0 0 100 150"',
                       'width="100%" viewBox="0 0 9 9"', 'width="3cm" height="90mm"'):  # fmt: skip
        assert picture("<rect/>", attributes) == f'<svg xmlns="{NS}" {attributes}><rect/></svg>'
