"""A comparison in words, and as data."""

from typing import Any

from proxybox.records.differing.difference import CallPlace, Cause, Difference
from proxybox.records.differing.judging import AnswerDifference


def summary(difference: Difference) -> str:
    """Returns the verdict in one sentence."""
    if difference.same:
        count = sum(difference.counts.values())
        answers = f"; {of_answers(count)} without consequence" if count else ""
        return f"The program did the same in both runs{answers}"
    if not difference.causes:
        return "The runs differ"
    cause = difference.causes[0]
    return f"{str(cause.kind.group).capitalize()}: {cause.words}"


def of_answers(count: int) -> str:
    """Returns in words how many answers differ."""
    return "one answer differed" if count == 1 else f"{count:,} answers differed"


def of_kind(name: str, count: int) -> str:
    """Returns in words how many answers of a kind differ."""
    return f"{count:,} × {name}"


def ended(words: str) -> str:
    """Returns in words how a run has ended, also if its record does not say it."""
    return words or "the record ends before the program did"


def as_data(difference: Difference) -> dict[str, Any]:
    """Returns a comparison as a JSON object."""
    parting = difference.parting
    return {
        "same": difference.same,
        "verdict": summary(difference),
        "records": [
            {
                "path": name, "guest": inputs.guest, "recorded": inputs.recorded, "argv": list(inputs.argv),
                "calls": calls, "ended": ended,
            }
            for name, inputs, calls, ended in zip(
                difference.names, difference.inputs, difference.calls, difference.ends, strict=True
            )
        ],
        "given": [
            {"kind": each.kind.name, "name": each.name, "a": each.ours, "b": each.theirs} for each in difference.apart
        ],
        "parting": parting and {"thread": parting.thread, "a": _place(parting.a), "b": _place(parting.b)},
        "causes": [_cause(each) for each in difference.causes],
        "first": difference.first and _found(difference.first),
        "counts": dict(difference.counts),
        "output": [
            {"stream": each.stream, "line": each.number, "a": each.ours, "b": each.theirs} for each in difference.lines
        ],
        "rows": [
            {
                "how": row.how, "thread": row.thread, "a": row.a and _place(row.a), "b": row.b and _place(row.b),
                "left_out": list(row.skipped),
            }
            for row in difference.rows
        ],
        "is_aligned": difference.is_aligned,
        "is_whole": difference.is_whole,
    }  # fmt: skip


def _place(place: CallPlace) -> dict[str, Any]:
    return {"number": place.number, "call": place.line}


def _found(found: AnswerDifference) -> dict[str, Any]:
    return {
        "kind": found.kind.name, "path": found.path, "call": found.call,
        "a": {"number": found.a, "answer": found.ours}, "b": {"number": found.b, "answer": found.theirs},
    }  # fmt: skip


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "kind": cause.kind.name, "group": str(cause.kind.group), "words": cause.words, "advice": cause.kind.advice,
        "a": cause.ours, "b": cause.theirs, "answer": cause.found and _found(cause.found), "is_shown": cause.shows,
        "count": cause.count, "tried": cause.tried,
    }  # fmt: skip
