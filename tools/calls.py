#!/usr/bin/env python3
"""Writes docs/calls.md from the rows of the OS calls in controller/oscalls.

`make calls` runs it; a test compares the page.
"""

from collections.abc import Iterator
from pathlib import Path

from proxybox.controller.calleffects import CallEffect, Support
from proxybox.controller.dispatch import NUMBERS, TABLE, UNANSWERED, Row
from proxybox.controller.oscalls.rows import row_of
from proxybox.controller.seal import filters

PAGE = Path(__file__).resolve().parent.parent / "docs/calls.md"
_TEMPLATE = """# OS calls

What each OS call of Linux on x86-64 does in a box, and how far it is supported. This page is made from the rows of the
calls in `controller/oscalls/` (`make calls`); [Limitations](../limitations.md) has the differences that a program can
see in more words.

| support | means | calls |
| --- | --- | ---: |
| full | as its man page has it, on the box's own files, clocks and processes | {full} |
| partial | as far as the last column says | {partial} |
| refused | the call fails, for the reason in the last column | {refused} |
| native | the guest's kernel answers it: the [seccomp filter](seal.md) lets it through | {native} |
| none | ENOSYS, as in a kernel that does not have the call; a trace shows it as `unknown` | {none} |

{table}

These calls are answered by nothing: {unanswered}.
"""


def does(effect: CallEffect) -> str:
    """Returns a description of a call."""
    return ", ".join(str(each.name).lower() for each in CallEffect if each in effect)


def calls() -> Iterator[tuple[int, str, Row | None]]:
    """Yields the number, name and row (or None) of each call of the kernel, without the forms that the stub makes."""
    for number, row in TABLE.items():
        if NUMBERS[row.name] == number and number in KERNELS:
            yield number, row.name, row
    yield from ((number, name, None) for name, number in filters.NUMBERS.items() if row_of(name) is None)


#: The limit of the kernel's call numbers: those of the stub are above it.
KERNELS = range(500)


def line(number: int, name: str, row: Row | None) -> str:
    """Returns a row of the table."""
    if row is None:
        return f"| {number} | `{name}` | | native | |"
    return f"| {number} | `{name}` | {does(row.effect)} | {row.support} | {row.reason} |".replace("|  |", "| |")


def page() -> str:
    """Returns the text of the page."""
    found = sorted(calls())
    levels = [Support.FULL if row is None else row.support for _, _, row in found]
    native = sum(row is None for _, _, row in found)
    return _TEMPLATE.format(
        full=levels.count(Support.FULL) - native,
        partial=levels.count(Support.PARTIAL),
        refused=levels.count(Support.REFUSED),
        native=native,
        none=len(UNANSWERED),
        table="\n".join([
            "| number | call | does | support | |",
            "| ---: | --- | --- | --- | --- |",
            *(line(*each) for each in found),
        ]),
        unanswered=", ".join(f"`{name}` ({number})" for number, name in sorted(UNANSWERED.items())),
    )  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(page())
