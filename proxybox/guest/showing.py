"""Output of a session besides printed text: the values of expressions, and objects that the program displays.

    display(*objects, raw=False, metadata=None, clear=False, display_id=None)     clear_output(wait=False)

As in IPython, an object may define its representations: `_repr_svg_`, `_repr_png_` and similar methods, and
`_repr_mimebundle_`. Each object's repr is shown as well. The controller treats all messages from here as claims; the
code that shows them to a person decides which of them may be shown.
"""

import builtins
import sys

import kind
import standins
import values

hidden = kind.hidden

#: The most characters of a repr; further characters are left out, and the text says so.
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


class DisplayHandle:
    """A handle of displayed objects, which can be replaced by others."""

    @hidden
    def __init__(self, display_id=None):
        self.display_id = sys.modules["posix"].urandom(16).hex() if display_id in (None, True) else display_id

    @hidden
    def display(self, thing, **options):
        builtins.display(thing, display_id=self.display_id, **options)

    @hidden
    def update(self, thing, **options):
        self.display(thing, update=True, **options)

    def __repr__(self):
        return f"<DisplayHandle display_id={self.display_id}>"


DisplayHandle.__module__ = "IPython.display"


class Display:
    """Sends objects to show to the controller. flush: a function that sends earlier printed text first."""

    def __init__(self, link, limit, flush):
        self.link, self.limit, self.flush = link, limit, flush
        self.installed = False

    def install(self):
        """Defines `display` and other names for the program. They are defined once, and the program may change them."""
        if self.installed:
            return
        self.installed = True
        sys.displayhook = self.hook()
        builtins.display, builtins.clear_output = self.display(), self.clear_output()
        standins.install()
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

    @hidden
    def show(self, kind, data, metadata):
        """Sends the representations of an object. If they are too large, sends their types instead."""
        try:
            self.say(kind, data, metadata)
        except ValueError:
            others = [mime for mime in data if mime != "text/plain"]
            if not others:
                raise
            text = f"[larger than session.value_size, {self.limit:,} bytes: {', '.join(others)}]"
            self.say(kind, {"text/plain": "\n".join(filter(None, (data.get("text/plain"), text)))}, {})

    def hook(self):
        @hidden
        def displayhook(value):
            """Shows the value of an expression, and stores it as `_`."""
            if value is None:
                return
            builtins._ = None
            if not shows_itself(value):
                self.show("value", *bundle(value))
            builtins._ = value

        return displayhook

    def display(self):
        @hidden
        def display(
            *objects, raw=False, metadata=None, clear=False, display_id=None, update=False, transient=None, **_
        ):  # fmt: skip
            """Shows objects as pictures, where possible, and as text.

            raw: the objects are dicts of data by MIME type. metadata: a dict that is sent with each object. clear:
            whether they replace the earlier output. display_id: a name by which they can be replaced, or True for a new
            one; then a DisplayHandle is returned.
            """
            if clear:
                self.say("clear", True)
            handle = DisplayHandle(display_id) if display_id else None
            name = handle.display_id if handle else (transient or {}).get("display_id")
            for thing in objects:
                if not raw and shows_itself(thing):
                    continue
                data, more = (dict(thing), {}) if raw else bundle(thing)
                more.update(metadata or {})
                if name:
                    more["display_id"] = name
                self.show("update" if update else "display", data, more)
            return handle

        display.DisplayHandle = DisplayHandle
        return display

    @hidden
    def end_cell(self, error=None):
        """Returns the step that shows matplotlib's figures: (function, arguments), or None. error: the cell's."""
        backend = sys.modules.get(standins.BACKEND)
        return None if backend is None else (backend.end_cell, (error,))

    def clear_output(self):
        @hidden
        def clear_output(wait=False):
            """Removes the output so far; with wait, only when new output is shown."""
            self.say("clear", bool(wait))

        return clear_output


@hidden
def bundle(thing):
    """Returns the representations of an object: a dict of data by MIME type, and metadata."""
    text = repr(thing)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}... ({len(text) - LONGEST} characters more)"
    data, metadata = {"text/plain": text}, {}
    if isinstance(thing, type):
        return data, metadata
    if is_figure(thing):
        take(__import__(standins.BACKEND).looks_of(thing), data, metadata)
    known = ask(thing, "_repr_mimebundle_")
    if known is not None:
        take(known, data, metadata)
    for mime, name in METHODS:
        if mime not in data and not (mime == "image/jpeg" and "image/png" in data):  # Pillow's images know both
            found = ask(thing, name)
            if found is not None:
                take(
                    ({mime: found[0]}, {mime: found[1]}) if isinstance(found, tuple) else {mime: found}, data, metadata
                )
    return data, metadata


@hidden
def shows_itself(thing):
    """Calls an object's method to display itself, if it has one. Returns whether it has displayed itself."""
    if isinstance(thing, type) or not hasattr(type(thing), "_ipython_display_"):
        return False
    try:
        thing._ipython_display_()
    except Exception:
        return False
    return True


@hidden
def is_figure(thing):
    """Whether it is a figure of matplotlib, which has no such method."""
    known = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    return isinstance(known, type) and isinstance(thing, known)


@hidden
def ask(thing, name):
    """Returns the result of a method of an object's class; None where the class has none or the method fails."""
    for base in type(thing).__mro__:
        if name in vars(base):
            try:
                return getattr(thing, name)()
            except Exception:
                return None
    return None


@hidden
def take(found, data, metadata):
    """Adds the result of a method, (data, metadata) or data alone, as far as it can be sent."""
    parts = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
    for known, new in zip((data, metadata), parts):  # noqa: B905 - strict= is not in 3.9
        if isinstance(new, dict):
            known.update((key, value) for key, value in new.items() if isinstance(key, str) and value is not None)
