"""The zygotes of this process: found by what a policy needs of one, made when it is needed twice, renewed in time.

A single run does not pay for a zygote: the first asks for none, the second starts one. A zygote that has been copied
often, is old, has died, or whose interpreter has changed on disk, is replaced; its copies go on.
"""

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable

import attrs

from proxybox.controller.boxes.box import BoxSpec
from proxybox.controller.errors import CannotCopy, SandboxStartError
from proxybox.controller.guests.guest import Guest
from proxybox.controller.process.undertaker import undertaker
from proxybox.controller.warm.zygote import Zygote, essence

#: A zygote is renewed after so many copies, and seconds: what it shares with them shall not last.
MOST_FORKS, OLDEST = 1000, 600.0
#: Seconds between two looks at the interpreter's files.
LOOK_EVERY = 1.0
#: After failures so many boxes at the most do without, until a zygote is tried again.
MOST_WAITS = 256
#: So many live at once; those that were not used for longest go first.
MOST_ZYGOTES = 4


@attrs.define
class _Place:
    """What is known of one kind of guest. refused: why there can be no zygote of it. failures: how many starts of one
    have failed in a row, and wait: how many boxes do without before the next. interpreter: what its files looked like,
    and when that was seen."""

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    wanted: int = 0
    zygote: Zygote | None = None
    refused: str = ""
    failures: int = 0
    wait: int = 0
    interpreter: tuple[int, ...] = ()
    seen: float = 0.0


class Nursery:
    """Keeps zygotes; from any thread."""

    def __init__(self) -> None:
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, box: BoxSpec, *, now: bool = False) -> Zygote | None:
        """A zygote for such boxes; None where there is none yet, or can be none. now: also for the first."""
        key = _key(box)
        if key is None:
            return None
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
        with place.lock:
            place.wanted += 1
            self._look_at_interpreter(place, box.guest)
            if place.refused or (place.wanted < 2 and not now):
                return None
            if place.zygote is not None and is_worn(place.zygote):
                _retire(place)
            if place.zygote is None and self._start(place, box):
                self._shrink(key)
            return place.zygote

    @staticmethod
    def _start(place: _Place, box: BoxSpec) -> bool:
        """Starts a zygote, and says whether it did. Where this host gives none, it is not tried again. What else fails
        may pass, as a lack of descriptors does, or not: it is tried again, more and more seldom."""
        if place.wait:
            place.wait -= 1
            return False
        try:
            place.zygote = Zygote(box.policy, box)
        except CannotCopy as error:
            place.refused = str(error)
        except (OSError, SandboxStartError):
            place.failures = min(place.failures + 1, MOST_WAITS)
            place.wait = min(2**place.failures, MOST_WAITS)
        else:
            place.failures = 0
        return place.zygote is not None

    @staticmethod
    def _look_at_interpreter(place: _Place, guest: Guest) -> None:
        """A zygote of an interpreter that was installed anew meanwhile is none any more."""
        now = time.monotonic()
        if now - place.seen < LOOK_EVERY:
            return
        before, place.interpreter, place.seen = place.interpreter, _fingerprint(guest), now
        if before != place.interpreter:
            place.refused, place.failures, place.wait = "", 0, 0
            _retire(place)

    def _shrink(self, kept: Hashable) -> None:
        with self._lock:
            living = [key for key, place in self._places.items() if place.zygote is not None and key != kept]
            for key in living[: max(0, len(living) + 1 - MOST_ZYGOTES)]:
                _retire(self._places.pop(key))
            while len(self._places) > 256:
                _retire(self._places.popitem(last=False)[1])

    def sweep(self) -> None:
        """Gives up those that have died, so that nothing is left of them."""
        with self._lock:
            places = tuple(self._places.values())
        for place in places:
            if place.zygote is not None and place.lock.acquire(blocking=False):
                try:
                    if place.zygote is not None and not place.zygote.is_alive():
                        _retire(place)
                finally:
                    place.lock.release()

    def close(self) -> None:
        """Ends all zygotes."""
        with self._lock:
            places, self._places = self._places, OrderedDict()
        for place in places.values():
            _retire(place)


def is_worn(zygote: Zygote) -> bool:
    """Whether a zygote is to be replaced."""
    return not zygote.is_alive() or zygote.forks >= MOST_FORKS or time.monotonic() - zygote.started > OLDEST


def _retire(place: _Place) -> None:
    zygote, place.zygote = place.zygote, None
    if zygote is not None:
        undertaker().bury(zygote.close)


def _key(box: BoxSpec) -> Hashable | None:
    """What two boxes have the same of when one zygote serves both; None where that cannot be told."""
    key = (essence(box.policy), box.guest)
    try:
        hash(key)
    except TypeError:  # a policy with a mount of data or a function
        return None
    return key


def _fingerprint(guest: Guest) -> tuple[int, ...]:
    """Changes when the interpreter or its library is installed anew."""
    found: list[int] = []
    for path in (guest.executable, guest.library, *guest.packages):
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found += status.st_ino, status.st_mtime_ns
    return tuple(found)


_nursery: Nursery | None = None
_making = threading.Lock()


def nursery() -> Nursery:
    """The nursery of this process."""
    global _nursery
    if _nursery is None:
        with _making:
            if _nursery is None:
                _nursery = Nursery()
    return _nursery


def sweep() -> None:
    """See Nursery.sweep."""
    if _nursery is not None:
        _nursery.sweep()


def close() -> None:
    """Ends the zygotes of this process; new ones are started when they are needed again."""
    if _nursery is not None:
        _nursery.close()


def _forget() -> None:
    """A forked child has none: its parent's are not its own."""
    global _nursery, _making
    _nursery = None
    _making = threading.Lock()


os.register_at_fork(after_in_child=_forget)
