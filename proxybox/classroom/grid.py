"""The teacher's overview: a row for each seat, and the commonest errors of the class.

A changed row is sent at once, and then not again for half a second: so sixty students who type cause few events.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Container, Mapping
from typing import Final

import attrs

from proxybox.classroom.answers import ClassErrorJson, RowJson
from proxybox.classroom.boxes import ClassBoxes, SeatRun
from proxybox.classroom.hub import TEACHER, Hub, topic_of_class
from proxybox.classroom.pageevents import ErrorsEvent, RowEvent
from proxybox.classroom.records import EndedRun, Seat
from proxybox.classroom.seats import Seats
from proxybox.classroom.work import StudentWork

#: Seconds between two checks for changes.
_RHYTHM: Final = 0.5
#: The most kinds of errors that are counted for an exercise, and characters of one.
_MOST_KINDS, _MOST_TEXT = 500, 300
#: The parts that differ between errors of the same kind: quoted names, and numbers.
_OWN: Final = re.compile(r"'[^']{0,200}'|\"[^\"]{0,200}\"|\b\d[\w.]*")


@attrs.define
class _Life:
    """The activity of a seat. active: when it last changed or ran something."""

    active: float = 0.0
    error: str = ""
    error_at: float | None = None


class Grid:
    """The rows of all seats."""

    def __init__(self, hub: Hub, seats: Seats, work: StudentWork) -> None:
        self._hub, self._seats, self._work = hub, seats, work
        self.boxes: ClassBoxes
        self._lives: dict[str, _Life] = {}
        self._changed: set[str] = set()
        self._some = asyncio.Event()
        self._errors: dict[str, OrderedDict[str, dict[str, str]]] = {}
        self._errors_changed: set[str] = set()

    def _life(self, seat: str) -> _Life:
        return self._lives.setdefault(seat, _Life())

    def load(self, last: Mapping[str, EndedRun]) -> None:
        """Loads how the last run of each seat has ended."""
        for seat, ran in last.items():
            self._lives[seat] = _Life(ran.at, ran.error, ran.at if ran.error else None)

    def row(self, seat: Seat) -> RowJson:
        """Returns the row of a seat."""
        life, work, exercise = self._life(seat.id), self._work, seat.exercise or ""
        return {
            "id": seat.id, "name": seat.name, "personal": seat.personal, "class": seat.class_id,
            "exercise": seat.exercise, "progress": work.progress(seat.id),
            "hints": work.hints.get((seat.id, exercise), 0),
            "error": life.error, "error_at": life.error_at, "active": life.active or seat.joined,
            "online": self._hub.count(f"seat:{seat.id}") > 0, "running": self.boxes.running(seat.id) is not None,
            "hand": seat.hand, "locked": seat.locked, "removed": seat.removed,
        }  # fmt: skip

    # --- changes ------------------------------------------------------------------------------------------------------

    def touch(self, seat: str) -> None:
        """Notes that a row has changed."""
        self._changed.add(seat)
        self._some.set()

    def active(self, seat: str) -> None:
        """Notes that a student has done something."""
        self._life(seat).active = time.time()
        self.touch(seat)

    def ran(self, run: SeatRun, ran: EndedRun) -> None:
        """Notes how a run has ended."""
        life = self._life(ran.seat)
        life.active = time.time()
        if run.kind != "check" and ran.status != "cancelled":
            life.error, life.error_at = ran.error, time.time() if ran.error else None
            if ran.error:
                self._count(ran)
        self.touch(ran.seat)

    def _count(self, ran: EndedRun) -> None:
        kinds = self._errors.setdefault(ran.exercise, OrderedDict())
        kind = _OWN.sub("…", ran.error.partition(" (line ")[0])[:_MOST_TEXT]
        kinds.setdefault(kind, {})[ran.seat] = ran.error
        kinds.move_to_end(kind)
        while len(kinds) > _MOST_KINDS:
            kinds.popitem(last=False)
        class_id = self._seats.find(ran.seat).class_id
        self._errors_changed |= {TEACHER, topic_of_class(class_id)} if class_id else {TEACHER}
        self._some.set()

    def errors(self, exercise: str | None, seats: Container[str]) -> list[ClassErrorJson]:
        """Returns the commonest errors of an exercise, or of all, sorted by how many of these seats had them."""
        found: dict[str, dict[str, str]] = {}
        for of, kinds in self._errors.items():
            if exercise is None or of == exercise:
                for kind, errors in kinds.items():
                    if theirs := {seat: error for seat, error in errors.items() if seat in seats}:
                        found.setdefault(kind, {}).update(theirs)
        rows: list[ClassErrorJson] = [
            {"error": kind, "count": len(errors), "seats": list(errors), "example": next(iter(errors.values()))}
            for kind, errors in found.items()
        ]
        return sorted(rows, key=lambda each: -len(each["seats"]))[:100]

    # --- sending ------------------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Sends changes to the teachers, until it is cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            changed, self._changed = self._changed, set()
            for identity in changed:
                self._tell_row(self._seats.find(identity))
            topics, self._errors_changed = self._errors_changed, set()
            for topic in topics:
                self._hub.tell(topic, ErrorsEvent())
            await asyncio.sleep(_RHYTHM)

    def _tell_row(self, seat: Seat) -> None:
        row = self.row(seat)
        self._hub.tell(TEACHER, RowEvent(row))
        if seat.class_id:
            self._hub.tell(topic_of_class(seat.class_id), RowEvent(row))
