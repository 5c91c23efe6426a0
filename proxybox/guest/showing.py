"""What a session shows besides what its program prints: the values of expressions, and what the program displays.

    display(*objects, raw=False, metadata=None)     clear_output(wait=False)

As in IPython, an object may define its looks: `_repr_svg_`, `_repr_png_` and similar methods, and `_repr_mimebundle_`.
Each object's repr is shown as well. The controller treats everything that comes from here as a claim; the code that
shows it to a person decides how much of it may be seen.
"""

import builtins
import sys

import kind
import values

hidden = kind.hidden

#: The most characters of a repr; the rest is left out, and the text says so.
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
    """Tells the controller what to show. flush: a function that makes what was printed before come before it."""

    def __init__(self, link, limit, flush):
        self.link, self.limit, self.flush = link, limit, flush
        self.installed = False

    def install(self):
        """Defines the names that a program uses. They are defined once, and the program may change them."""
        if self.installed:
            return
        self.installed = True
        sys.displayhook = self.hook()
        builtins.display, builtins.clear_output = self.display(), self.clear_output()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.reconfigure(line_buffering=True)  # a person may be watching
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
            """Shows objects as pictures, where possible, and as text.

            raw: the objects are dicts of data by MIME type. metadata: a dict that is sent with each object.
            """
            for thing in objects:
                data, more = (dict(thing), {}) if raw else bundle(thing)
                self.say("display", data, {**more, **(metadata or {})})

        return display

    def clear_output(self):
        @hidden
        def clear_output(wait=False):
            """Removes what was shown so far; with wait, only when something new is shown."""
            self.say("clear", bool(wait))

        return clear_output


@hidden
def bundle(thing):
    """How an object looks: a dict of data by MIME type, and metadata."""
    text = repr(thing)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}... ({len(text) - LONGEST} characters more)"
    data, metadata = {"text/plain": text}, {}
    if isinstance(thing, type):
        return data, metadata
    known = ask(thing, "_repr_mimebundle_")
    if known is not None:
        take(known, data, metadata)
    for mime, name in METHODS:
        if mime not in data:
            found = ask(thing, name)
            if found is not None:
                take(
                    ({mime: found[0]}, {mime: found[1]}) if isinstance(found, tuple) else {mime: found}, data, metadata
                )
    return data, metadata


@hidden
def ask(thing, name):
    """What a method of an object's class returns; None where the class has none or the method fails."""
    for base in type(thing).__mro__:
        if name in vars(base):
            try:
                return getattr(thing, name)()
            except Exception:
                return None
    return None


@hidden
def take(found, data, metadata):
    """Adds what a method has returned, (data, metadata) or data alone, as far as it can be sent."""
    parts = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
    for known, new in zip((data, metadata), parts):  # noqa: B905 - strict= is not in 3.9
        if isinstance(new, dict):
            known.update((key, value) for key, value in new.items() if isinstance(key, str) and value is not None)
