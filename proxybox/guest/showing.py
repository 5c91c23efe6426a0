"""What a session shows besides what its program prints: the values of expressions, and what the program displays.

    display(*objects, raw=False, metadata=None)     clear_output(wait=False)

An object may say how it looks: `_repr_svg_`, `_repr_png_` and their like, and `_repr_mimebundle_`, as IPython asks for
them; all of it is shown as its repr, too. The controller takes whatever comes for a claim, and who shows it to a person
decides what of it may be seen.
"""

import builtins
import sys

import __pypy__
import values

hidden = __pypy__.hidden_applevel

#: Characters of a repr; the rest is left out, and said to be.
LONGEST = 1 << 17
METHODS = (
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)


class Display:
    """Says what is to be shown. flush: what was printed before comes before it."""

    def __init__(self, link, limit, flush):
        self.link, self.limit, self.flush = link, limit, flush
        self.installed = False

    def install(self):
        """The names that a program uses; they are defined once, and may be changed."""
        if self.installed:
            return
        self.installed = True
        sys.displayhook = self.hook()
        builtins.display, builtins.clear_output = self.display(), self.clear_output()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.reconfigure(line_buffering=True)  # somebody watches
            except Exception:
                pass

    @hidden
    def say(self, *words):
        self.flush()
        message = values.encode(words, self.limit)
        if self.link.exchange(b"d" + message):
            raise OSError("nobody looks")

    def hook(self):
        @hidden
        def displayhook(value):
            """Shows the value of an expression, and keeps it as `_`."""
            if value is None:
                return
            builtins._ = None
            self.say("value", *bundle(value))
            builtins._ = value

        return displayhook

    def display(self):
        @hidden
        def display(*objects, raw=False, metadata=None):
            """Shows objects as pictures, where they can be, and as text.

            raw: they are dicts of data by MIME type. metadata: a dict that goes with each.
            """
            for thing in objects:
                data, more = (dict(thing), {}) if raw else bundle(thing)
                self.say("display", data, {**more, **(metadata or {})})

        return display

    def clear_output(self):
        @hidden
        def clear_output(wait=False):
            """Takes away what was shown so far; wait: when there is something new."""
            self.say("clear", bool(wait))

        return clear_output


@hidden
def bundle(thing):
    """How an object looks: data by MIME type, and metadata."""
    text = repr(thing)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}... ({len(text) - LONGEST} characters more)"
    data, metadata = {"text/plain": text}, {}
    if isinstance(thing, type):
        return data, metadata
    known = ask(thing, "_repr_mimebundle_")
    if known is not None:
        take(known, data, metadata)
    for kind, name in METHODS:
        if kind not in data:
            found = ask(thing, name)
            if found is not None:
                take(
                    ({kind: found[0]}, {kind: found[1]}) if isinstance(found, tuple) else {kind: found}, data, metadata
                )
    return data, metadata


@hidden
def ask(thing, name):
    """What a method of an object's class gives; None where it has none, or that fails."""
    for kind in type(thing).__mro__:
        if name in vars(kind):
            try:
                return getattr(thing, name)()
            except Exception:
                return None
    return None


@hidden
def take(found, data, metadata):
    """(data, metadata), or data alone: what of it can cross."""
    parts = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
    for known, new in zip((data, metadata), parts):  # noqa: B905 - strict= is not in 3.9
        if isinstance(new, dict):
            known.update((key, value) for key, value in new.items() if isinstance(key, str) and value is not None)
