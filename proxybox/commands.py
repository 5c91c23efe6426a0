"""What a session can be asked. Each is one value: what is sent to its guest, within which limits, and how the answer is
read. `Session` and `AsyncSession` carry them, and differ in how they wait.

Answers are by the guest's word, and checked for their form here.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypedDict, TypeVar

import attrs

from proxybox import given
from proxybox.controller.boxes import boxfiles
from proxybox.controller.boxes.boxfiles import FileEntry
from proxybox.controller.world.state import World
from proxybox.result import Result

T = TypeVar("T")

#: Seconds, and OS calls, for a look at the live objects of a session: it runs the program's code.
LOOK_LIMIT, LOOK_CALLS = 1.0, 5000
#: Bytes that are read of a file, where nothing else is said.
MOST_READ = 64 << 20
#: Of completions.
_MOST_NAMES, _LONGEST_NAME = 1000, 200
_WORD = re.compile(r"[^\W\d]\w*\Z")
_INDENT = re.compile(r"[ \t]{0,200}")


@attrs.frozen
class Displayed:
    """Something that was shown: an event of `Session.stream`, and what `on_display` gets. By the guest's word.

    kind: "value" is that of the expression which the statements end in, "display" what the program has displayed;
    "clear" takes away what was shown before (`wait`: as soon as there is something new). data: by MIME type, text as
    str, pictures as bytes or in base64. metadata: what is to be known of it.
    """

    kind: str
    data: Mapping[str, Any] = attrs.field(factory=dict)
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    wait: bool = False


@attrs.frozen
class Completion:
    """What may stand at the cursor. start: where the word begins, in characters. By the guest's word."""

    start: int
    matches: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Inspection:
    """What is known of an object; texts are None where there are none. By the guest's word."""

    name: str
    type: str
    signature: str | None = None
    doc: str | None = None
    source: str | None = None
    text: str | None = None


@attrs.frozen
class Completeness:
    """Whether statements are whole. status: "complete", "incomplete" or "invalid". indent: of the next line."""

    status: str
    indent: str = ""


class StreamOptions(TypedDict, total=False):
    """Of `stream`. timeout: seconds, for the policy's limits.wall_time. stdin: from here on. check: raise what went
    wrong."""

    timeout: float | str | None
    stdin: Any
    check: bool


class CallOptions(StreamOptions, total=False):
    """Of `exec` and `eval`. The callbacks of an AsyncSession may be coroutine functions."""

    on_stdout: Callable[[str], object] | None
    on_stderr: Callable[[str], object] | None
    on_display: Callable[[Displayed], object] | None


# --- commands ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Command(Generic[T]):
    """One thing to ask. words: for the guest (`proxybox/guest/session.py`). answer: makes what the caller gets of its
    Result.

    is_look: it is asked for a person who types. Then it has bounds of its own; a command that is too large to cross is
    no error, and `answer` gets None.
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
        """Of the operating system; None: as for any call."""
        return LOOK_CALLS if self.is_look else None


def statements(code: str, name: str, echo: bool) -> Command[Result]:
    """See `Session.exec`, and so on below."""
    return Command(("exec", code, given.text("name", name), given.flag("echo", echo)), _result)


def expression(code: str) -> Command[Result]:
    """See `Session.eval`."""
    return Command(("eval", code), _result)


def call_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Command[Result]:
    """See `Session.call`."""
    return Command(("call", given.text("name", name), args, dict(kwargs)), _result)


def setting(name: str, value: Any) -> Command[None]:
    """See `Session.set`. Raises TypeError, ValueError for what is no name."""
    if not given.text("name", name).isidentifier():
        raise ValueError(f"{name!r} is no name of a variable")
    return Command(("set", {name: value}), _checked)


def getting(name: str) -> Command[Any]:
    """See `Session.get`."""
    return Command(("get", given.text("name", name)), lambda result: result.check().value)


def resetting() -> Command[None]:
    """See `Session.reset`."""
    return Command(("reset",), _checked)


def completion(code: str, cursor: int | None) -> Command[Completion]:
    """See `Session.complete`."""
    at = _cursor(code, cursor)
    return Command(("complete", code, at), lambda result: completion_of(_seen(result), code, at), is_look=True)


def inspection(code: str, cursor: int | None, detail: int) -> Command[Inspection | None]:
    """See `Session.inspect`."""
    at = _cursor(code, cursor)
    return Command(
        ("inspect", code, at, given.count("detail", detail, 0)),
        lambda result: inspection_of(_seen(result)),
        is_look=True,
    )


def completeness(code: str) -> Command[Completeness]:
    """See `Session.is_complete`."""
    return Command(
        ("is_complete", given.text("code", code, given.SOURCE)),
        lambda result: completeness_of(_seen(result)),
        is_look=True,
    )


def _cursor(code: str, cursor: int | None) -> int:
    """Where it stands. Raises TypeError, PolicyError for what is no place in a text."""
    size = len(given.text("code", code, given.SOURCE))
    return size if cursor is None else given.count("cursor", cursor, 0)


def _result(result: Result) -> Result:
    return result


def _checked(result: Result) -> None:
    result.check()


def _seen(result: Result | None) -> Any:
    return result.value if result is not None and result.ok else None


# --- its files, which its guest is not asked about --------------------------------------------------------------------


def reading(path: str, limit: int | str) -> Callable[[World], bytes]:
    """See `Session.read_file`."""
    size, name = given.size("limit", limit), given.box_path("path", path)
    return lambda world: boxfiles.read(world, name, MOST_READ if size is None else size)


def writing(path: str, data: bytes | str, parents: bool) -> Callable[[World], None]:
    """See `Session.write_file`."""
    content, name = given.as_bytes("data", data), given.box_path("path", path)
    return lambda world: boxfiles.write(world, name, content, parents=parents)


def listing(path: str) -> Callable[[World], list[FileEntry]]:
    """See `Session.list_files`."""
    name = given.box_path("path", path)
    return lambda world: boxfiles.listing(world, name)


# --- answers ----------------------------------------------------------------------------------------------------------


def completion_of(value: Any, code: str, cursor: int) -> Completion:
    """Names by the guest's word, as the next two are; which word they are for is ours to say, so that nothing else can
    come into its place."""
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
    """What is known of an object."""
    if not isinstance(value, dict):
        return None
    texts = {key: text for key, text in value.items() if isinstance(text, str)}
    optional = {key: texts.get(key) for key in ("signature", "doc", "source", "text")}
    return Inspection(name=texts.get("name", ""), type=texts.get("type", ""), **optional)


def completeness_of(value: Any) -> Completeness:
    """Whether statements are whole."""
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(text, str) for text in value):
        status, indent = value
        return Completeness(status, indent if _INDENT.fullmatch(indent) else "")
    return Completeness("unknown")


def displayed_of(shown: tuple[Any, ...]) -> Displayed:
    """What the guest shows."""
    kind, *rest = shown
    if kind == "clear":
        return Displayed(kind, wait=rest[0])
    data, metadata = ({key: value for key, value in part.items() if isinstance(key, str)} for part in rest)
    return Displayed(kind, data, metadata)
