"""Who teaches whom: which seats a request of a teacher's page may see and change.

    the teacher with the key                   all seats, and the state for everybody (everybody.py)
    an instructor of a learning platform       only the seats of the classes of their courses there

Rule: with each launch, a platform says whether the user teaches one of its courses now. That is valid for half a day,
in memory only. A user whom the platform no longer calls an instructor loses the class at the next launch.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs

from proxybox.classroom.hub import INSTRUCTORS, TEACHER, Hub, topic_of_class
from proxybox.classroom.pageevents import CourseEvent
from proxybox.classroom.records import Seat
from proxybox.classroom.seats import Seats
from proxybox.serve.problems import Refusal

#: Seconds for which a launch makes a user the teacher of a class.
HOLDS: Final = 12 * 3600.0
#: The most instructors in memory, and the most classes of one instructor.
_MOST, _MOST_CLASSES = 1_000, 100


@attrs.frozen(kw_only=True)
class TeachingScope:
    """The classes that a teacher teaches. classes: their ids; None: the whole classroom.

    topics: the topics of the events that the teacher gets; the first one is of this teacher alone. seconds: for how
    long the scope is valid; None: until it is taken away.
    """

    classes: frozenset[str] | None
    topics: tuple[str, ...]
    seconds: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is the scope of the teacher with the key."""
        return self.classes is None

    def covers_class(self, class_id: str) -> bool:
        """Whether a class is one of them; "": the seats of students who have joined by code."""
        return self.classes is None or class_id in self.classes

    def covers(self, seat: Seat) -> bool:
        """Whether a seat is in one of these classes."""
        return self.covers_class(seat.class_id)

    def seats(self, seats: Seats) -> list[Seat]:
        """Returns the seats in these classes."""
        return [seat for seat in seats if self.covers(seat)]

    def find(self, seats: Seats, identity: str) -> Seat:
        """Returns a seat in these classes. Raises Refusal, which does not say whether another class has such a seat."""
        seat = seats.find(identity)
        if not self.covers(seat):
            raise Refusal("not-found", "There is no such seat.")
        return seat


#: The scope of the teacher with the key.
WHOLE: Final = TeachingScope(classes=None, topics=(TEACHER,))


@attrs.define
class _Instructor:
    """A user who teaches courses of a platform. name: of the topic. until: by class, when it expires (monotonic)."""

    name: str = attrs.field(factory=lambda: secrets.token_urlsafe(9))
    token: str = attrs.field(factory=lambda: secrets.token_urlsafe(24))
    until: OrderedDict[str, float] = attrs.field(factory=OrderedDict)

    @property
    def topic(self) -> str:
        return f"instructor:{self.name}"


class Instructors:
    """The users that platforms have recently named as instructors. clock: returns seconds."""

    def __init__(self, hub: Hub, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub, self._clock = hub, clock
        self._known: OrderedDict[tuple[str, str], _Instructor] = OrderedDict()
        self._tokens: dict[str, _Instructor] = {}

    def teaches(self, platform: str, user: str, class_id: str) -> str:
        """Makes a platform's user the teacher of a class for a while; returns the pass (a secret)."""
        key = platform, user
        known = self._known.setdefault(key, _Instructor())
        self._known.move_to_end(key)
        self._tokens[known.token] = known
        while len(self._known) > _MOST:
            self._forget(next(iter(self._known)))
        is_new = not self._holds(known.until.get(class_id))
        known.until[class_id] = self._clock() + HOLDS
        known.until.move_to_end(class_id)
        while len(known.until) > _MOST_CLASSES:
            known.until.popitem(last=False)
        if is_new:
            self._changed(known)
        return known.token

    def teaches_no_longer(self, platform: str, user: str, class_id: str) -> None:
        """Notes that a platform's user has come to a class and is not its instructor."""
        known = self._known.get((platform, user))
        if known is not None and known.until.pop(class_id, None) is not None:
            self._changed(known)

    def authority(self, token: str | None) -> TeachingScope | None:
        """Returns the scope of the instructor with this pass; None for an unknown or expired pass."""
        known = self._tokens.get(token or "")
        if known is None:
            return None
        left = {of: until - self._clock() for of, until in known.until.items() if self._holds(until)}
        if not left:
            return None
        topics = (known.topic, INSTRUCTORS, *map(topic_of_class, left))
        return TeachingScope(classes=frozenset(left), topics=topics, seconds=min(left.values()))

    def leave(self, token: str | None) -> None:
        """Makes the passes of an instructor void, in all browsers."""
        for key, known in tuple(self._known.items()):
            if known.token == token:
                self._forget(key)

    def _holds(self, until: float | None) -> bool:
        return until is not None and until > self._clock()

    def _forget(self, key: tuple[str, str]) -> None:
        known = self._known.pop(key)
        self._tokens.pop(known.token, None)
        self._hub.forget(known.topic)

    def _changed(self, known: _Instructor) -> None:
        """Makes open pages load again, and connect to a stream with the new topics."""
        self._hub.tell(known.topic, CourseEvent())
        self._hub.finish(known.topic)
