"""`proxybox trace`: runs a program in a box, and shows each OS call that it makes."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

import attrs

from proxybox.cli.arguments import Parsed
from proxybox.cli.choosing import choose_policy
from proxybox.cli.exits import exit_status
from proxybox.cli.failures import CommandError, UsageError
from proxybox.cli.run import interrupted, print_failure, print_outcome, run_box
from proxybox.cli.streams import text_file
from proxybox.controller.audit import OSCall
from proxybox.terminal import strace
from proxybox.terminal.tables import Cell, table
from proxybox.terminal.text import Paint

REFUSED: Final = ("denied", "unknown")
#: The most bytes of a buffer in a line of JSON. Paths are shorter; a guest can pass a megabyte in each call.
SHOWN_BYTES: Final = 4096
#: The most names that are counted. There are fewer calls, but unknown calls have four billion possible numbers.
MOST_NAMES: Final = 1000
COLOURS: Final = {"denied": "red", "answered": "magenta", "unknown": "blue"}


def trace(parsed: Parsed) -> int:
    """Runs the program and prints its calls; returns the exit status, which is the program's."""
    try:
        policy = choose_policy(parsed)
        wanted = chosen_calls(parsed)
        with trace_file(parsed.text("output")) as out:
            show, finish = shower(parsed, out)
            result = run_box(
                parsed,
                policy,
                capture=False,
                audit=lambda call: show(call) if wanted(call) else None,
            )
            finish()
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:
        return print_failure(error)
    print_outcome(result, verbose=False)
    return exit_status(result)


@contextlib.contextmanager
def trace_file(path: str | None) -> Iterator[TextIO]:
    """Yields the file for the trace: a new one at `path`, or stderr."""
    if path is None:
        yield sys.stderr
        return
    try:
        file = text_file(path, f"the trace to {path!r}")
    except OSError as error:
        raise CommandError(f"can't write the trace to {path!r}: {error.strerror}") from None
    with file:
        yield file


def chosen_calls(parsed: Parsed) -> Callable[[OSCall], bool]:
    """Returns a filter for the calls that the options select. Raises UsageError for an unknown family."""
    families = frozenset(parsed.texts("family"))
    if unknown := families - known_families():
        raise UsageError(
            f"there is no family of calls {', '.join(sorted(unknown))}"
            f" (there are: {', '.join(sorted(known_families()))})"
        )
    denied_only = parsed.flag("denied")

    def wanted(call: OSCall) -> bool:
        if families and call.family not in families:
            return False
        return not denied_only or call.decision in REFUSED

    return wanted


def known_families() -> set[str]:
    """Returns the families of calls, from the controller's own table."""
    import proxybox.controller.oscalls  # noqa: F401 - fills the table
    from proxybox.controller.dispatch import TABLE

    return {row.family for row in TABLE.values()} | {"unknown"}


def shower(parsed: Parsed, out: TextIO) -> tuple[Callable[[OSCall], None], Callable[[], None]]:
    """Returns the function to call for each call, and the one for the end, for the form that the options name."""
    paint = Paint(out)
    if parsed.flag("summary"):
        counts = Summary()
        if parsed.flag("json"):
            return counts.add, lambda: print(json.dumps(counts.rows()), file=out)
        return counts.add, lambda: print(counts.text(coloured=paint.wanted), file=out)
    if parsed.flag("json"):
        return lambda call: print(json.dumps(as_json(call)), file=out), out.flush
    return lambda call: print(line(call, paint), file=out), out.flush


def line(call: OSCall, paint: Paint) -> str:
    """Returns one call as a line, with the decision in colour and the reason of a refusal in words."""
    text = f"{call.name}({strace.arguments(call)}) "
    outcome = strace.outcome(call)
    decision = str(call.decision)
    if decision == "allowed":
        return text + (paint("yellow", outcome) if call.errno else outcome)
    reason = f": {call.reason}" if call.reason else ""
    return text + paint(COLOURS[decision], f"{outcome} [{decision}{reason}]")


def as_json(call: OSCall) -> dict[str, Any]:
    """Returns a call as JSON-compatible values: bytes as text with backslashes for invalid UTF-8, buffers cut."""
    record = attrs.asdict(call)
    del record["paths"]  # paths are found for interceptors only, and there are none
    record["arguments"] = {name: _text(value) if isinstance(value, bytes) else value
                           for name, value in call.arguments.items()}  # fmt: skip
    record["decision"] = str(call.decision)
    return record


def _text(data: bytes) -> str:
    text = data[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return text if len(data) <= SHOWN_BYTES else f"{text}... ({len(data)} bytes)"


class Summary:
    """Calls, errors, refusals and time by name, as in strace -c. Only the first unknown calls are counted by number."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[int]] = {}

    def add(self, call: OSCall) -> None:
        """Counts one call."""
        is_new = call.name not in self._by_name
        name = "unknown" if is_new and call.family == "unknown" and len(self._by_name) >= MOST_NAMES else call.name
        counts = self._by_name.setdefault(name, [0, 0, 0, 0])
        counts[0] += call.duration_ns
        counts[1] += 1
        counts[2] += call.errno is not None
        counts[3] += call.decision in REFUSED

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row for each name, the one with the most time first."""
        names = ("duration_ns", "calls", "errors", "refused")
        ordered = sorted(self._by_name.items(), key=lambda item: item[1], reverse=True)
        return [{"name": name, **dict(zip(names, counts, strict=True))} for name, counts in ordered]

    def text(self, *, coloured: bool) -> str:
        """Returns the table as text."""
        rows = self.rows()
        total = sum(row["duration_ns"] for row in rows)
        cells: list[list[Cell]] = [
            [
                f"{100 * row['duration_ns'] / (total or 1):.2f}",
                f"{row['duration_ns'] / 1e9:.6f}",
                f"{row['duration_ns'] / 1e3 / row['calls']:.1f}",
                str(row["calls"]),
                str(row["errors"] or ""),
                ("red", str(row["refused"])) if row["refused"] else "",
                row["name"],
            ]
            for row in rows
        ]
        calls, errors, refused = (sum(row[k] for row in rows) for k in ("calls", "errors", "refused"))
        foot = ["100.00", f"{total / 1e9:.6f}", f"{total / 1e3 / (calls or 1):.1f}"]
        foot += [str(calls), str(errors or ""), str(refused or ""), "total"]
        head = ["% time", "seconds", "usecs/call", "calls", "errors", "refused", "call"]
        return table(head, cells, foot, right=range(6), coloured=coloured)
