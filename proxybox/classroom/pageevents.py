"""The events of pages' streams (hub.py): each is declared once, with its name and its data.

The types of the pages' JavaScript are made from the names, so that no script listens to an unknown event (answers.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, TypeVar

import attrs

from proxybox.classroom import answers
from proxybox.jsonvalues import JSONObject

J = TypeVar("J", bound=Mapping[str, Any])


@attrs.frozen(kw_only=True)
class PageEvent:
    """The base of all events. NAME: the name in the stream."""

    NAME: ClassVar[str]

    @property
    def data(self) -> JSONObject:
        """The data of the event, as JSON."""
        return attrs.asdict(self, recurse=False)


@attrs.frozen
class _Whole(PageEvent, Generic[J]):
    """An event whose data is a JSON object of answers.py."""

    _data: J

    @property
    def data(self) -> JSONObject:
        """The object."""
        return {**self._data}


# --- events of the stream ---------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class HelloEvent(PageEvent):
    """The first event. stream: its id, for requests. event: the id of the event before. time: of this computer."""

    NAME: ClassVar = "hello"
    time: float
    stream: str
    event: str


@attrs.frozen(kw_only=True)
class ResyncEvent(PageEvent):
    """Events were lost: a page has to load everything again."""

    NAME: ClassVar = "resync"


class WatchedEvent(_Whole[answers.WatchedJson]):
    """An event of a seat, for a teacher who watches the seat."""

    NAME: ClassVar = "watched"


# --- events of runs ---------------------------------------------------------------------------------------------------


class RunBeginsEvent(_Whole[answers.RunBegunJson]):
    """A run has begun."""

    NAME: ClassVar = "run"


@attrs.frozen(kw_only=True)
class OutEvent(PageEvent):
    """Text that was printed to a stream."""

    NAME: ClassVar = "out"
    run: str
    stream: str
    text: str


@attrs.frozen(kw_only=True)
class GivenEvent(PageEvent):
    """Text was typed for the program."""

    NAME: ClassVar = "given"
    run: str
    text: str


@attrs.frozen(kw_only=True)
class InputEvent(PageEvent):
    """The program waits for input."""

    NAME: ClassVar = "input"
    run: str


@attrs.frozen(kw_only=True)
class ClearEvent(PageEvent):
    """Removes earlier output. wait: when new output is shown."""

    NAME: ClassVar = "clear"
    run: str
    wait: bool


@attrs.frozen(kw_only=True)
class ValueEvent(PageEvent):
    """The value of the expression at the end."""

    NAME: ClassVar = "value"
    run: str
    text: str


@attrs.frozen(kw_only=True)
class PictureEvent(PageEvent):
    """A display of the program, by media types. update: whether it replaces the display with this id."""

    NAME: ClassVar = "display"
    run: str
    content: Mapping[str, str]
    display_id: str | None
    update: bool

    @property
    def data(self) -> JSONObject:
        """See PageEvent."""
        fields = attrs.asdict(self, recurse=False)
        return {"run": fields.pop("run"), "data": fields.pop("content"), **fields}


class RunEndsEvent(_Whole[answers.FinishedJson]):
    """A run has ended."""

    NAME: ClassVar = "finished"


# --- events of a seat's work ------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class SavedEvent(PageEvent):
    """A version was saved. client: the page that sent it. over: a version of another page, unknown to that page."""

    NAME: ClassVar = "saved"
    exercise: str
    version: int
    client: str
    over: answers.SavedVersionJson | None = None

    @property
    def data(self) -> JSONObject:
        """See PageEvent."""
        return attrs.asdict(self, recurse=False, filter=lambda _, value: value is not None)


@attrs.frozen(kw_only=True)
class FilesEvent(PageEvent):
    """The files of a version, for a teacher who watches."""

    NAME: ClassVar = "text"
    exercise: str
    version: int
    files: Mapping[str, str]


@attrs.frozen(kw_only=True)
class CheckedEvent(PageEvent):
    """The tests have ended."""

    NAME: ClassVar = "checked"
    run: str
    exercise: str
    results: answers.ResultsJson


@attrs.frozen(kw_only=True)
class GradedEvent(PageEvent):
    """A hand-in was graded. results: of its tests, if they are the latest test results."""

    NAME: ClassVar = "graded"
    exercise: str
    handed_in: answers.HandedInJson
    results: answers.ResultsJson | None = None

    @property
    def data(self) -> JSONObject:
        """See PageEvent."""
        return attrs.asdict(self, recurse=False, filter=lambda _, value: value is not None)


class SeatEvent(_Whole[answers.SeatJson]):
    """A seat has changed."""

    NAME: ClassVar = "seat"


class RemovedEvent(_Whole[answers.SeatJson]):
    """A seat was removed."""

    NAME: ClassVar = "removed"


# --- events of the class ----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class FreezeEvent(PageEvent):
    """All are paused, or the pause has ended."""

    NAME: ClassVar = "freeze"
    frozen: bool


@attrs.frozen(kw_only=True)
class PushEvent(PageEvent):
    """An exercise is opened for all; None: each student chooses again."""

    NAME: ClassVar = "push"
    exercise: str | None


class ShareEvent(_Whole[answers.ShareJson]):
    """Code is shown to all."""

    NAME: ClassVar = "share"


@attrs.frozen(kw_only=True)
class UnshareEvent(PageEvent):
    """Code is no longer shown."""

    NAME: ClassVar = "unshare"
    id: str


@attrs.frozen(kw_only=True)
class CourseEvent(PageEvent):
    """The course was changed. changed: the exercises with another text or other files."""

    NAME: ClassVar = "course"
    changed: Sequence[str] = ()


class StateEvent(_Whole[answers.RoomStateJson]):
    """The state of the class has changed."""

    NAME: ClassVar = "state"


class RowEvent(_Whole[answers.RowJson]):
    """The teacher's row of a seat has changed."""

    NAME: ClassVar = "row"


@attrs.frozen(kw_only=True)
class ErrorsEvent(PageEvent):
    """The commonest errors have changed."""

    NAME: ClassVar = "errors"


def _below(kind: Any) -> list[Any]:
    return [each for below in kind.__subclasses__() for each in (below, *_below(below))]


#: Every event, by name.
EVENTS: Final[Mapping[str, type[PageEvent]]] = {kind.NAME: kind for kind in _below(PageEvent) if "NAME" in vars(kind)}
