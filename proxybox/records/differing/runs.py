"""A run to compare: its inputs, and its calls, which can be read more than once."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from proxybox import argumentchecks
from proxybox.controller.status import Status
from proxybox.records.record import Record, RecordedCall, RecordedSignal

#: The most characters of the text about the end of a run.
_MOST_TEXT: Final = 160
#: The statuses of programs that end by themselves.
_BY_ITSELF: Final = (Status.OK, Status.ERROR, Status.SYNTAX_ERROR, Status.CRASHED)


@attrs.frozen
class RunInputs:
    """The inputs of a run. builds: the digests of the interpreter's files."""

    guest: str = ""
    recorded: str = ""
    argv: tuple[str, ...] = ()
    environment: Mapping[str, str] = attrs.field(factory=dict)
    policy: Mapping[str, Any] = attrs.field(factory=dict)
    builds: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def script(self) -> str:
        """The program's path in the box; "" if it has none."""
        for word in self.argv[1:]:
            if word in ("-c", "-m", "-"):
                return ""
            if not word.startswith("-"):
                return word
        return ""


@attrs.define(eq=False)
class ComparedRun:
    """One of two runs.

    read: returns all calls, each time that it is called. The other attributes are set after all calls have been read
    once. files: the digests of files of the interpreter's library that the run has read. ended: how the run has ended,
    in words; "" if the record does not say it. was_ended: whether the controller has ended it.
    """

    name: str
    inputs: RunInputs
    read: Callable[[], Iterable[RecordedCall]]
    signals: list[RecordedSignal] = attrs.field(factory=list)
    files: dict[str, bytes] = attrs.field(factory=dict)
    ended: str = ""
    was_ended: bool = False

    @classmethod
    def of_file(cls, path: str | os.PathLike[str]) -> "ComparedRun":
        """Returns the run of a record. Raises RecordError for a file that is no record, and OSError."""
        name = argumentchecks.path("path", path)
        with Record(name) as record:
            stored = record.reader.start.get("guest")
            builds = stored.get("builds") if isinstance(stored, dict) else None
            policy = record.reader.start.get("policy")
            facts = RunInputs(
                record.guest, record.recorded, record.argv, record.environment,
                policy if isinstance(policy, dict) else {},
                {str(key): str(value) for key, value in builds.items()} if isinstance(builds, dict) else {},
            )  # fmt: skip
        side = cls(os.fspath(name), facts, lambda: side._calls())
        return side

    def _calls(self) -> Iterator[RecordedCall]:
        with Record(self.name) as record:
            yield from record.calls()
            self.signals = record.signals
            result = record.result
            self.ended = "" if result is None else _cut(result.summary())
            self.was_ended = result is not None and result.status not in _BY_ITSELF
            self.files = {
                file.path.decode("utf-8", "backslashreplace"): file.digest
                for file in record.reader.decoder.files.values()
            }


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 3]}..."
