"""Cleans the data that a box displays on a notebook's page: all of it passes through this file.

The reader of a page trusts it: a script on it can read their files and run their code, and a picture from another
server tells that server who looks at it. The promise: whatever a box sends, the output of this file

- has a type that the policy names (output.display), or is plain text;
- as text has no control or escape sequences and nothing that reorders text, unless the policy passes them (raw);
- as PNG, JPEG or GIF begins as such a file does;
- as SVG was parsed and rebuilt from the elements and attributes below. None of them runs, loads, links or animates
  anything, or styles anything outside of the picture. Its ids have a prefix of their own, so that they cannot replace
  those of the page. It is not larger than a picture may be;
- as JSON is plain data of bounded depth;
- as HTML that the policy does not name is tables and text (reducing.py), and is left out where the policy shows text
  alone;
- has no metadata but a width and a height;
- was made within a budget (budget.py), or is left out.

The plain text says what was left out. A type that the policy names and that is not listed here, such as text/html,
passes unchanged: a policy that names it trusts the code in the box with the page.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import attrs

from proxybox.kernel.budget import StepBudget
from proxybox.kernel.reducing import reduced
from proxybox.kernel.refusal import CannotShow
from proxybox.terminal.harmless import harmless
from proxybox.terminal.pictures import KINDS, NoPicture, picture

Data: TypeAlias = Mapping[str, Any]

#: The type of a widget: its data is the number of an object that the page would have got through a comm.
_WIDGET: Final = "application/vnd.jupyter.widget-view+json"
_HTML: Final = "text/html"
_LARGEST_SIDE: Final = 10_000
#: How many MIME types of one displayed object are read; the others are ignored.
_MOST_KINDS: Final = 1000


@attrs.frozen
class Sanitiser:
    """Lets through what a policy allows. shown: its output.display. raw: whether its output.escapes is "raw"."""

    shown: Sequence[str]
    raw: bool = False

    def text(self, text: str, budget: StepBudget | None = None) -> str:
        """Returns plain text as it may be shown."""
        if self.raw:
            return text.encode("utf-8", "backslashreplace").decode()
        try:
            return (budget or StepBudget()).harmless(text)
        except CannotShow as error:
            return f"[text of {len(text):,} characters is not shown: {error}]"

    def bundle(
        self, data: Data, metadata: Data, budget: StepBudget | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the allowed part of (data, metadata), by MIME type, that a box wants to show.

        budget: for all of it.
        """
        budget = budget or StepBudget()
        clean: dict[str, Any] = {}
        left_out = []
        for kind, value in islice(data.items(), _MOST_KINDS):
            if kind == "text/plain":
                continue
            name = harmless(kind[:100]).replace("\n", " ")
            if kind not in self.shown and not (kind == _HTML and self._shows_more_than_text()):
                left_out.append(f"{name} (a box has no widgets)" if kind == _WIDGET else name)
                continue
            try:
                clean[kind] = (_CLEANERS.get(kind, _as_it_is) if kind in self.shown else reduced)(value, budget)
            except CannotShow as error:
                left_out.append(f"{name} ({error})")
            except Exception as error:  # a fault of ours: data of a box must not end the kernel
                left_out.append(f"{name} (a fault of proxybox: {type(error).__name__})")
        plain = data.get("text/plain")
        lines = [self.text(plain, budget)] if isinstance(plain, str) else []
        if left_out:
            more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
            lines.append(f"[not shown: {', '.join(left_out[:10])}{more}]")
        clean["text/plain"] = "\n".join(lines)
        return clean, _sizes(metadata, clean)

    def _shows_more_than_text(self) -> bool:
        return any(kind != "text/plain" for kind in self.shown)


def _sizes(metadata: Data, clean: Data) -> dict[str, Any]:
    """Returns the width and height of the whole, and those of each picture that is shown."""
    sizes: dict[str, Any] = _size(metadata)
    for kind in clean:
        own = metadata.get(kind)
        if isinstance(own, dict) and (size := _size(own)):
            sizes[kind] = size
    return sizes


def _size(metadata: Data) -> dict[str, Any]:
    given = {side: metadata.get(side) for side in ("width", "height")}
    return {
        side: value
        for side, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST_SIDE
    }


# --- pictures of pixels, JSON, the rest -------------------------------------------------------------------------------


def _picture(kind: str, value: Any, budget: StepBudget) -> str:
    budget.take(1 + len(value) // 1024 if isinstance(value, str | bytes) else 1)
    try:
        return picture(kind, value)
    except NoPicture as error:
        raise CannotShow(str(error)) from None


def _json(value: Any, budget: StepBudget, depth: int = 0) -> Any:
    if depth > 50:
        raise CannotShow("too deep")
    budget.take()
    if isinstance(value, dict):
        named = ((key, item) for key, item in value.items() if isinstance(key, str))
        return {budget.harmless(key): _json(item, budget, depth + 1) for key, item in named}
    if isinstance(value, list | tuple):
        return [_json(item, budget, depth + 1) for item in value]
    if isinstance(value, str):
        return budget.harmless(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and abs(value) < 2**63:  # neither NaN nor a number with thousands of digits
        return value
    raise CannotShow("no JSON")


def _as_it_is(value: Any, budget: StepBudget) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else _json(value, budget)


# --- SVG --------------------------------------------------------------------------------------------------------------

_SVG: Final = "http://www.w3.org/2000/svg"
_XLINK: Final = "http://www.w3.org/1999/xlink"
_BYTES, _ELEMENTS, _DEPTH = 4 << 20, 50_000, 60


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Without script, style, foreignObject, a, animate and set; and without pattern, mask, marker and filter, which can
#: multiply what is drawn.
_ALLOWED: Final = _words("""
    svg g defs symbol title desc path rect circle ellipse line polyline polygon text tspan textPath linearGradient
    radialGradient stop clipPath image use
""")
_PRESENTATION: Final = _words("""
    clip-path clip-rule color direction display dominant-baseline text-anchor fill fill-opacity fill-rule font-family
    font-size font-stretch font-style font-variant font-weight letter-spacing opacity paint-order shape-rendering
    stop-color stop-opacity stroke stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin
    stroke-miterlimit stroke-opacity stroke-width text-decoration text-rendering vector-effect visibility word-spacing
""")
_ATTRIBUTES: Final = _PRESENTATION | _words("""
    x y x1 y1 x2 y2 cx cy r rx ry fx fy dx dy d points width height viewBox transform rotate preserveAspectRatio
    offset gradientUnits gradientTransform spreadMethod clipPathUnits pathLength startOffset textLength lengthAdjust
    version
""")
_VALUE: Final = re.compile(r"[\w\s.,%+\-#()'\"]*", re.ASCII)
_LAST_WORD: Final = re.compile(r"[\w-]*\Z", re.ASCII)
_FUNCTIONS: Final = _words("rgb rgba hsl hsla matrix translate scale rotate skewX skewY")
_NAME: Final = re.compile(r"[\w.:-]{1,200}", re.ASCII)
_URL: Final = re.compile(r"""url\(\s*(["']?)#([\w.:-]{1,200})\1\s*\)""", re.ASCII)
_LONGEST_REFERENCE: Final = 300
_DATA_URL: Final = re.compile(r"data:(image/(?:png|jpeg|gif));base64,([A-Za-z0-9+/=\s]*)", re.ASCII)
_PREFIX: Final = "box-"
#: The width of a page in pixels, at most.
_PAGE: Final = 2000


@attrs.define
class _Element:
    name: str
    attributes: dict[str, str]
    children: list["_Element | str"] = attrs.field(factory=list)
    size: int = 1  # the number of elements in it, including itself
    has_use: bool = False  # whether it is a <use>, or contains one


def svg(value: Any, budget: StepBudget | None = None) -> str:
    """Rebuilds a picture from allowed elements and attributes, for use in a page. Raises CannotShow."""
    if not isinstance(value, str | bytes):
        raise CannotShow("no text")
    data = value.encode("utf-8", "backslashreplace") if isinstance(value, str) else value
    if len(data) > _BYTES:
        raise CannotShow("too large")
    builder = _Builder(budget or StepBudget())
    parser = builder.parser
    try:
        parser.Parse(data.lstrip(), True)
    except expat.ExpatError as error:
        raise CannotShow(f"no XML: {expat.ErrorString(error.code)}") from None
    except (LookupError, ValueError):
        raise CannotShow("no XML in UTF-8") from None
    if builder.root is None:
        raise CannotShow("no picture")
    if _drawn_by_uses(builder.root, builder.by_id) > _ELEMENTS:
        raise CannotShow("too many elements")
    _bound(builder.root.attributes)
    return _written(builder.root)


class _Builder:
    """Handles the events of the parser, and stores what is allowed."""

    def __init__(self, budget: StepBudget) -> None:
        self.root: _Element | None = None
        self._budget = budget
        self.by_id: dict[str, _Element] = {}
        self._stack: list[_Element | None] = []  # None for an element that is left out with its content
        self._count = 0
        self.parser = parser = expat.ParserCreate("UTF-8", " ")  # whatever encoding the data declares
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = _refuse("a DOCTYPE")
        parser.EntityDeclHandler = _refuse("entities")
        parser.ProcessingInstructionHandler = _refuse("a processing instruction")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        self._budget.take(5 + 2 * len(attributes))
        if self._count > _ELEMENTS or len(self._stack) >= _DEPTH:
            raise CannotShow("too many elements" if self._count > _ELEMENTS else "too deep")
        namespace, _, local = name.rpartition(" ")
        allowed = local in _ALLOWED and namespace in (_SVG, "")
        if not self._stack and (not allowed or local != "svg"):
            raise CannotShow("its outermost element is no svg")
        if not allowed or (self._stack and self._stack[-1] is None):
            self._stack.append(None)
            return
        element = _Element(local, _clean_attributes(local, attributes, self._budget))
        if local == "use":
            for around in (*self._stack, element):
                if around is not None:
                    around.has_use = True
        if local == "clipPath" or any(around and around.name == "clipPath" for around in self._stack):
            element.attributes.pop("clip-path", None)  # nested clips multiply the work, like nested uses
        if "id" in element.attributes:
            self.by_id.setdefault(element.attributes["id"], element)
        if self._stack:
            parent = self._stack[-1]
            if parent is not None:
                parent.children.append(element)
        else:
            self.root = element
        self._stack.append(element)

    def _end(self, _: str) -> None:
        ended = self._stack.pop()
        if ended is not None and self._stack and (parent := self._stack[-1]) is not None:
            parent.size += ended.size

    def _text(self, text: str) -> None:
        if self._stack and self._stack[-1] is not None:
            self._stack[-1].children.append(self._budget.harmless(text))


def _refuse(what: str) -> Callable[..., None]:
    def refuse(*_: Any) -> None:
        raise CannotShow(what)

    return refuse


def _clean_attributes(element: str, given: Mapping[str, str], budget: StepBudget) -> dict[str, str]:
    clean, styles = {}, {}
    for name, value in given.items():
        namespace, _, local = name.rpartition(" ")
        if local == "href" and namespace in ("", _XLINK):
            if (target := _target(element, value, budget)) is not None:
                clean["href"] = target
        elif namespace:
            continue
        elif local == "style":
            styles = _declarations(value, budget)
        elif local == "id":
            if _NAME.fullmatch(value):
                clean["id"] = _PREFIX + value
        elif local in _ATTRIBUTES and (kept := _value(value, budget)) is not None:
            clean[local] = kept
    return clean | styles


def _target(element: str, value: str, budget: StepBudget) -> str | None:
    """Returns the target of a reference: a part of the same picture, or the content of an image."""
    if element == "image":
        found = _DATA_URL.fullmatch(value)
        if found is None:
            return None
        try:
            return f"data:{found[1]};base64,{picture(found[1], found[2])}"
        except NoPicture:
            return None
    if value.startswith("#") and _NAME.fullmatch(value[1:]):
        return f"#{_PREFIX}{value[1:]}"
    return None


def _value(value: str, budget: StepBudget) -> str | None:
    """Returns the value of an attribute; None for one that could refer to something outside of the picture."""
    budget.take(1 + len(value) // 256 + 2 * value.count("("))
    if len(value) <= _LONGEST_REFERENCE and (reference := _URL.fullmatch(value.strip())):
        return f"url(#{_PREFIX}{reference[2]})"
    if _VALUE.fullmatch(value) and all(name in _FUNCTIONS for name in _called(value)):
        return value
    return None


def _called(value: str) -> list[str]:
    """Returns the word before each parenthesis, in time that is linear in the length of the value."""
    found = [_LAST_WORD.search(before.rstrip()[-40:]) for before in value.split("(")[:-1]]
    return [word.group() for word in found if word is not None]


def _declarations(style: str, budget: StepBudget) -> dict[str, str]:
    """Turns a style attribute into presentation attributes."""
    budget.take(style.count(";"))
    found = {}
    for declaration in style.split(";"):
        name, _, value = declaration.partition(":")
        if name.strip() in _PRESENTATION and (kept := _value(value.strip(), budget)) is not None:
            found[name.strip()] = kept
    return found


def _drawn_by_uses(element: _Element, by_id: Mapping[str, _Element]) -> int:
    """Counts the elements that the uses in an element draw, after it has removed uses of elements that have a use.

    Otherwise ten levels of ten uses each would draw ten thousand million elements.
    """
    kept: list[_Element | str] = []
    drawn = 0
    for child in element.children:
        if isinstance(child, _Element):
            if child.name == "use":
                target = by_id.get(child.attributes.get("href", "").removeprefix("#"))
                if target is None or target.has_use:
                    continue
                drawn += target.size
            drawn += _drawn_by_uses(child, by_id)
        kept.append(child)
    element.children = kept
    return drawn


_LENGTH: Final = re.compile(
    r"\s*+(\+?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?)\s*+(px|pt|pc|in|cm|mm|)\s*+", re.ASCII
)
_PIXELS: Final = {"": 1, "px": 1, "pt": 4 / 3, "pc": 16, "in": 96, "cm": 96 / 2.54, "mm": 9.6 / 2.54}


def _bound(attributes: dict[str, str]) -> None:
    """Limits the outermost element: to the largest size of a picture of pixels, and to its place.

    Lengths that depend on others, such as "9em", are removed, except for a share of the page's width.
    """
    attributes.pop("transform", None)  # it could move the picture over other parts of the page
    sides: dict[str, float] = {}
    for side in ("width", "height"):
        found = _LENGTH.fullmatch(attributes.get(side, ""))
        if found is None:
            if not (side == "width" and re.fullmatch(r"\d{1,2}%|100%", attributes.get(side, ""), re.ASCII)):
                attributes.pop(side, None)
            continue
        sides[side] = float(found[1]) * _PIXELS[found[2]]
        if sides[side] > _LARGEST_SIDE:
            sides[side] = _LARGEST_SIDE
            attributes[side] = str(_LARGEST_SIDE)
    try:
        _, _, wide, high = map(float, re.split(r"[\s,]+", attributes.get("viewBox", "").strip()))
    except ValueError:
        return
    # A side that is not given follows from the other one.
    width, height = sides.get("width", _PAGE), sides.get("height")
    if height is None and not high * width <= _LARGEST_SIDE * wide:
        attributes["height"] = str(_LARGEST_SIDE)
    if height is not None and "width" not in attributes and not wide * height <= _LARGEST_SIDE * high:
        attributes["width"] = str(_LARGEST_SIDE)


def _written(element: _Element, outermost: bool = True) -> str:
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in element.attributes.items())
    if outermost:
        attributes = f' xmlns="{_SVG}"{attributes}'
    inside = "".join(
        escape(child) if isinstance(child, str) else _written(child, outermost=False) for child in element.children
    )
    return f"<{element.name}{attributes}>{inside}</{element.name}>" if inside else f"<{element.name}{attributes}/>"


_CLEANERS: Final[Mapping[str, Callable[[Any, StepBudget], Any]]] = {
    **{kind: partial(_picture, kind) for kind in KINDS},
    "image/svg+xml": svg,
    "application/json": _json,
}
