"""A replacement of matplotlib_inline.backend_inline where it is not installed."""

from proxybox_inline import FigureCanvas, set_matplotlib_formats, show  # noqa: F401
