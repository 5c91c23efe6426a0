"""Prints the facts of an open classroom for its teacher: on a terminal, in plain text, or as JSON."""

import json
from collections.abc import Iterator
from textwrap import fill
from typing import Final, TextIO

import attrs
import segno
from rich.text import Text

from proxybox.terminal.harmless import on_one_line
from proxybox.terminal.tables import Cell, console, table
from proxybox.terminal.text import has_colours

#: Two rows of a QR code in one line, by whether the upper and the lower module are dark.
_HALVES: Final = {(False, False): " ", (True, False): "\u2580", (False, True): "\u2584", (True, True): "\u2588"}
_QUIET: Final = 2  # modules around the code: half of those in ISO/IEC 18004, so that it fits; scanners accept it
_INDENT: Final = "  "
#: The most addresses that are shown: a machine may have many IPv6 addresses, which nobody types.
_MOST: Final = 4


@attrs.frozen(kw_only=True)
class ClassroomFacts:
    """The facts of a classroom. title: of the course. addresses: for students, best first. code: for joining.

    teacher: the URL of the teacher's page, with the key. course, data: folders. fingerprint: of the certificate, if it
    is our own. is_local: only this machine can connect.
    """

    title: str
    addresses: tuple[str, ...]
    code: str
    teacher: str
    course: str
    data: str
    fingerprint: str = ""
    is_local: bool = False


def as_json(facts: ClassroomFacts) -> str:
    """Returns one line of JSON."""
    return json.dumps(attrs.asdict(facts))


def show(facts: ClassroomFacts, file: TextIO) -> None:
    """Prints the facts, with a QR code on a terminal with enough room."""
    out = console(file)
    out.print(Text(f"\n{on_one_line(facts.title)}\n", style="bold"))
    # A URL is not wrapped, however narrow the terminal is: so it can be copied, or opened.
    rows = [(("dim", _INDENT + name), cell) for name, cell in _rows(facts)]
    print(table((), rows, coloured=has_colours(file)), file=file)
    out.print()
    if not facts.is_local and file.isatty():
        lines = _code(facts.addresses[0], inverted=out.no_color)
        if len(_INDENT + lines[0]) <= out.width and _can_write(lines, file):
            for line in lines:
                out.print(_INDENT, Text(line, style="" if out.no_color else "black on bright_white"), sep="")
            out.print()
    for line in _advice(facts):
        print(fill(line, out.width, initial_indent=_INDENT, subsequent_indent=_INDENT), file=file)
    out.print()
    file.flush()


def _rows(facts: ClassroomFacts) -> Iterator[tuple[str, Cell]]:
    first, *more = facts.addresses[:_MOST]
    yield "students open", ("bold", first)
    for address in more:
        yield "or", address
    yield "and join with", ("bold", facts.code)
    yield "you open", facts.teacher
    yield "course", on_one_line(facts.course)
    yield "kept in", on_one_line(facts.data)
    if facts.fingerprint:
        half = len(facts.fingerprint) // 2 + 1
        yield "certificate", f"SHA-256 {facts.fingerprint[:half]}"
        yield "", f"        {facts.fingerprint[half:]}"


def _advice(facts: ClassroomFacts) -> Iterator[str]:
    yield "Your address has your key in it: keep it to yourself."
    if facts.is_local:
        yield "Only this machine reaches this classroom. For all in your network: --host lan"
    else:
        yield (
            "Students cannot reach it? They have to be in the same network as this machine. Its firewall must let them"
            " in, and a Wi-Fi for guests often keeps devices apart: try a phone's hotspot, or a cable."
        )
    if facts.fingerprint:
        yield "Browsers warn of a certificate that no authority has signed: compare it with the fingerprint above."
    yield "Ctrl-C ends the lesson. Everything is kept, and is there again at the next start."


def _code(address: str, *, inverted: bool) -> list[str]:
    """The lines of a QR code of half blocks. inverted: for terminals without colours, where text is mostly light."""
    rows = [[bool(module) != inverted for module in row] for row in segno.make_qr(address).matrix_iter(border=_QUIET)]
    rows += [[inverted] * len(rows[0])] * (len(rows) % 2)
    return [
        "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]


def _can_write(lines: list[str], file: TextIO) -> bool:
    try:
        "".join(lines).encode(file.encoding)
    except UnicodeEncodeError:
        return False
    return True
