"""The events of pages' streams (hub.py): each is declared once, with its name and what it has.

The types of the pages' JavaScript are made from the names, so that no script listens to another one (answers.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, TypeVar

import attrs

from proxybox.classroom import answers
from proxybox.jsonvalues import JSONObject

J = TypeVar("J", bound=Mapping[str, Any])


@attrs.frozen(kw_only=True)
class PageEvent:
    """The base of all. NAME: by which pages know it."""

    NAME: ClassVar[str]

    @property
    def data(self) -> JSONObject:
        """What it has, as JSON."""
        return attrs.asdict(self, recurse=False)


@attrs.frozen
class _Whole(PageEvent, Generic[J]):
    """An event that is an object of JSON (answers.py)."""

    _data: J

    @property
    def data(self) -> JSONObject:
        """That object."""
        return {**self._data}


# --- of the stream itself ---------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class HelloEvent(PageEvent):
    """The first one. stream: by which its pages can name it. event: the last one before it. time: on this computer."""

    NAME: ClassVar = "hello"
    time: float
    stream: str
    event: str


@attrs.frozen(kw_only=True)
class ResyncEvent(PageEvent):
    """The events in between are not known any more: a page has to load everything anew."""

    NAME: ClassVar = "resync"


class WatchedEvent(_Whole[answers.WatchedJson]):
    """An event of a seat, for the teacher who watches it."""

    NAME: ClassVar = "watched"


# --- of what runs at a seat -------------------------------------------------------------------------------------------


class RunBeginsEvent(_Whole[answers.RunBegunJson]):
    """Something begins to run."""

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
    """Text that was typed for the program."""

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
    """What was shown before is to be removed. wait: as soon as something new is shown."""

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
    """Something that the program shows, by its types. update: whether it takes the place of what has this id."""

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
    """What ran has ended."""

    NAME: ClassVar = "finished"


# --- of a seat's work -------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class SavedEvent(PageEvent):
    """A version was saved. client: the page that has sent it. over: another page's version that it did not know of."""

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
    """The files of a version, for the teacher who watches."""

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
    """A hand-in was graded. results: of the tests, where they are the latest."""

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
    """A seat was taken away."""

    NAME: ClassVar = "removed"


# --- of the class -----------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class FreezeEvent(PageEvent):
    """All are paused, or not any more."""

    NAME: ClassVar = "freeze"
    frozen: bool


@attrs.frozen(kw_only=True)
class PushEvent(PageEvent):
    """All have an exercise opened; None: each the own one again."""

    NAME: ClassVar = "push"
    exercise: str | None


class ShareEvent(_Whole[answers.ShareJson]):
    """Code is shown to all."""

    NAME: ClassVar = "share"


@attrs.frozen(kw_only=True)
class UnshareEvent(PageEvent):
    """Code is shown no longer."""

    NAME: ClassVar = "unshare"
    id: str


@attrs.frozen(kw_only=True)
class CourseEvent(PageEvent):
    """The course was changed. changed: the exercises whose text or files were."""

    NAME: ClassVar = "course"
    changed: Sequence[str] = ()


class StateEvent(_Whole[answers.RoomStateJson]):
    """What holds for the class has changed."""

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


#: Every event by its name.
EVENTS: Final[Mapping[str, type[PageEvent]]] = {kind.NAME: kind for kind in _below(PageEvent) if "NAME" in vars(kind)}
