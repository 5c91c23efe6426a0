"""The answers of a worker to its jobs: one class for each, by which the service reads them strictly (`read_answer`).

    facts, as JSON ── a line feed ── the answer, as JSON

The service itself uses the facts alone. It passes a large answer on to the client without decoding it, because that
would delay all others.
"""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from proxybox.commands import Inspection
from proxybox.controller.boxes.boxfiles import FileEntry
from proxybox.controller.status import Status
from proxybox.jsonvalues import JSONObject
from proxybox.resultjson import KEYS, RECORD_KEYS, SERVED_KEYS, ChangedFile
from proxybox.serve.wire import packed
from proxybox.serve.wiredata import WorkerState, read

#: The most bytes of facts, and the bytes from which on an answer is large.
_MOST_FACTS: Final = 1 << 16
_LARGE: Final = 1 << 16
#: The most seconds that a run can report: no worker lives that long.
_MOST_SECONDS: Final = 1e9
#: The bytes of an answer (`packed`): a line break or another control character would end an event of a stream.
_ASCII: Final = bytes(range(0x20, 0x80))


def _check_seconds(_: Any, field: "attrs.Attribute[float]", value: float) -> None:
    if not 0 <= value <= _MOST_SECONDS:  # also not a number
        raise ValueError(f"{field.name}: want seconds")


@attrs.frozen(kw_only=True)
class AnswerFacts:
    """What the service uses of an answer. alive: whether the session goes on."""

    alive: bool = True


@attrs.frozen(kw_only=True)
class ResultFacts(AnswerFacts):
    """What the service uses of a Result; times are in seconds, as in its `Usage`."""

    status: Status
    why: str
    wall: float = attrs.field(validator=_check_seconds)
    cpu: float = attrs.field(validator=_check_seconds)
    start: float = attrs.field(validator=_check_seconds)


class JobAnswer(bytes):
    """The answer to a job as JSON, with its facts."""

    facts: AnswerFacts


def answer_with_facts(answer: JSONObject) -> bytes:
    """Returns an answer as a worker sends it."""
    facts, usage = AnswerFacts(alive=answer.get("alive", True)), answer.get("usage")
    if usage is not None:
        facts = ResultFacts(
            alive=facts.alive, status=Status(answer["status"]), why=answer["why"], wall=usage["wall"],
            cpu=usage["cpu"], start=usage["start"],
        )  # fmt: skip
    return packed(facts) + b"\n" + packed(answer)


def read_answer(op: str, data: bytes) -> JobAnswer:
    """Returns the answer to a job. op: the job's. Raises ValueError for any other form."""
    end, kind = data.find(b"\n", 0, _MOST_FACTS), ANSWERS[op]
    if end < 0:
        raise ValueError("an answer without facts")
    answer = JobAnswer(memoryview(data)[end + 1 :])
    if not (answer.startswith(b"{") and answer.endswith(b"}")) or answer.translate(None, _ASCII):
        raise ValueError("want an object, in ASCII without control characters")
    if len(answer) < _LARGE or op not in _PASSED_ON:
        read(kind, answer)
    answer.facts = read(ResultFacts if kind in (_Ran, _Executed) else AnswerFacts, data[:end])
    return answer


# --- the answers ------------------------------------------------------------------------------------------------------


def _answer(name: str, keys: Mapping[str, Any], sometimes: Mapping[str, Any]) -> Any:
    """Returns the class of an answer, from the types of its keys. sometimes: those that are not always there."""
    fields = {key: attrs.field(type=kind) for key, kind in keys.items()}
    fields |= {key: attrs.field(type=kind, default=None) for key, kind in sometimes.items()}
    return attrs.make_class(name, fields, frozen=True, kw_only=True)


def _of_session(name: str, **keys: Any) -> Any:
    """Returns the class of the answer to a command of a session."""
    return _answer(name, {**keys, "alive": bool}, {"memory": int | None})


_RESULT: Final[Mapping[str, Any]] = {**{key.name: key.type for key in (*KEYS, *SERVED_KEYS)}, "status": Status}
_OF_RECORDS: Final = {key.name: key.type for key in RECORD_KEYS}

_Nothing = _answer("Nothing", {}, {})
_Opened = _answer("Opened", {"layers": dict[str, str]}, {})
_Ended = _answer("Ended", {}, {key: kind for key, kind in _OF_RECORDS.items() if key != "record"})
_Ran = _answer("Ran", _RESULT, _OF_RECORDS)
_Shown = _answer("Shown", {"kind": str, "data": JSONObject, "metadata": JSONObject, "wait": bool}, {})
_Executed = _of_session("Executed", **_RESULT, display=list[_Shown])  # type: ignore[valid-type]
_Done = _of_session("Done")

#: By the `op` of a job.
ANSWERS: Final[Mapping[str, Any]] = {
    "run": _Ran, "open": _Opened, "end": _Ended, "state": WorkerState,
    **dict.fromkeys(("fork", "snapshot", "restore", "forget", "sleep", "give_back"), _Nothing),
    **dict.fromkeys(("exec", "eval", "call"), _Executed),
    **dict.fromkeys(("set", "reset", "write_file", "receive_file", "send_file"), _Done),
    "get": _of_session("Got", value=Any),
    "complete": _of_session("Completed", start=int, matches=list[str]),
    "inspect": _of_session("Inspected", found=Inspection | None),
    "is_complete": _of_session("WholeOrNot", status=str, indent=str),
    "read_file": _of_session("FileRead", base64=str),
    "list_files": _of_session("Listed", entries=list[FileEntry]),
    "changes": _of_session("Changes", files=list[ChangedFile]),
}  # fmt: skip
#: The jobs whose large answers only clients decode.
_PASSED_ON: Final = frozenset({"run", "exec", "eval", "call", "get", "read_file", "list_files", "changes"})
