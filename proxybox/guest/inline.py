"""The backend of matplotlib in sessions: figures become pictures.

As under IPython, figures are shown and closed when a cell ends, and by `show()`. With `ioff()` only `show()` shows.
"""

import builtins
import io
import os
import sys

import matplotlib
from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FigureCanvas = FigureCanvasAgg
#: How figures are drawn: type, format of the file, and the factor for the figure's number of pixels.
DRAWN = {
    "png": ("image/png", "png", 1),
    "retina": ("image/png", "png", 2),
    "svg": ("image/svg+xml", "svg", 1),
}
ALIASES = {"png2x": "retina"}
formats = ("png",)
#: Whether a figure was made that is shown at the end of the cell.
has_new = False


def new_figure_manager(num, *args, FigureClass=Figure, **kwargs):
    return new_figure_manager_given_figure(num, FigureClass(*args, **kwargs))


def new_figure_manager_given_figure(num, figure):
    global has_new
    has_new = has_new or matplotlib.is_interactive()
    return FigureManagerBase(FigureCanvas(figure), num)


def show(close=True, block=None):
    """Shows all open figures, and closes them."""
    global has_new
    try:
        for manager in Gcf.get_all_fig_managers():
            builtins.display(manager.canvas.figure)
    finally:
        has_new = False
        if close:
            close_all()


def close_all():
    if Gcf.get_all_fig_managers():
        sys.modules["matplotlib.pyplot"].close("all")


def end_cell(error):
    """Shows the figures of a cell. error: the exception that has ended it; after an interrupt nothing is drawn."""
    global has_new
    if isinstance(error, KeyboardInterrupt):
        has_new = False
        close_all()
    elif has_new:
        show()


def set_matplotlib_formats(*names):
    """Sets the formats of figures: "png", "retina" (PNG with twice the pixels), "svg"."""
    global formats
    wanted = tuple(ALIASES.get(name, name) for name in names)
    for name in wanted:
        if name not in DRAWN:
            raise ValueError(f"a figure is shown as {', '.join(DRAWN)}, not as {name!r}")
    formats = wanted


def looks_of(figure):
    """Returns a figure as (data by MIME type, metadata); an empty figure has no data."""
    data, metadata = {}, {}
    if figure.canvas is None:
        FigureCanvas(figure)
    for name in formats if figure.axes or figure.lines else ():
        mime, file_format, scale = DRAWN[name]
        drawing = io.BytesIO()
        figure.canvas.print_figure(
            drawing, format=file_format, dpi=figure.dpi * scale, facecolor=figure.get_facecolor(),
            edgecolor=figure.get_edgecolor(), bbox_inches="tight",
        )  # fmt: skip
        content = drawing.getvalue()
        data[mime] = content[content.index(b"<svg") :] if name == "svg" else content
        if scale > 1:
            width, height = (int.from_bytes(data[mime][at : at + 4], "big") // scale for at in (16, 20))
            metadata[mime] = {"width": width, "height": height}
    return data, metadata


# Chosen by the program; otherwise matplotlib was made interactive when it was loaded.
if os.environ.get("MPLBACKEND") != f"module://{__name__}":
    matplotlib.interactive(True)
