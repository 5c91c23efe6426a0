"""The zygotes of this process: one for each kind of guest, started for the second box that needs it, renewed in time.

A single run starts no zygote: the first request for a kind of guest gets none, the second starts one. A zygote is
replaced when it has been copied often, is old, has died, or when its interpreter has changed on disk. Its copies live
on.
"""

import contextlib
import os
import threading
import time
from collections import OrderedDict
from weakref import WeakKeyDictionary

import attrs

from proxybox.controller.boxes.box import BoxRunner
from proxybox.controller.boxes.worldbuilding import WorldTemplate
from proxybox.controller.errors import CannotCopy, SandboxStartError, warn
from proxybox.controller.guests.guest import Guest
from proxybox.controller.perprocess import PerProcess
from proxybox.controller.process.reaper import reaper
from proxybox.controller.warm.copyable import NotCopyable
from proxybox.controller.warm.zygote import Zygote, essence
from proxybox.policies import Policy

#: A zygote is renewed after this number of copies, and after this number of seconds, because its copies share addresses
#: and a hash seed with it.
MOST_FORKS, OLDEST = 1000, 600.0
#: Seconds between two checks of the interpreter's files.
LOOK_EVERY = 1.0
#: After failed starts, at most this number of boxes do without a zygote before the next start is tried.
MOST_WAITS = 256
#: At most this number of zygotes live at once. The least recently used ones are ended first.
MOST_ZYGOTES = 4


@attrs.frozen(cache_hash=True)
class _Kind:
    """The kind of a zygote: boxes with equal kinds can share one. policy: as `essence` returns it."""

    policy: Policy
    guest: Guest


@attrs.define
class _Place:
    """The state of one kind of guest.

    wanted: how many boxes have requested a zygote. refused: why there can be no zygote of this kind. failures: how many
    starts in a row have failed. wait: how many boxes do without a zygote before the next start is tried. interpreter:
    the fingerprint of the interpreter's files. seen: the time of the fingerprint.
    """

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    wanted: int = 0
    zygote: Zygote | None = None
    refused: str = ""
    failures: int = 0
    wait: int = 0
    interpreter: tuple[int, ...] = ()
    seen: float = 0.0


class ZygotePool:
    """Keeps zygotes. Can be used from any thread."""

    def __init__(self) -> None:
        self._places: OrderedDict[_Kind, _Place] = OrderedDict()
        self._kinds: WeakKeyDictionary[WorldTemplate, _Kind | None] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def find(self, box: BoxRunner, *, now: bool = False) -> Zygote | None:
        """Returns a zygote for boxes like this one, or None where there is none yet or there can be none.

        now: whether to start a zygote at the first request.
        """
        kind = self._kind(box)
        if kind is None:
            return None
        with self._lock:
            place = self._places.get(kind) or self._places.setdefault(kind, _Place())
            self._places.move_to_end(kind)
        with place.lock:
            place.wanted += 1
            self._look_at_interpreter(place, box.guest)
            if place.refused or (place.wanted < 2 and not now):
                return None
            if place.zygote is not None and is_worn(place.zygote):
                _retire(place)
            if place.zygote is None and self._start(place, box):
                self._shrink(kind)
            return place.zygote

    def _kind(self, box: BoxRunner) -> _Kind | None:
        """Returns the kind of a box; None where kinds cannot be compared.

        It is computed once for each template: the boxes of a template differ only in limits, which are no part of it.
        """
        if box.template is None:
            return _kind_of(box)
        try:
            return self._kinds[box.template]
        except KeyError:
            return self._kinds.setdefault(box.template, _kind_of(box))

    @staticmethod
    def _start(place: _Place, box: BoxRunner) -> bool:
        """Starts a zygote, and returns whether that succeeded.

        Where this host cannot copy guests, or a module of `preload` leaves something behind, no further start is tried.
        Other failures may be temporary, such as a lack of descriptors, or permanent, so starts are tried again, less
        and less often. A caller with modules to preload gets a warning that they are not preloaded.
        """
        if place.wait:
            place.wait -= 1
            return False
        try:
            place.zygote = Zygote(box.policy, box)
        except CannotCopy as error:
            place.refused = str(error)
        except NotCopyable as error:
            place.refused = str(error)
            warn(f"boxes are not warm, each starts anew: {error}")
        except (OSError, SandboxStartError) as error:
            if (box.policy.preload or box.policy.warm_up) and not place.failures:
                warn(f"boxes are not warm, each starts anew: {error}")
            place.failures = min(place.failures + 1, MOST_WAITS)
            place.wait = min(2**place.failures, MOST_WAITS)
        else:
            place.failures = 0
        return place.zygote is not None

    @staticmethod
    def _look_at_interpreter(place: _Place, guest: Guest) -> None:
        """Retires the zygote when its interpreter was installed anew since the last check."""
        now = time.monotonic()
        if now - place.seen < LOOK_EVERY:
            return
        before, place.interpreter, place.seen = place.interpreter, _fingerprint(guest), now
        if before != place.interpreter:
            place.refused, place.failures, place.wait = "", 0, 0
            _retire(place)

    def _shrink(self, needed: _Kind) -> None:
        with self._lock:
            living = [key for key, place in self._places.items() if place.zygote is not None and key != needed]
            for key in living[: max(0, len(living) + 1 - MOST_ZYGOTES)]:
                _retire(self._places.pop(key))
            while len(self._places) > 256:
                _retire(self._places.popitem(last=False)[1])

    def sweep(self) -> None:
        """Closes zygotes that have died, and forgets them."""
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
    """Whether a zygote has to be replaced."""
    return not zygote.is_alive() or zygote.forks >= MOST_FORKS or time.monotonic() - zygote.started > OLDEST


def _retire(place: _Place) -> None:
    zygote, place.zygote = place.zygote, None
    if zygote is not None:
        reaper().bury(zygote.close)


def _kind_of(box: BoxRunner) -> _Kind | None:
    kind = _Kind(essence(box.policy), box.guest)
    try:
        hash(kind)
    except TypeError:  # a policy with a mount of data or a function
        return None
    return kind


def _fingerprint(guest: Guest) -> tuple[int, ...]:
    """Returns numbers that change when the interpreter or its library is installed anew."""
    found: list[int] = []
    for path in (guest.executable, guest.library, *guest.packages):
        with contextlib.suppress(OSError):
            status = os.stat(path)
            found += status.st_ino, status.st_mtime_ns
    return tuple(found)


@PerProcess
def zygote_pool() -> ZygotePool:
    """Returns the pool of zygotes of this process."""
    return ZygotePool()


def sweep() -> None:
    """See ZygotePool.sweep."""
    if zygote_pool.made is not None:
        zygote_pool.made.sweep()


def close() -> None:
    """Ends the zygotes of this process. New ones are started when they are needed again."""
    if zygote_pool.made is not None:
        zygote_pool.made.close()
