"""Tables and lists of differences, for the terminal and for docs/compatibility.md."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from records import Difference, Row, Rows

DOCS = Path(__file__).parent.parent.parent / "docs" / "compatibility.md"


def table(rows: Rows) -> str:
    """Returns a table with a line for each module that differs, one for all others, and the sums."""
    lines = [
        "| module | pass bare | of these pass boxed | refused by policy | other differences | seconds bare | boxed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    alike: list[Row] = []
    for module, row in rows.items():
        if row[2]:
            lines.append(_line(module, [row]))
        else:
            alike.append(row)
    lines.append(_line(f"{len(alike)} others", alike))
    return "\n".join([*lines, _line("all", rows.values()), ""])


def _line(name: str, rows: Iterable[Row]) -> str:
    rows = list(rows)
    numbers = " | ".join(map(str, _totals(rows)))
    bare_seconds, boxed_seconds = (sum(row[index].seconds for row in rows) for index in (0, 1))
    return f"| {name} | {numbers} | {bare_seconds:.1f} | {boxed_seconds:.1f} |"


def _totals(rows: Iterable[Row]) -> tuple[int, int, int, int]:
    """Returns the numbers of methods that pass bare, and of these: pass boxed, refused by policy, other differences."""
    passed = refused = other = 0
    for bare, _, found in rows:
        passed += sum(outcome.outcome == "passed" for outcome in bare.methods.values())
        refused += sum(map(_is_refused, found))
        other += sum(not _is_refused(each) for each in found)
    return passed, passed - refused - other, refused, other


def shares(rows: Rows) -> str:
    """Returns the sums as shares: of all methods, and of those that policy does not refuse."""
    passed, boxed, refused, other = _totals(rows.values())
    allowed = max(1, passed - refused)
    text = (
        f"Of {passed:,} methods that pass bare, {boxed / max(1, passed):.2%} pass boxed; policy refuses what "
        f"{refused / max(1, passed):.2%} of them do. Of the {allowed:,} others, {boxed / allowed:.2%} pass boxed, and "
        f"{other / allowed:.2%} do not."
    )
    return textwrap.fill(text, 120) + "\n"


def refusals(rows: Rows) -> str:
    """Returns for each refused call the number of methods that failed because of it; the first of several counts."""
    calls = Counter(each.reason.split("; ")[0] for _, _, found in rows.values() for each in found if _is_refused(each))
    lines = [f"| {reason} | {count} |" for reason, count in calls.most_common()]
    return "\n".join(["| refused call | methods |", "| --- | --- |", *lines, ""])


def _is_refused(each: Difference) -> bool:
    return each.kind == "refused"


def listing(rows: Rows) -> str:
    """Returns all other differences, grouped by class and reason."""
    lines = []
    for module, (_, _, found) in rows.items():
        groups: dict[tuple[str, str], list[str]] = {}
        for each in itertools.filterfalse(_is_refused, found):
            names = each.test.removeprefix("test.").removeprefix(f"{module}.")
            owner, _, method = names.rpartition(".")
            prefix = "" if each.kind == "explained" else f"{each.kind}: "
            groups.setdefault((prefix + each.reason, owner), []).append(method)
        if groups:
            lines += [f"### {module}", ""]
        reason = ""
        for (why, owner), methods in sorted(groups.items()):
            if why != reason:
                lines += ([""] if reason else []) + [f"{_sentence(why)}", ""]
                reason = why
            line = f"- {owner}: {', '.join(methods) if len(methods) < 8 else f'{len(methods)} methods'}"
            lines.append(textwrap.fill(line, 120, subsequent_indent="  ", break_long_words=False))
        if groups:
            lines.append("")
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return textwrap.fill(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."), 120)


def write_docs(kind: str, rows: Rows) -> None:
    """Writes the table and the differences of a kind between their markers in docs/compatibility.md."""
    text = DOCS.read_text()
    for name, content in (
        ("table", f"{shares(rows)}\n{table(rows)}\n{refusals(rows)}"),
        ("differences", listing(rows)),
    ):
        begin, end = f"<!-- {kind} {name} -->", f"<!-- end of {kind} {name} -->"
        head, rest = text.split(begin, 1)
        tail = rest.split(end, 1)[1]
        text = f"{head}{begin}\n\n{content}\n{end}{tail}"
    DOCS.write_text(text)
