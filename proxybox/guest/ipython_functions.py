"""A replacement of IPython.core.display_functions, also in a real IPython, because no shell could display."""

import builtins

__all__ = ["DisplayHandle", "clear_output", "display", "publish_display_data", "update_display"]

display, clear_output, DisplayHandle = builtins.display, builtins.clear_output, builtins.display.DisplayHandle


def publish_display_data(data, metadata=None, *, transient=None, update=False, **_):
    """Shows data by MIME type."""
    display(data, raw=True, metadata=metadata, transient=transient, update=update)


def update_display(thing, *, display_id, **options):
    """Shows an object in place of those that were displayed with that display_id."""
    display(thing, display_id=display_id, update=True, **options)
