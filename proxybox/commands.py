"""The commands that a session takes.

Each command is one value, with the message for the guest, its limits, and the function that reads the answer. `Session`
and `AsyncSession` send commands, and differ in how they wait for the answers.

Rule: an answer is written by the guest, so its form is checked here.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypedDict, TypeVar

import attrs

from proxybox import argumentchecks
from proxybox.controller.boxes import boxfiles
from proxybox.controller.boxes.boxfiles import FileEntry
from proxybox.controller.world.state import World
from proxybox.result import ExecutionError, Result, Status

T = TypeVar("T")
Echo: TypeAlias = bool | Literal["display"]

#: Limits of seconds and OS calls for a command that inspects live objects of a session: this runs the program's code.
LOOK_LIMIT, LOOK_CALLS = 1.0, 5000
#: Bytes that are read from a file when the caller names no limit.
MOST_READ = 64 << 20
#: The most completions that are read, and the most characters of a name.
_MOST_NAMES, _LONGEST_NAME = 1000, 200
_WORD = re.compile(r"[^\W\d]\w*\Z")
_INDENT = re.compile(r"[ \t]{0,200}")


@attrs.frozen
class Displayed:
    """Data that the program has displayed: an event of `Session.stream`, and the argument of `on_display`.

    Untrusted: the guest wrote it. kind: "value" is the value of the expression at the end of the statements; "display"
    is an object that the program has displayed, and "update" replaces all that was displayed with the same
    `metadata["display_id"]`; "clear" removes what was shown before (with `wait`: as soon as something new is
    shown). data: the content by MIME type: text as str, pictures as bytes or in base64. metadata: what the program says
    about the data.
    """

    kind: str
    data: Mapping[str, Any] = attrs.field(factory=dict)
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    wait: bool = False


@attrs.frozen
class Completion:
    """The names that can complete the word at the cursor. Untrusted: the guest wrote them.

    start: where the word begins, in characters.
    """

    start: int
    matches: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Inspection:
    """What is known about an object; texts that do not exist are None. Untrusted: the guest wrote it."""

    name: str
    type: str
    signature: str | None = None
    doc: str | None = None
    source: str | None = None
    text: str | None = None


@attrs.frozen
class Completeness:
    """Whether statements are complete. status: "complete", "incomplete" or "invalid". indent: of the next line."""

    status: str
    indent: str = ""


class StreamOptions(TypedDict, total=False):
    """The options of `stream`.

    timeout: seconds, in place of the policy's limits.wall_time. stdin: standard input from this call on. check: whether
    to raise an exception when the program fails.
    """

    timeout: float | str | None
    stdin: Any
    check: bool


class CallOptions(StreamOptions, total=False):
    """The options of `exec` and `eval`. The callbacks of an AsyncSession may be coroutine functions."""

    on_stdout: Callable[[str], object] | None
    on_stderr: Callable[[str], object] | None
    on_display: Callable[[Displayed], object] | None


# --- commands ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Command(Generic[T]):
    """One command for a guest.

    words: the message for the guest (`proxybox/guest/session.py`). answer: makes the caller's return value from the
    Result. is_look: whether the command only looks at the session, for a person who types. Such a command has limits of
    its own. If it is too large to be sent, this is no error, and `answer` gets None.
    """

    words: tuple[Any, ...]
    answer: Callable[[Any], T]
    is_look: bool = False

    @property
    def timeout(self) -> float | None:
        """Seconds of wall time; None: as for any call."""
        return LOOK_LIMIT if self.is_look else None

    @property
    def calls(self) -> int | None:
        """The limit of OS calls; None: as for any call."""
        return LOOK_CALLS if self.is_look else None


def statements(code: str, name: str, echo: Echo) -> Command[Result]:
    """Makes the command for `Session.exec`; the functions below do the same for the methods that they name."""
    if not isinstance(echo, bool) and echo != "display":
        argumentchecks.wrong_kind("echo", 'True, False or "display"', echo)
    return Command(("exec", code, argumentchecks.text("name", name), echo), _result)


def expression(code: str) -> Command[Result]:
    """Makes the command for `Session.eval`."""
    return Command(("eval", code), _result)


def evaluation(code: str, names: Mapping[str, Any], functions: tuple[str, ...]) -> Command[Any]:
    """Makes the command for `Evaluator.evaluate`: an expression in a copy of the namespace, with more names.

    functions: the names of the caller's functions that the expression can call.
    """
    return Command(("evaluate", code, dict(names), functions), _value)


def lending(names: Mapping[str, Any], functions: tuple[str, ...]) -> Command[None]:
    """Makes the command that sets what all evaluations can use: the current values of variables, and functions."""
    return Command(("lend", dict(names), functions), _checked)


def call_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Command[Result]:
    """Makes the command for `Session.call`."""
    return Command(("call", argumentchecks.text("name", name), args, dict(kwargs)), _result)


def setting(name: str, value: Any) -> Command[None]:
    """Makes the command for `Session.set`. Raises TypeError or ValueError when `name` cannot name a variable."""
    if not argumentchecks.text("name", name).isidentifier():
        raise ValueError(f"{name!r} is no name of a variable")
    return Command(("set", {name: value}), _checked)


def getting(name: str) -> Command[Any]:
    """Makes the command for `Session.get`."""
    return Command(("get", argumentchecks.text("name", name)), lambda result: result.check().value)


def resetting() -> Command[None]:
    """Makes the command for `Session.reset`."""
    return Command(("reset",), _checked)


def completion(code: str, cursor: int | None) -> Command[Completion]:
    """Makes the command for `Session.complete`."""
    at = _cursor(code, cursor)
    return Command(("complete", code, at), lambda result: completion_of(_seen(result), code, at), is_look=True)


def inspection(code: str, cursor: int | None, detail: int) -> Command[Inspection | None]:
    """Makes the command for `Session.inspect`."""
    at = _cursor(code, cursor)
    return Command(
        ("inspect", code, at, argumentchecks.count("detail", detail, 0)),
        lambda result: inspection_of(_seen(result)),
        is_look=True,
    )


def completeness(code: str) -> Command[Completeness]:
    """Makes the command for `Session.is_complete`."""
    return Command(
        ("is_complete", argumentchecks.text("code", code, argumentchecks.SOURCE)),
        lambda result: completeness_of(_seen(result)),
        is_look=True,
    )


def _cursor(code: str, cursor: int | None) -> int:
    """Returns the cursor's place in the text. Raises TypeError or PolicyError if it is no whole number from 0 on."""
    size = len(argumentchecks.text("code", code, argumentchecks.SOURCE))
    return size if cursor is None else argumentchecks.count("cursor", cursor, 0)


def _result(result: Result) -> Result:
    return result


def _checked(result: Result) -> None:
    result.check()


def _value(result: Result) -> Any:
    """Returns the value of an expression; None if it ended in SystemExit, with any exit status."""
    if result.ok and result.error is not None:
        raise ExecutionError(attrs.evolve(result, status=Status.ERROR))
    return result.check().value


def _seen(result: Result | None) -> Any:
    return result.value if result is not None and result.ok else None


# --- files of the session, which the controller reads and writes without its guest ------------------------------------


def reading(path: str, limit: int | str) -> Callable[[World], bytes]:
    """Makes the function for `Session.read_file`."""
    size, name = argumentchecks.size("limit", limit), argumentchecks.box_path("path", path)
    return lambda world: boxfiles.read(world, name, MOST_READ if size is None else size)


def writing(path: str, data: bytes | str, parents: bool) -> Callable[[World], None]:
    """Makes the function for `Session.write_file`."""
    content, name = argumentchecks.as_bytes("data", data), argumentchecks.box_path("path", path)
    return lambda world: boxfiles.write(world, name, (content,), len(content), parents=parents)


def copying(path: str, limit: int, to: Callable[[bytes], object]) -> Callable[[World], None]:
    """Makes the function that returns the content of a file in pieces, all of them from the same moment."""
    name = argumentchecks.box_path("path", path)

    def copy(world: World) -> None:
        for piece in boxfiles.pieces(world, name, limit):
            to(piece)

    return copy


def rooming(path: str, size: int, parents: bool) -> Callable[[World], int]:
    """Makes the function that returns how many bytes can be written to a file (`boxfiles.room`)."""
    name = argumentchecks.box_path("path", path)
    return lambda world: boxfiles.room(world, name, size, parents=parents)


def writing_pieces(path: str, pieces: Iterable[bytes], size: int, parents: bool) -> Callable[[World], None]:
    """Makes the function that writes a file piece by piece."""
    name = argumentchecks.box_path("path", path)
    return lambda world: boxfiles.write(world, name, pieces, size, parents=parents)


def listing(path: str) -> Callable[[World], list[FileEntry]]:
    """Makes the function for `Session.list_files`."""
    name = argumentchecks.box_path("path", path)
    return lambda world: boxfiles.listing(world, name)


# --- answers ----------------------------------------------------------------------------------------------------------


def completion_of(value: Any, code: str, cursor: int) -> Completion:
    """Reads the guest's answer to a completion.

    The names are the guest's claim; this is also true for the answers below. The word to complete is found here, in the
    caller's text, so that the guest cannot cause other text to be replaced.
    """
    found = _WORD.search(code[max(0, cursor - _LONGEST_NAME) : cursor])
    word = "" if found is None else found.group()
    names = value[1] if isinstance(value, tuple) and len(value) == 2 and type(value[1]) is list else []
    matches = [
        name
        for name in names[:_MOST_NAMES]
        if isinstance(name, str) and len(name) <= _LONGEST_NAME and name.startswith(word) and name.isidentifier()
    ]
    return Completion(cursor - len(word), tuple(matches))


def inspection_of(value: Any) -> Inspection | None:
    """Reads the guest's answer to an inspection."""
    if not isinstance(value, dict):
        return None
    texts = {key: text for key, text in value.items() if isinstance(text, str)}
    optional = {key: texts.get(key) for key in ("signature", "doc", "source", "text")}
    return Inspection(name=texts.get("name", ""), type=texts.get("type", ""), **optional)


def completeness_of(value: Any) -> Completeness:
    """Reads the guest's answer about whether statements are complete."""
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(text, str) for text in value):
        status, indent = value
        return Completeness(status, indent if _INDENT.fullmatch(indent) else "")
    return Completeness("unknown")


def displayed_of(shown: tuple[Any, ...]) -> Displayed:
    """Makes the event for data that the guest displays."""
    kind, *rest = shown
    if kind == "clear":
        return Displayed(kind, wait=rest[0])
    data, metadata = ({key: value for key, value in part.items() if isinstance(key, str)} for part in rest)
    return Displayed(kind, data, metadata)
