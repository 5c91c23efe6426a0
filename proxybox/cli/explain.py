"""`proxybox explain`: shows what a recorded program did, in words, pictures and the formats of other tools."""

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

from proxybox.cli.choosing import chosen_packages
from proxybox.cli.failures import CommandError, UsageError
from proxybox.cli.run import interrupted
from proxybox.cli.streams import text_file
from proxybox.cli.trace import line
from proxybox.controller.record.events import CallEvent
from proxybox.records.explaining.markup import as_svg
from proxybox.records.explaining.page import page
from proxybox.records.explaining.picture import draw
from proxybox.records.explaining.profiles import Bounded, Folded, TraceEvents, as_oscall
from proxybox.records.explaining.reading import Consumer, RecordSummary
from proxybox.records.explaining.reading import explain as read
from proxybox.records.explaining.sections import LONGEST, SummarySection, as_data, sections
from proxybox.records.explaining.timeline import Timeline
from proxybox.records.lines import MOST, Lines, at_line, lines_of
from proxybox.records.openfiles import waited
from proxybox.records.record import Record, RecordedCall, RecordedSignal
from proxybox.terminal.harmless import on_one_line
from proxybox.terminal.progress import shown_progress
from proxybox.terminal.strace import argument
from proxybox.terminal.tables import table
from proxybox.terminal.text import Paint


def explain(
    record: Path, everything: bool, strace: bool, svg: str | None, html: str | None, folded: str | None, weight: str,
    perfetto: str | None, as_json: bool, lines: bool = False, guest: str | None = None,
    packages: tuple[str, ...] = (),
) -> int:  # fmt: skip
    """Explains a record in the forms that the options name. Returns the exit status."""
    try:
        to_stdout = [strace, as_json, *(file == "-" for file in (svg, html, folded, perfetto))]
        if sum(to_stdout) > 1:
            raise UsageError("only one of these can go to standard output: name files for the others")
        with _opened(record) as opened, contextlib.ExitStack() as files:
            making = _Making(opened, files)
            if strace:
                making.strace()
            making.trace_events(perfetto)
            making.folded(folded, by_time=weight == "us")
            making.pictures(svg, html, everything=everything)
            summary = read(opened, making.consumers, _lines(record, guest, packages) if lines else None)
            for finish in making.finishing:
                finish(summary)
        making.print_left_out()
        if as_json:
            json.dump(as_data(summary), sys.stdout, indent=2)
            sys.stdout.write("\n")
        elif not any(to_stdout):
            show(sections(summary, everything=everything), sys.stdout)
    except KeyboardInterrupt:
        return interrupted()
    return 0


def _lines(record: Path, guest: str | None, packages: tuple[str, ...]) -> Lines:
    """Finds in a replay of the record which lines made its calls, with a progress bar."""
    with Record(record) as counted:
        calls = (each for each in counted.reader.events() if isinstance(each, CallEvent))
        total = sum(1 for _ in islice(calls, MOST))
    with shown_progress("asking for lines", total) as advance:
        return lines_of(record, guest=guest, packages=chosen_packages(packages, guest, None), on_call=advance)


def _opened(record: Path) -> Record:
    try:
        return Record(record)
    except OSError as error:
        raise CommandError(f"can't read {str(record)!r}: {error.strerror or error}") from None


class _Making:
    """The requested output: the consumers of the calls, and the functions to call after the last call."""

    def __init__(self, record: Record, files: contextlib.ExitStack) -> None:
        self._title = " ".join(record.argv[1:])[:LONGEST] or record.guest[:LONGEST]
        self._files = files
        self.consumers: list[Consumer] = []
        self.finishing: list[Callable[[RecordSummary], object]] = []
        self._bounded: dict[str, Strace | TraceEvents | Folded] = {}

    def _file(self, path: str) -> TextIO:
        if path == "-":
            return sys.stdout
        try:
            return self._files.enter_context(text_file(path, repr(path)))
        except OSError as error:
            raise CommandError(f"can't write {path!r}: {error.strerror or error}") from None

    def strace(self) -> None:
        """Adds the output of all calls, on standard output."""
        lines = self._bounded["--strace: {:,} further lines are left out"] = Strace(sys.stdout)
        self.consumers.append(lines)

    def print_left_out(self) -> None:
        """Prints how much was left out."""
        for summary, consumer in self._bounded.items():
            if consumer.left_out:
                sys.stderr.write(f"proxybox: {summary.format(consumer.left_out)}\n")

    def trace_events(self, path: str | None) -> None:
        """Adds the file of Chrome's trace events, which is written call by call."""
        if path is not None:
            events = self._bounded["--perfetto: {:,} further events are left out"] = TraceEvents(self._file(path))
            self.consumers.append(events)
            self.finishing.append(lambda _: events.finish())

    def folded(self, path: str | None, *, by_time: bool) -> None:
        """Adds the file of folded stacks."""
        if path is not None:
            stacks = self._bounded["--folded: {:,} calls are counted as others"] = Folded(by_time=by_time)
            self.consumers.append(stacks)
            self.finishing.append(lambda _: self._file(path).writelines(stacks.lines()))

    def pictures(self, svg: str | None, html: str | None, *, everything: bool) -> None:
        """Adds the picture, and the page with the picture."""
        if svg is None and html is None:
            return
        timeline = Timeline()
        self.consumers.append(timeline)
        if svg is not None:
            self.finishing.append(lambda _: self._file(svg).write(as_svg(draw(timeline, self._title))))
        if html is not None:
            self.finishing.append(
                lambda summary: self._file(html).write(
                    page(timeline, self._title, sections(summary, everything=everything))
                )
            )


class Strace:
    """Prints calls as strace(1) would: their numbers, seconds since the start, the thread, how long each waited.

    They are printed in the order of their answers, so with several threads their numbers may not be ascending.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = Bounded(out)
        self._paint = Paint(out)

    @property
    def left_out(self) -> int:
        """How many lines were left out."""
        return self._out.left_out

    def add(self, call: RecordedCall, _: str) -> None:
        """Prints one call."""
        took = waited(call)
        self._out.write(
            f"{call.number:6} {call.at:11.6f} [{call.thread}] {line(as_oscall(call), self._paint)}"
            f"{f' <{took:.6f}>' if took else ''}{self._place(call)}\n"
        )

    def _place(self, call: RecordedCall) -> str:
        if call.line is None:
            return ""
        return self._paint("dim", on_one_line(f"  # {at_line(call.line)} {call.line.function}"))

    def signals(self, received: list[RecordedSignal]) -> None:
        """Prints signals that the program got, as strace does."""
        for each in received:
            self._out.write(f"{'':6} {each.at:11.6f} --- {argument('kill', 'sig', each.signal)} ---\n")


def show(summary: Sequence[SummarySection], out: TextIO) -> None:
    """Prints an explanation. All texts of the record are made harmless here."""
    paint = Paint(out)
    for section in summary:
        parts = [paint("bold", section.title), *(f"  {on_one_line(line)}" for line in section.lines)]
        if section.rows:
            rows = [[on_one_line(cell) for cell in row] for row in section.rows]
            drawn = table(section.head, rows, right=section.right, coloured=paint.wanted)
            parts += [f"  {line}" for line in drawn.split("\n")]
        parts += [f"  {on_one_line(line)}" for line in section.after]
        out.write("\n".join(parts) + "\n\n")
