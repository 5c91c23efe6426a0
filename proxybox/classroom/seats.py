"""Seats: students join with the class's code and come back with a personal one, and the teacher changes seats.

Rules: the answer to a wrong code reveals nothing, and only few can be tried. A name belongs to one seat of its class,
however it is written. A removed seat keeps its work, and can be given back.
"""

import logging
import secrets
import time
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Final

from proxybox.classroom.answers import SeatJson
from proxybox.classroom.connected import Connected
from proxybox.classroom.passes import is_same, new_code
from proxybox.classroom.records import Seat
from proxybox.classroom.store import ClassStore
from proxybox.serve.problems import Refusal
from proxybox.terminal.harmless import on_one_line

log = logging.getLogger("proxybox.classroom")

#: The most wrong codes within a minute: of one address, which a whole class may share, and of all together. So an
#: attacker finds one of 31 ** 6 join codes in an hour with a probability of 0.0001, and needs 17 addresses to keep
#: others from joining. The teacher's key has 31 ** 15 possibilities. For it there is no common limit, so other
#: addresses cannot lock out the teacher.
_MOST_WRONG, _MOST_WRONG_OF_ALL, _MINUTE = 60, 1_000, 60.0
#: The most addresses whose wrong codes are counted.
_MOST_ADDRESSES: Final = 10_000


def seat_as_json(seat: Seat) -> SeatJson:
    """Returns a student's own seat, for pages."""
    return {
        "id": seat.id, "name": seat.name, "personal": seat.personal, "hand": seat.hand, "exercise": seat.exercise,
        "locked": seat.locked,
    }  # fmt: skip


class Attempts:
    """Counts wrong codes of one kind, by address. most_of_all: of all addresses together."""

    def __init__(self, most_of_all: int | None = _MOST_WRONG_OF_ALL) -> None:
        self._most_of_all = most_of_all
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque()

    def check(self, address: str) -> None:
        """Raises Refusal if there were too many."""
        now = time.monotonic()
        for times, most in ((self._wrong.get(address, deque()), _MOST_WRONG), (self._all, self._most_of_all)):
            while times and now - times[0] > _MINUTE:
                times.popleft()
            if most is not None and len(times) >= most:
                wait = str(int(_MINUTE - (now - times[0])) + 1)
                raise Refusal("rate-limited", "Too many wrong codes. Wait a minute.", headers={"Retry-After": wait})

    def note(self, address: str) -> None:
        """Counts a wrong code."""
        for times, most in ((self._wrong.setdefault(address, deque()), _MOST_WRONG), (self._all, self._most_of_all)):
            if most is not None and len(times) < most:
                times.append(time.monotonic())
        self._wrong.move_to_end(address)
        while len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)


class Seats:
    """All seats of a class. most: the most seats that are not removed."""

    def __init__(self, store: ClassStore, known: Iterable[Seat], most: int) -> None:
        self._store, self._most = store, most
        self._all = {seat.id: seat for seat in known}
        self._joining, self._coming_back, self.teaching = Attempts(), Attempts(), Attempts(most_of_all=None)

    def __iter__(self) -> Iterator[Seat]:
        return iter(tuple(self._all.values()))

    def find(self, identity: str) -> Seat:
        """Returns a seat. Raises Refusal."""
        seat = self._all.get(identity)
        if seat is None:
            raise Refusal("not-found", "There is no such seat.")
        return seat

    def of_pass(self, signed: tuple[str, int] | None) -> Seat | None:
        """Returns the seat of a valid pass; None for any other."""
        seat = self._all.get(signed[0]) if signed else None
        return seat if seat is not None and signed and not seat.removed and seat.generation == signed[1] else None

    # --- joining ------------------------------------------------------------------------------------------------------

    async def join(self, address: str, name: str, attempt: str, code: str, *, locked: bool) -> Seat:
        """Adds a seat for a student with the join code. Raises Refusal."""
        self._joining.check(address)
        if not is_same(attempt, code):
            raise _wrong(self._joining, address)
        if locked:
            raise Refusal("forbidden", "Nobody can join at the moment. Ask your teacher.")
        seat = await self.add(name)
        log.info("%s has joined", on_one_line(name))
        return seat

    async def back(self, address: str, personal: str) -> Seat:
        """Returns the seat of a personal code. Raises Refusal."""
        self._coming_back.check(address)
        found = [seat for seat in self if not seat.removed and is_same(personal, seat.personal)]
        if not found:
            raise _wrong(self._coming_back, address)
        return found[0]

    async def add(self, name: str, class_id: str = "") -> Seat:
        """Adds a seat of a class. Raises Refusal if the name or all seats are taken."""
        self._check_name(name, class_id)
        if sum(not seat.removed for seat in self) >= self._most:
            raise Refusal("forbidden", "All seats are taken. Ask your teacher.")
        seat = Seat(
            id=secrets.token_urlsafe(9), name=name, personal=new_code(4, 4), joined=time.time(), class_id=class_id
        )
        self._all[seat.id] = seat
        try:
            await self.keep(seat)
        except BaseException:
            del self._all[seat.id]
            raise
        return seat

    def _check_name(self, name: str, class_id: str, own: str = "") -> None:
        taken = (seat for seat in self if not seat.removed and seat.class_id == class_id and seat.id != own)
        if any(_folded(seat.name) == _folded(name) for seat in taken):
            raise Refusal(
                "conflict", "Somebody has this name already. If that is you, use your personal code; else add a letter."
            )

    # --- changes ------------------------------------------------------------------------------------------------------

    async def rename(self, seat: Seat, name: str) -> None:
        """Renames a seat. Raises Refusal if the name is taken."""
        self._check_name(name, seat.class_id, seat.id)
        seat.name = name
        await self.keep(seat)

    async def remove(self, seat: Seat, removed: bool) -> None:
        """Removes a seat, which gets a new personal code, or gives it back. Raises Refusal."""
        if not removed:
            self._check_name(seat.name, seat.class_id, seat.id)
        seat.removed = removed
        seat.hand = None
        if removed:
            seat.generation += 1
            seat.personal = new_code(4, 4)
        await self.keep(seat)

    async def keep(self, seat: Seat) -> None:
        """Stores a seat."""
        await self._store.do(Connected.keep_seat, seat)


def _wrong(attempts: Attempts, address: str) -> Refusal:
    attempts.note(address)
    log.warning("a wrong code was tried at %s", address)
    return Refusal("forbidden", "This code is not right.")


def _folded(name: str) -> str:
    """A name in the form in which names are compared (Unicode, section 3.13: compatibility caseless matching)."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())
