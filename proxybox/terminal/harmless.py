"""What a guest has said, as a terminal, a page or a line of ours may have it."""

from proxybox.controller.world.output import neutralise


def harmless(text: str) -> str:
    """A guest's text as any terminal or page may have it: controls and what hides or reorders text as escapes."""
    return neutralise(text.encode("utf-8", "backslashreplace")).decode()


def harmless_lines(text: str) -> str:
    """The same for what people read as lines: of carriage returns only those that end a line pass, as its end. Another
    one would put what follows over what stands there."""
    return harmless(text.replace("\r\n", "\n")).replace("\r", "\\r")


def on_one_line(text: str) -> str:
    """What a guest has named or said, for a line of ours: controls, line ends and what reorders text as escapes."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        data = text.encode("utf-8", "backslashreplace")
    shown = neutralise(data).decode()
    return shown.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
