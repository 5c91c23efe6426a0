"""Text of a guest, made safe for a terminal, a page, or a line of our own output."""

from proxybox.controller.world.output import neutralise


def harmless(text: str) -> str:
    """Replaces control characters, and characters that hide or reorder text, with escapes, for any terminal or page."""
    return neutralise(text.encode("utf-8", "backslashreplace")).decode()


def harmless_lines(text: str) -> str:
    """Does what `harmless` does, for text that people read as lines.

    A carriage return passes only at the end of a line, as part of the line end. Any other one would let the text after
    it overwrite the text before it.
    """
    return harmless(text.replace("\r\n", "\n")).replace("\r", "\\r")


def on_one_line(text: str) -> str:
    """Replaces controls, line ends and characters that reorder text with escapes, for a line of our own."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that do not represent bytes
        data = text.encode("utf-8", "backslashreplace")
    shown = neutralise(data).decode()
    return shown.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
