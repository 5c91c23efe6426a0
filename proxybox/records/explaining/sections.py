"""An explanation in sections of words and tables: the same ones for a terminal, and for a page."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import attrs

from proxybox.policies.sizes import spoken_size
from proxybox.records.explaining.account import STREAMS, CallSummary, FileUse, kind_of_error
from proxybox.records.explaining.counting import Counts
from proxybox.records.explaining.reading import RecordSummary
from proxybox.records.ownfiles import is_of_interpreter, prefix_of
from proxybox.result import Change

#: The most rows of a table, and lines of output, without --all.
MOST_ROWS, MOST_WAITED, MOST_LINES, MOST_NAMED, MOST_LINES_OF = 40, 10, 12, 6, 2
#: Characters of one text.
LONGEST: Final = 300


@attrs.frozen(kw_only=True)
class SummarySection:
    """A part of the explanation. head: of a table with `rows`. right: its columns of figures. after: lines below it."""

    title: str
    lines: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    right: tuple[int, ...] = ()
    after: tuple[str, ...] = ()


def sections(record_summary: RecordSummary, *, everything: bool = False) -> list[SummarySection]:
    """Returns the explanation. everything: every file and line, and the interpreter's own files one by one."""
    most = None if everything else MOST_ROWS
    own, system = _apart(record_summary, everything)
    account = record_summary.account
    found = [
        _run(record_summary, most),
        SummarySection(title="How it ended", lines=tuple(_ending(record_summary))),
        _by(_read(own, system, account, most), own, record_summary),
        _by(_changed(own, record_summary, most), own, record_summary),
        _by(_in_vain(own, most), own, record_summary),
        _printed(account, everything),
        SummarySection(title="What it asked for", lines=tuple(_asked(account))),
        _refused(record_summary, most),
        _lines(record_summary, most),
        _time(account, most),
    ]
    return [each for each in found if each.lines or each.rows or each.after]


def seconds(value: float) -> str:
    """Returns a duration in words, with four digits at the most."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.4g} ms" if value < 1 else f"{value:.4g} s"


def _apart(record_summary: RecordSummary, everything: bool) -> tuple[dict[str, FileUse], list[FileUse]]:
    """Returns the program's files by path, and those of the interpreter."""
    prefix = prefix_of(record_summary.argv)
    own: dict[str, FileUse] = {}
    system: list[FileUse] = []
    for path, use in record_summary.account.files.items():
        if everything or use.is_changed or not is_of_interpreter(path, prefix):
            own[path] = use
        else:
            system.append(use)
    return own, system


def _by(section: SummarySection, own: dict[str, FileUse], record_summary: RecordSummary) -> SummarySection:
    """Returns a table of files, with the program's lines that used each file if a replay has found them."""
    if record_summary.lines is None or not section.rows:
        return section
    rows = tuple((*row, _lines_of(own[row[0]].lines) if row[0] in own else "") for row in section.rows)
    return attrs.evolve(section, head=(*section.head, "BY LINE"), rows=rows)


def _lines_of(lines: Counts[str]) -> str:
    """Returns the most frequent lines, in words."""
    return ", ".join(line for line, _ in lines.most_common(MOST_LINES_OF))[:LONGEST] + (
        f" and {len(lines) - MOST_LINES_OF:,} more" if len(lines) > MOST_LINES_OF else ""
    )


def _cut(rows: Sequence[tuple[str, ...]], most: int | None, *more: str) -> dict[str, Any]:
    """Returns the first rows, and a line with the number of the other rows."""
    shown = rows if most is None else rows[:most]
    left = len(rows) - len(shown)
    return {"rows": tuple(shown), "after": (*((f"and {left:,} more (--all shows them)",) if left else ()), *more)}


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def _run(record_summary: RecordSummary, most: int | None) -> SummarySection:
    account = record_summary.account
    lines = [
        f"{record_summary.guest or 'an unknown interpreter'}: {' '.join(record_summary.argv)}"[:LONGEST],
        f"recorded {record_summary.recorded[:40] or 'at an unknown time'}: {_count(account.calls, 'OS call')} in "
        f"{seconds(account.ended)}, {_count(len(account.threads), 'thread')}",
    ]
    pairs = record_summary.policy if most is None else record_summary.policy[:most]
    lines.append("policy: the default one" if not pairs else "policy: the default one, but")
    lines += [f"  {key} = {value}"[:LONGEST] for key, value in pairs]
    if len(pairs) < len(record_summary.policy):
        lines.append(f"  and {len(record_summary.policy) - len(pairs):,} more (--all shows them)")
    return SummarySection(title="What was run", lines=tuple(lines))


def _ending(record_summary: RecordSummary) -> Iterator[str]:
    if record_summary.result is None:
        yield (
            f"The record was cut off after {_count(record_summary.account.calls, 'call')}: it does not tell how the "
            "program has ended, and what follows goes as far as the record does."
        )
    else:
        yield record_summary.result.summary()[:LONGEST]
        if record_summary.result.truncated:
            yield "what it printed was cut"
    if record_summary.account.unanswered:
        yield f"{_count(record_summary.account.unanswered, 'call was', 'calls were')} never answered"


def _read(own: dict[str, FileUse], system: list[FileUse], account: CallSummary, most: int | None) -> SummarySection:
    rows = [
        (path, f"{use.opened:,}", f"{use.read:,}", ", ".join(_notes(use)))
        for path, use in own.items()
        if use.is_read
    ]  # fmt: skip
    after = []
    if system:
        opened = sum(use.opened > 0 for use in system)
        missing = sum(bool(use.errors) for use in system)
        after.append(
            f"the interpreter's and the system's own files: {opened:,} opened, "
            f"{spoken_size(sum(use.read for use in system))} read, {missing:,} looked for in vain"
        )
    if account.files.left_out:
        after.append(f"{account.files.left_out:,} calls were about further files, which were not kept apart")
    return SummarySection(
        title="What it read", head=("FILE", "OPENED", "BYTES", ""), right=(1, 2), **_cut(rows, most, *after)
    )


def _notes(use: FileUse) -> Iterator[str]:
    if use.listed:
        yield "listed"
    if use.mapped:
        yield "mapped"


def _changed(own: dict[str, FileUse], record_summary: RecordSummary, most: int | None) -> SummarySection:
    """Returns the section about changed files, with the changes that the controller has found at the end."""
    changes = record_summary.result.files.changes if record_summary.result is not None else ()
    ends = {_absolute(change.name): _end_of(change) for change in changes}
    changed = {path: use for path, use in own.items() if use.is_changed}
    rows = [
        (path, f"{use.written:,}", ", ".join(_counted(use.changes.items())), ends.pop(path, ""))
        for path, use in changed.items()
    ]
    rows += [(path, "", "", end) for path, end in ends.items()]
    return SummarySection(
        title="What it wrote and changed", head=("FILE", "BYTES", "CHANGES", "IN THE END"), right=(1,),
        **_cut(rows, most),
    )  # fmt: skip


def _absolute(name: str) -> str:
    return name if name.startswith("/") else f"/box/{name}"


def _end_of(change: Change) -> str:
    if change.content is not None and change.kind != "deleted":
        return f"{change.kind}, {spoken_size(len(change.content))}"
    return change.kind if change.type == "file" else f"{change.kind} {change.type}"


def _counted(items: Iterable[tuple[str, int]]) -> Iterator[str]:
    for name, count in items:
        yield name if count == 1 else f"{name} ({count:,})"


def _in_vain(own: dict[str, FileUse], most: int | None) -> SummarySection:
    rows = [
        (path, ", ".join(f"{kind_of_error(name)} ({count:,})" for name, count in use.errors.items()))
        for path, use in own.items()
        if use.errors and not use.is_read and not use.is_changed
    ]
    return SummarySection(title="What it looked for in vain", head=("FILE", "ANSWER"), **_cut(rows, most))


def _printed(account: CallSummary, everything: bool) -> SummarySection:
    """Returns the section about the output, with the beginning of each stream."""
    lines: list[str] = []
    for name, printed in zip(STREAMS, account.printed, strict=True):
        if not printed.size:
            continue
        lines.append(f"{name}: {spoken_size(printed.size)}")
        text = bytes(printed.head).decode("utf-8", "backslashreplace").split("\n")
        text = text[:-1] if text[-1] == "" else text
        shown = text if everything else text[:MOST_LINES]
        lines += [f"  | {line if everything else line[:LONGEST]}" for line in shown]
        if len(shown) < len(text) or len(printed.head) < printed.size:
            lines.append("  | ...")
    return SummarySection(title="What it printed", lines=tuple(lines))


def _asked(account: CallSummary) -> Iterator[str]:
    asked = account.asked
    for name, used in asked.host.items():
        yield f"the caller's function {name}: {_count(used.count, 'time')}, {seconds(used.total)}"
    if asked.host.left_out:
        yield f"further functions of the caller: {_count(asked.host.rest.count, 'time')}"
    if asked.commands:
        yield f"the next command of its session: {_count(asked.commands, 'time')}"
    if asked.shown:
        yield f"to show something: {_count(asked.shown, 'time')}"
    if asked.clocks:
        yield f"clocks: {', '.join(f'{name} {count:,}' for name, count in asked.clocks.most_common())}"
    if asked.sleeps.count:
        yield f"to sleep: {_count(asked.sleeps.count, 'time')}, {seconds(asked.sleeps.total)}"
    if asked.timers:
        yield f"timers: {asked.timers:,}"
    if asked.randomness:
        yield f"randomness: {_count(asked.randomness, 'time')}, {spoken_size(asked.random_bytes)}"
    if asked.threads:
        yield f"threads: {asked.threads:,} begun"
    for what, counts in (
        ("to handle signals", asked.signals_handled), ("to send itself signals", asked.signals_sent),
        ("signals that came", asked.signals_received),
    ):  # fmt: skip
        if counts:
            yield f"{what}: {', '.join(_counted(counts.items()))}"
    if asked.sockets:
        yield f"sockets: {_count(asked.sockets, 'call')}"
    if asked.identity:
        yield f"who and where it is: {_count(asked.identity, 'call')}"
    if account.unknown:
        yield f"calls that nothing answers: {', '.join(_counted(account.unknown.most_common(20)))}"


def _refused(record_summary: RecordSummary, most: int | None) -> SummarySection:
    account = record_summary.account
    rows: list[tuple[str, ...]] = [
        (
            refused.call[:LONGEST], refused.errno[:40], refused.reason[:LONGEST], f"{counts.count:,}",
            f"{counts.first_call:,}", ", ".join(counts.subjects)[:LONGEST],
        )
        for refused, counts in account.refusals.items()
    ]  # fmt: skip
    further = account.refusals.rest.count
    head: tuple[str, ...] = ("CALL", "ERROR", "WHY", "TIMES", "FIRST CALL", "FOR")
    if record_summary.lines is not None:
        head += ("BY LINE",)
        rows = [(*row, _lines_of(counts.lines)) for row, counts in zip(rows, account.refusals.values(), strict=True)]
    return SummarySection(
        title="What it was refused, and why", head=head, right=(3, 4),
        **_cut(rows, most, *([f"further refusals: {further:,}"] if further else [])),
    )  # fmt: skip


def _lines(record_summary: RecordSummary, most: int | None) -> SummarySection:
    """Returns the section about the program's busiest lines, in the order of the file."""
    account, asked = record_summary.account, record_summary.lines
    if asked is None:
        return SummarySection(title="")
    busiest = sorted(account.lines.items(), key=lambda item: -item[1].calls)
    shown = sorted(busiest[:most], key=lambda item: (item[0][0], item[0][1] or 0))
    rows = [
        (
            f"{file}:{'?' if line is None else line}", use.function, f"{use.calls:,}", seconds(use.waited),
            f"{use.refused:,}" if use.refused else "", ", ".join(_counted(use.names.most_common(MOST_NAMED))),
        )
        for (file, line), use in shown
    ]  # fmt: skip
    after = [f"and {len(busiest) - len(shown):,} more (--all shows them)"] if len(shown) < len(busiest) else []
    with_lines = sum(use.calls for use in account.lines.values()) + account.lines.rest.calls
    after.append(
        f"{_count(account.calls - with_lines, 'call')} of the interpreter's own, or made where it could not be asked"
    )
    if asked.near:
        after.append(f"{_count(len(asked.near), 'call has', 'calls have')} the line of those before and after")
    if asked.divergence is not None:
        after.append(f"the replay parts from the record at call {asked.divergence.number:,}: no lines from there on")
    elif asked.looked < account.calls:
        after.append(f"only the first {asked.looked:,} calls were looked at")
    return SummarySection(
        title="Which lines of the program did it, as the program says",
        head=("LINE", "FUNCTION", "CALLS", "WAITED", "REFUSED", "WHAT"), right=(2, 3, 4), rows=tuple(rows),
        after=tuple(after),
    )  # fmt: skip


def _time(account: CallSummary, most: int | None) -> SummarySection:
    """Returns the section about the waits of threads, in calls that were not answered at once."""
    lines: list[str] = []
    for number, thread in account.threads.items():
        if thread.calls and len(lines) < (most or len(account.threads)):
            lines.append(
                f"thread {number}: {_count(thread.calls, 'call')} from {seconds(thread.first)} to "
                f"{seconds(thread.last)}, of which it waited {seconds(thread.waited)}"
            )
    longest = sorted(account.waits.items(), key=lambda item: -item[1].total)
    rows = [
        (name, subject, f"{wait.count:,}", seconds(wait.total), seconds(wait.longest))
        for (name, subject), wait in (longest if most is None else longest[:MOST_WAITED])
    ]
    after = [f"and {len(longest) - len(rows):,} more (--all shows them)"] if len(rows) < len(longest) else []
    if (rest := account.waits.rest).count:
        after.append(f"further waits: {_count(rest.count, 'time')}, {seconds(rest.total)}")
    return SummarySection(
        title="Where the time went", lines=tuple(lines), head=("WAITED IN", "FOR", "TIMES", "TOTAL", "LONGEST"),
        right=(2, 3, 4), rows=tuple(rows), after=tuple(after),
    )  # fmt: skip


# --- as data ----------------------------------------------------------------------------------------------------------


def as_data(record_summary: RecordSummary) -> dict[str, Any]:
    """Returns the explanation as a JSON object, with every file, and the beginning of the output."""
    account, result = record_summary.account, record_summary.result
    asked = account.asked
    return {
        "guest": record_summary.guest,
        "recorded": record_summary.recorded,
        "argv": list(record_summary.argv),
        "policy": dict(record_summary.policy),
        "is_complete": result is not None,
        "calls": account.calls,
        "errors": account.errors,
        "seconds": account.ended,
        "status": None if result is None else result.status.value,
        "summary": None if result is None else result.summary(),
        "files": [{"path": path, **_plain(use)} for path, use in account.files.items()],
        "files_left_out": account.files.left_out,
        "changes": [] if result is None else [
            {"path": _absolute(change.name), "kind": change.kind, "type": change.type}
            for change in result.files.changes
        ],
        "printed": {
            name: {"size": printed.size, "beginning": printed.head.decode("utf-8", "backslashreplace")}
            for name, printed in zip(STREAMS, account.printed, strict=True)
        },
        "asked": {
            **_plain(asked),
            "sleeps": _plain(asked.sleeps),
            "host": {name: _plain(used) for name, used in asked.host.items()},
        },
        "refusals": [{**_plain(refused), **_plain(counts)} for refused, counts in account.refusals.items()],
        "refusals_left_out": account.refusals.rest.count,
        "lines": None if record_summary.lines is None else [
            {"file": file, "line": line, **_plain(use)} for (file, line), use in sorted(
                account.lines.items(), key=lambda item: (item[0][0], item[0][1] or 0)
            )
        ],
        "unanswered": account.unanswered,
        "unknown_calls": dict(account.unknown),
        "calls_by_name": dict(account.by_name.most_common()),
        "threads": [{"thread": number, **_plain(thread)} for number, thread in account.threads.items()],
        "waits": [
            {"call": name, "for": subject, **_plain(wait)}
            for (name, subject), wait in sorted(account.waits.items(), key=lambda item: -item[1].total)
        ],
    }  # fmt: skip


def _plain(value: Any) -> dict[str, Any]:
    return attrs.asdict(value, recurse=False)
