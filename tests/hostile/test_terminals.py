"""Escape sequences on their way to a terminal: none that does more than colour text."""

import pytest

SEQUENCES = {
    "title": "\x1b]0;owned\x07", "title by ST": "\x1b]2;owned\x1b\\", "clipboard": "\x1b]52;c;b3duZWQ=\x07", "hyperlink": "\x1b]8;;http://x\x07y\x1b]8;;\x07",
    "report of the cursor": "\x1b[6n", "report of the device": "\x1b[c", "answerback": "\x05", "clear": "\x1b[2J\x1b[H", "reset": "\x1bc",
    "alternate screen": "\x1b[?1049h", "mouse": "\x1b[?1003h", "key strings": "\x1bP1;1|17/6c73\x1b\\", "application": "\x1b_owned\x1b\\",
    "privacy": "\x1b^owned\x1b\\", "CSI of 8 bits": "\x9b2J", "OSC of 8 bits": "\x9d0;owned\x9c", "character sets": "\x1b(0", "shift": "\x0e",
    "backspaces": "good\b\b\b\bevil", "carriage return over text": "good\revil", "scrolling": "\x1b[1;5r", "window": "\x1b[8;1;1t", "unfinished": "\x1b]0;owned",
    "nested": "\x1b\x1b]0;owned\x07", "split by NUL": "\x1b\x00]0;owned\x07", "delete": "\x7f", "bidi": "\u202eevil", "vertical": "\x0b\x0c",
}  # fmt: skip


@pytest.mark.parametrize("text", SEQUENCES.values(), ids=SEQUENCES.keys())
def test_neutralised(hostile, text):
    pieces = []
    result = hostile.run(
        f"import sys\nprint({text!r} + '|end')\nprint({text!r}, file=sys.stderr)",
        output={"escapes": "neutralise"}, on_stdout=pieces.append,
    )  # fmt: skip
    assert result.ok
    for shown in (result.stdout, result.stderr, "".join(text for _, text in result.output)):
        assert "\x1b]" not in shown and "\x1b[?" not in shown and "\x1bP" not in shown and "\x1bc" not in shown
        for forbidden in "\x05\x07\x08\x0e\x0f\x7f\x9b\x9d\x90\x9c":
            assert forbidden not in shown, ascii(shown)
        assert "\x1b[2J" not in shown and "\x1b[6n" not in shown and "\x1b[c" not in shown and "\x1b(" not in shown


def test_raw_is_raw(hostile):
    result = hostile.run("import sys; sys.stdout.buffer.write(bytes(range(256)))", output={"escapes": "raw"})
    assert result.stdout_bytes == bytes(range(256))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_sequences_in_pieces(hostile, size):
    text = "\x1b]0;owned\x07\x1b[2J\x1bc"
    result = hostile.run(
        f"import os\ndata = {text.encode()!r}\nfor at in range(0, len(data), {size}): os.write(1, data[at:at + {size}])",
        output={"escapes": "neutralise"},
    )
    assert "\x1b]" not in result.stdout and "\x1b[2J" not in result.stdout and "\x1bc" not in result.stdout
