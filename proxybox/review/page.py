"""A review as one HTML file that needs no other file and loads nothing.

page/review.html is its template (Jinja2). Every value in it is made harmless and escaped in one place, `_environment`.
The page's only script builds a command line. A Content-Security-Policy contains its digest, so that no other script can
run, whatever the changes contain.
"""

import base64
import hashlib
import html
from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from proxybox.review.reviewing import Review
from proxybox.terminal.harmless import harmless

_CLASSES = {"+": "come", "-": "go", "@": "where"}


def page_of(review: Review) -> str:
    """Returns the page, as HTML."""
    folder = resources.files("proxybox.review") / "page"
    script = (folder / "review.js").read_text("utf-8")
    style = (folder / "review.css").read_text("utf-8")
    template = _environment().from_string((folder / "review.html").read_text("utf-8"))
    return template.render(
        review=review, script=Markup(script), style=Markup(style), script_digest=_digest(script),  # noqa: S704
        style_digest=_digest(style),
    )  # fmt: skip


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    made = Environment(autoescape=True, finalize=_shown, undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters["kind_of_line"] = lambda line: _CLASSES.get(line[:1], "same")
    return made


def _shown(value: object) -> Markup:
    """A value, harmless and escaped. Markup, which only this module makes, stays unchanged."""
    return value if isinstance(value, Markup) else Markup(html.escape(harmless(str(value))))  # noqa: S704
