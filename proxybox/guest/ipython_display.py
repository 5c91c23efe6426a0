"""A replacement of IPython.display where IPython is not installed.

Each class has data and their type. Code outside of the box decides whether a page shows them. No data are fetched from
an address: a box has no network.
"""

import base64
import json
import os

from IPython.core.display_functions import (
    DisplayHandle,
    clear_output,
    display,
    publish_display_data,
    update_display,
)

__all__ = [
    "HTML", "JSON", "SVG", "DisplayHandle", "DisplayObject", "Image", "Javascript", "Latex", "Markdown", "Math",
    "Pretty", "TextDisplayObject", "clear_output", "display", "display_html", "display_javascript", "display_jpeg",
    "display_json", "display_latex", "display_markdown", "display_png", "display_pretty", "display_svg",
    "publish_display_data", "update_display",
]  # fmt: skip

#: The first bytes of files of pictures.
BEGINNINGS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif"}


def of_type(mime):
    """Returns a function that shows objects by their data of one type, or the data themselves with `raw`."""

    def show(*objects, raw=False, metadata=None, **_):
        for thing in objects:
            if raw:
                display({mime: thing}, raw=True, metadata=metadata)
            else:
                display(thing, metadata=metadata)

    return show


display_pretty = of_type("text/plain")
display_html = of_type("text/html")
display_markdown = of_type("text/markdown")
display_svg = of_type("image/svg+xml")
display_png = of_type("image/png")
display_jpeg = of_type("image/jpeg")
display_latex = of_type("text/latex")
display_json = of_type("application/json")
display_javascript = of_type("application/javascript")


class DisplayObject:
    """Data of one type.

    data: the data, or the path of a file that has it. filename: such a path. metadata: a dict that is sent with it.
    """

    is_binary = False

    def __init__(self, data=None, url=None, filename=None, metadata=None):
        if url is not None:
            raise ValueError("url: a box has no network: want data or a filename")
        if filename is None and isinstance(data, (str, os.PathLike)) and os.path.exists(data):
            data, filename = None, data
        self.data, self.filename, self.metadata = data, filename, metadata or {}
        self.reload()

    def reload(self):
        """Reads the file again."""
        if self.filename is not None:
            with open(self.filename, "rb") if self.is_binary else open(self.filename, encoding="utf-8") as file:
                self.data = file.read()

    def shown(self):
        """Returns the result of a method `_repr_*_`."""
        return (self.data, self.metadata) if self.metadata else self.data

    def __repr__(self):
        return f"<{type(self).__module__}.{type(self).__name__} object>"


class TextDisplayObject(DisplayObject):
    """A text. Where its type cannot be shown, the plain text is shown."""

    def __init__(self, data=None, url=None, filename=None, metadata=None):
        super().__init__(data, url, filename, metadata)
        if self.data is not None and not isinstance(self.data, str):
            raise TypeError(f"{type(self).__name__}: want text, got {self.data!r:.100}")

    def __repr__(self):
        return self.data or ""


class Pretty(TextDisplayObject):
    """Plain text."""


class HTML(TextDisplayObject):
    """HTML."""

    __repr__ = DisplayObject.__repr__

    def _repr_html_(self):
        return self.shown()

    def __html__(self):
        """For libraries that put objects into HTML (markupsafe)."""
        return self.data


class Markdown(TextDisplayObject):
    """Markdown."""

    def _repr_markdown_(self):
        return self.shown()


class Latex(TextDisplayObject):
    """LaTeX."""

    def _repr_latex_(self):
        return self.shown()


class Math(Latex):
    """A formula in LaTeX, without the $ around it."""

    def _repr_latex_(self):
        text = r"$\displaystyle %s$" % self.data.strip("$")
        return (text, self.metadata) if self.metadata else text


class SVG(TextDisplayObject):
    """A drawing."""

    __repr__ = DisplayObject.__repr__

    def __init__(self, data=None, url=None, filename=None, metadata=None):
        super().__init__(data.decode() if isinstance(data, bytes) else data, url, filename, metadata)

    def reload(self):
        """Reads the file again, and drops the text before the drawing."""
        super().reload()
        if isinstance(self.data, str):
            self.data = self.data[max(self.data.find("<svg"), 0) :]

    def _repr_svg_(self):
        return self.shown()


class Javascript(TextDisplayObject):
    """JavaScript, which a page shows only if the policy trusts the box with it."""

    def __init__(self, data=None, url=None, filename=None, lib=None, css=None):
        if lib or css:
            raise ValueError("lib, css: a box has no network")
        super().__init__(data, url, filename)

    def _repr_javascript_(self):
        return self.data


class JSON(DisplayObject):
    """Data as a tree: a dict or a list, or text that has one."""

    def __init__(self, data=None, url=None, filename=None, expanded=False, metadata=None, root="root", **options):
        super().__init__(data, url, filename, {"expanded": expanded, "root": root, **(metadata or {}), **options})
        if isinstance(self.data, str):
            self.data = json.loads(self.data)

    def _repr_json_(self):
        return self.data, self.metadata


class Image(DisplayObject):
    """A picture: PNG, JPEG or GIF, as bytes or as the path of a file. width, height: in pixels on the page."""

    is_binary = True

    def __init__(
        self, data=None, url=None, filename=None, format=None, embed=None, width=None, height=None, retina=False,
        unconfined=False, metadata=None, alt=None,
    ):  # fmt: skip
        if isinstance(data, str) and filename is None:
            data, filename = None, data
        super().__init__(data, url, filename, metadata)
        if not isinstance(self.data, bytes):
            raise TypeError(f"Image: want bytes or the path of a file, got {self.data!r:.100}")
        found = [name for beginning, name in BEGINNINGS.items() if self.data.startswith(beginning)]
        self.format = (format or (found or ["png"])[0]).lower().replace("jpg", "jpeg")
        self.width, self.height, self.retina, self.alt = width, height, retina, alt
        if self.format not in BEGINNINGS.values():
            raise ValueError(f"format: want png, jpeg or gif, got {format!r}")
        if retina and self.format == "png":
            self.width, self.height = (int.from_bytes(self.data[at : at + 4], "big") // 2 for at in (16, 20))

    def _repr_mimebundle_(self, include=None, exclude=None):
        sizes = {"width": self.width, "height": self.height}
        metadata = {**self.metadata, **{side: size for side, size in sizes.items() if size is not None}}
        mime = f"image/{self.format}"
        return {mime: base64.b64encode(self.data).decode()}, {mime: metadata} if metadata else {}
