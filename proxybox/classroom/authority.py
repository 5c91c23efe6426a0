"""Who teaches here, and whom: what each question of a teacher's page may see and change.

    who has the key                            all seats, and what is for everybody (everybody.py)
    an instructor of a learning platform       the seats of the classes that are courses of theirs there, nothing else

Rule: a platform says by each launch that somebody teaches one of its courses now. That is believed for half a day and
not kept: whom a platform no longer calls an instructor loses the class, at the next launch at once.
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

#: Seconds for which a launch makes somebody the teacher of a class.
HOLDS: Final = 12 * 3600.0
#: How many instructors are known at once, and how many classes of one.
_MOST, _MOST_CLASSES = 1_000, 100


@attrs.frozen(kw_only=True)
class TeachingScope:
    """Whom somebody teaches. classes: their ids; None: the whole classroom.

    topics: what is told of it; the first one is of this teacher alone. seconds: for how long it holds; None: until it
    is taken away.
    """

    classes: frozenset[str] | None
    topics: tuple[str, ...]
    seconds: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is that of who has the key."""
        return self.classes is None

    def covers_class(self, class_id: str) -> bool:
        """Whether a class is one of them; "": who has joined by code."""
        return self.classes is None or class_id in self.classes

    def covers(self, seat: Seat) -> bool:
        """Whether a seat is of one of them."""
        return self.covers_class(seat.class_id)

    def seats(self, seats: Seats) -> list[Seat]:
        """Returns the seats of those that are taught."""
        return [seat for seat in seats if self.covers(seat)]

    def find(self, seats: Seats, identity: str) -> Seat:
        """Returns one of these seats. Raises Refusal, which does not say whether another class has such a seat."""
        seat = seats.find(identity)
        if not self.covers(seat):
            raise Refusal("not-found", "There is no such seat.")
        return seat


#: That of who has the key.
WHOLE: Final = TeachingScope(classes=None, topics=(TEACHER,))


@attrs.define
class _Instructor:
    """Somebody who teaches courses of a platform. name: of the topic. until: by class, when it ends (monotonic)."""

    name: str = attrs.field(factory=lambda: secrets.token_urlsafe(9))
    token: str = attrs.field(factory=lambda: secrets.token_urlsafe(24))
    until: OrderedDict[str, float] = attrs.field(factory=OrderedDict)

    @property
    def topic(self) -> str:
        return f"instructor:{self.name}"


class Instructors:
    """Those whom platforms have called instructors lately. clock: tells seconds."""

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
        """Notes that a platform's user has come to a class as somebody else than its instructor."""
        known = self._known.get((platform, user))
        if known is not None and known.until.pop(class_id, None) is not None:
            self._changed(known)

    def authority(self, token: str | None) -> TeachingScope | None:
        """Returns whom somebody with this pass teaches; None for what is none, or no longer one."""
        known = self._tokens.get(token or "")
        if known is None:
            return None
        left = {of: until - self._clock() for of, until in known.until.items() if self._holds(until)}
        if not left:
            return None
        topics = (known.topic, INSTRUCTORS, *map(topic_of_class, left))
        return TeachingScope(classes=frozenset(left), topics=topics, seconds=min(left.values()))

    def leave(self, token: str | None) -> None:
        """Makes an instructor's passes void, in all browsers."""
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
        """Has pages that are open load anew, and begin a stream that has what they may know now."""
        self._hub.tell(known.topic, CourseEvent())
        self._hub.finish(known.topic)
