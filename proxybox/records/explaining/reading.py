"""One pass over a record, which feeds all consumers of its calls."""

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from proxybox.policies import Policy
from proxybox.policies.dumping import to_dict
from proxybox.records.explaining.account import CallSummary
from proxybox.records.lines import Lines, own_frame
from proxybox.records.openfiles import OpenFiles
from proxybox.records.ownfiles import prefix_of
from proxybox.records.record import Record, RecordedCall, RecordedSignal
from proxybox.result import Result


class Consumer(Protocol):
    """A consumer gets each call, in the order of the answers, and the signals that came before it."""

    def add(self, call: RecordedCall, subject: str) -> None:
        """Processes one call. subject: as `OpenFiles.subject` returns it."""

    def signals(self, received: list[RecordedSignal]) -> None:
        """Processes signals that the program got."""


@attrs.frozen(kw_only=True)
class RecordSummary:
    """The content of a record about a run.

    result: None if the record ends before the program. policy: differences from the default policy, as pairs of a key
    and its value. lines: which lines made the calls; None without a replay.
    """

    guest: str
    recorded: str
    argv: tuple[str, ...]
    policy: tuple[tuple[str, str], ...]
    account: CallSummary
    result: Result | None
    lines: Lines | None = None


def explain(record: Record, consumers: Sequence[Consumer] = (), lines: Lines | None = None) -> RecordSummary:
    """Reads a record to its end, and returns its summary. Raises RecordError.

    lines: of the same record; each call gets its line and stack from them.
    """
    policy = record.policy
    files = OpenFiles(policy.environment.cwd)
    account, prefix = CallSummary(files), prefix_of(record.argv)
    consumers_of_all: list[Consumer] = [account, *consumers]
    for call in record.calls():
        _signals(record, consumers_of_all)
        subject = files.subject(call)
        if lines is not None:
            call.stack = lines.stacks.get(call.number, ())
            call.line = own_frame(call.stack, prefix)
        for consumer in consumers_of_all:
            consumer.add(call, subject)
        files.follow(call)
    _signals(record, consumers_of_all)
    return RecordSummary(
        guest=record.guest, recorded=record.recorded, argv=record.argv, policy=differences(policy), account=account,
        result=record.result, lines=lines,
    )  # fmt: skip


def _signals(record: Record, consumers_of_all: list[Consumer]) -> None:
    """Passes on signals, and removes them from the record: there may be as many as calls."""
    if record.signals:
        for consumer in consumers_of_all:
            consumer.signals(record.signals)
        record.signals.clear()


def differences(policy: Policy) -> tuple[tuple[str, str], ...]:
    """Returns the differences of a policy from the default one, as pairs of a key and its value."""
    usual = dict(_flat(to_dict(Policy()), ""))
    return tuple((key, _value(value)) for key, value in _flat(to_dict(policy), "") if usual.get(key) != value)


def _flat(table: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, dict):
        return " ".join(str(value[key]) for key in ("source", "target", "mode") if value.get(key) is not None)
    return str(value)
