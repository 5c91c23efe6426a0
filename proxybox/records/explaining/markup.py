"""Elements of SVG and HTML. Each text and each value of an attribute passes `_clean`; xml.etree escapes it.

Rule: nothing of a record becomes the name of an element or of an attribute, a style, or an address.
"""

from xml.etree import ElementTree

from proxybox.terminal.harmless import on_one_line

Element = ElementTree.Element
#: Makes text harmless. All characters that it lets through are allowed in XML.
_clean = on_one_line


def element(tag: str, attributes: dict[str, str | float] | None = None, *inside: "str | Element") -> Element:
    """Makes an element with attributes, and with texts and elements inside it. Numbers have two decimals at most."""
    made = Element(tag, {name: _clean(_value(value)) for name, value in (attributes or {}).items()})
    last: Element | None = None
    for each in inside:
        if isinstance(each, str):
            if last is None:
                made.text = (made.text or "") + _clean(each)
            else:
                last.tail = (last.tail or "") + _clean(each)
        else:
            made.append(each)
            last = each
    return made


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def style(text: str) -> Element:
    """Makes a style sheet; the text is always our own."""
    made = Element("style")
    made.text = text
    return made


def as_svg(root: Element) -> str:
    """Returns a picture as a file of its own."""
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def as_html(root: Element) -> str:
    """Returns a page."""
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"
