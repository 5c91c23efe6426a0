"""`proxybox diff`: how two recorded runs differ, and what may have led to it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from proxybox.cli.failures import CommandError
from proxybox.cli.run import interrupted, print_failure
from proxybox.records.differing import CallPair, Cause, Difference, diff
from proxybox.records.differing.page import page
from proxybox.records.differing.trying import FAILS, SPARED, tried
from proxybox.records.differing.wording import as_data, ended, of_kind, summary
from proxybox.terminal.harmless import on_one_line
from proxybox.terminal.text import Paint

EXIT_DIFFERENT = 1
_MOST_GIVEN = 20
_MOST_ROWS = 40
_MOST_TEXT = 600


def compare(first: Path, second: Path, as_json: bool, html: str | None, replays: bool, guest: str | None) -> int:
    """Compares two records, and prints how they differ. Returns the exit status, as for diff(1)."""
    try:
        found = diff(first, second)
        if replays:
            found = tried(found, guest=guest)
        if html is not None:
            write(html, page(found))
    except KeyboardInterrupt:
        return interrupted()
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else "the records"
        return print_failure(CommandError(f"{where}: {error.strerror or error}"))
    if as_json:
        json.dump(as_data(found), sys.stdout, indent=2)
        sys.stdout.write("\n")
    elif html != "-":
        sys.stdout.write("\n".join(in_words(found, Paint(sys.stdout))) + "\n")
    return 0 if found.same else EXIT_DIFFERENT


def write(path: str, text: str) -> None:
    """Writes the page; - is standard output. Raises OSError."""
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")


def in_words(found: Difference, paint: Paint) -> list[str]:
    """Returns a comparison in words, line by line. Text of the records is made harmless."""
    return [*_lines_of(found, paint)]


def _lines_of(found: Difference, paint: Paint) -> Iterator[str]:
    for side, name in enumerate("ab"):
        one = found.inputs[side]
        parts = found.names[side], one.guest, one.recorded, f"{found.calls[side]:,} calls", ended(found.ends[side])
        yield f"{name}  {_shown('  '.join(parts))}"
    yield ""
    yield paint("bold", _shown(summary(found)))
    if not found.is_whole:
        yield "The records have more calls than are compared: this is about the first of them."
    if not found.is_aligned:
        yield "Not all of their calls could be aligned and looked at: this is about the others."
    yield from _outcome(found, paint)
    yield from _given(found, paint)
    if found.parting is not None:
        thread = f", in thread {found.parting.thread}" if found.parting.thread else ""
        yield ""
        yield f"They part where the program asks something else{thread}:"
        yield from _pair(_numbered(found.parting.a.number, found.parting.a.line),
                         _numbered(found.parting.b.number, found.parting.b.line), paint)  # fmt: skip
    yield from _causes(found, paint)
    if found.first is not None:
        yield ""
        yield f"The first answer that differs is {found.first.kind.words}, {_shown(found.first.call)}:"
        yield from _pair(
            _numbered(found.first.a, found.first.ours), _numbered(found.first.b, found.first.theirs), paint
        )
        counts = ", ".join(of_kind(name, count) for name, count in found.counts.items())
        when = " before they part" if found.parting is not None else ""
        yield f"  {paint('dim', f'answers that differ{when}: {counts}')}"
    if not found.same:
        yield from _calls(found, paint)


def _outcome(found: Difference, paint: Paint) -> Iterator[str]:
    if found.ends[0] != found.ends[1]:
        yield ""
        yield "They ended:"
        yield from _pair(ended(found.ends[0]), ended(found.ends[1]), paint)
    for line in found.lines:
        yield ""
        yield f"The first line of {line.stream} that differs is line {line.number:,}:"
        yield from _pair(line.ours, line.theirs, paint)


def _given(found: Difference, paint: Paint) -> Iterator[str]:
    if not found.apart:
        return
    yield ""
    yield "They were given:"
    for each in found.apart[:_MOST_GIVEN]:
        yield f"  {each.kind.name}: {_shown(each.name)}"
        yield from _pair(each.ours, each.theirs, paint, "    ")
    if len(found.apart) > _MOST_GIVEN:
        yield f"  and {len(found.apart) - _MOST_GIVEN:,} more: see --json"


def _causes(found: Difference, paint: Paint) -> Iterator[str]:
    if not found.causes:
        return
    yield ""
    yield "What may have led to it, the likeliest first:"
    for number, cause in enumerate(found.causes, 1):
        yield f"  {number}. {paint('bold', f'{cause.kind.group}: {_shown(cause.words)}')}{_where(cause)}"
        if cause.tried:
            colour = "dim" if cause.tried in (SPARED, FAILS) else "green"
            yield f"     {paint(colour, f'by replays: {cause.tried}')}"
        if cause.ours or cause.theirs:
            yield from _pair(cause.ours, cause.theirs, paint, "     ")
        if cause.kind.advice:
            yield f"     {paint('dim', f'try: {cause.kind.advice}')}"


def _where(cause: Cause) -> str:
    found = cause.found
    if found is None:
        return ""
    numbers = f"call {found.a:,}" if found.a == found.b else f"call {found.a:,} of a, {found.b:,} of b"
    call = f", {_shown(found.call)}" if found.call else ""
    shown = "; its answer is part of what differs" if cause.shows else ""
    return f"  ({numbers}{call}{shown})"


def _calls(found: Difference, paint: Paint) -> Iterator[str]:
    """Yields the calls around the place where the runs part, as diff(1) shows them."""
    at = next((at for at, row in enumerate(found.rows) if row.how == "asked"), None)
    if at is None:
        return
    rows = found.rows[max(0, at - 3) : at - 3 + _MOST_ROWS]
    yield ""
    yield "Calls, from there on:"
    for row in rows:
        yield from (f"  {line}" for line in _row(row, paint))
    if at - 3 + _MOST_ROWS < len(found.rows):
        yield "  and so on: see --html"


def _row(row: CallPair, paint: Paint) -> Iterator[str]:
    if row.how == "left out":
        ours, theirs = row.skipped
        yield paint("dim", f"... {ours:,} calls" if ours == theirs else f"... {ours:,} calls of a, {theirs:,} of b")
        return
    if row.how in ("same", "renamed") and row.a is not None:
        yield f"  {_shown(row.a.line)}"
        return
    for mark, colour, place in (("-", "red", row.a), ("+", "green", row.b)):
        if place is not None:
            yield paint(colour, f"{mark} {_shown(place.line)}")


def _shown(text: str) -> str:
    """Returns a text of a record, made harmless and cut."""
    return on_one_line(text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 3]}...")


def _numbered(number: int, line: str) -> str:
    return f"{number:,}: {line}" if number else line


def _pair(ours: str, theirs: str, paint: Paint, indent: str = "  ") -> Iterator[str]:
    yield f"{indent}{paint('red', 'a')}  {_shown(ours) or '-'}"
    yield f"{indent}{paint('green', 'b')}  {_shown(theirs) or '-'}"
