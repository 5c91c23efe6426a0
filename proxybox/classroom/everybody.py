"""The state for everybody: how to join, whether all are paused, the pushed exercise, and the shared code.

It is in the database, and is loaded when the classroom is opened again.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from proxybox.classroom.answers import JoiningJson, ShareJson
from proxybox.classroom.connected import Connected
from proxybox.classroom.hub import EVERYBODY, TEACHERS, Hub
from proxybox.classroom.models import ShareRequest
from proxybox.classroom.pageevents import FreezeEvent, PushEvent, ShareEvent, UnshareEvent
from proxybox.classroom.passes import new_code
from proxybox.classroom.seats import Seats
from proxybox.classroom.sheets import Sheet, find_sheet
from proxybox.classroom.store import ClassStore
from proxybox.classroom.work import StudentWork
from proxybox.serve.problems import Refusal

#: The most pieces of code that are shared at once, and the characters of one: all browsers get all of them.
_MOST_SHARES: Final = 50
_MOST_SHARED: Final = 100_000


class Everybody:
    """The state for all seats of a lesson. on_change: called after each change, so that teachers get the new state.

    code: for joining. addresses: where students join. pushed: the exercise that all have open; None: each student
    chooses.
    """

    def __init__(
        self,
        store: ClassStore,
        hub: Hub,
        sheets: Mapping[str, Sheet],
        work: StudentWork,
        on_change: Callable[[], object],
    ) -> None:
        self._store, self._hub, self._sheets, self._work, self._on_change = store, hub, sheets, work, on_change
        self.code = ""
        self.addresses: tuple[str, ...] = ()
        self.is_locked = self.is_frozen = False
        self.pushed: str | None = None
        self.shares: dict[str, ShareJson] = {}

    async def load(self) -> None:
        """Reads the state from the database; makes a code if there is none yet."""
        self.code = await self._store.do(Connected.settled_fact, "code", new_code(3, 3))
        self.is_locked = await self._store.do(Connected.settled_fact, "locked", False)
        self.is_frozen = await self._store.do(Connected.settled_fact, "frozen", False)
        self.pushed = await self._store.do(Connected.fact, "pushed")
        self.keep_known()
        self.shares = {each["id"]: each for each in await self._store.do(Connected.shares)}

    def keep_known(self) -> None:
        """Forgets a pushed exercise that is no longer in the course."""
        self.pushed = self.pushed if self.pushed in self._sheets else None

    def joining_as_json(self) -> JoiningJson:
        """Returns how students join, for the teacher of the whole classroom."""
        return {"code": self.code, "addresses": list(self.addresses), "locked": self.is_locked}

    async def lock(self, locked: bool) -> None:
        """Locks or unlocks joining."""
        self.is_locked = locked
        await self._note("locked", locked)

    async def new_code(self) -> None:
        """Makes a new join code; students who have joined stay."""
        self.code = new_code(3, 3)
        await self._note("code", self.code)

    async def freeze(self, frozen: bool) -> None:
        """Pauses everybody, or ends the pause. In a pause nothing can be run. What students type is still saved."""
        self.is_frozen = frozen
        await self._note("frozen", frozen)
        self._hub.tell(EVERYBODY, FreezeEvent(frozen=frozen))

    async def push(self, exercise: str | None) -> None:
        """Opens an exercise for all; None: each student chooses again. Raises Refusal."""
        self.pushed = None if exercise is None else find_sheet(self._sheets, exercise).id
        await self._note("pushed", self.pushed)
        self._hub.tell(EVERYBODY, PushEvent(exercise=self.pushed))

    async def _note(self, fact: str, value: Any) -> None:
        await self._store.do(Connected.set_fact, fact, value)
        self._on_change()

    async def share(self, asked: ShareRequest, seats: Seats) -> ShareJson:
        """Shows code to all: the teacher's, or a student's without the name. Raises Refusal."""
        sheet = find_sheet(self._sheets, asked.exercise)
        files: Mapping[str, str] | None = asked.files
        if asked.seat is not None:
            files = (await self._work.text(seats.find(asked.seat).id, sheet)).files
        if not files:
            raise Refusal("invalid", errors=[{"loc": ["body", "files"], "msg": "there are none"}])
        if sum(map(len, files.values())) > _MOST_SHARED:
            raise Refusal("too-large", "This is too much code to show to all.")
        if len(self.shares) >= _MOST_SHARES:
            raise Refusal("conflict", "Too many pieces of code are shared. Stop sharing some.")
        share: ShareJson = {
            "id": secrets.token_urlsafe(9), "title": asked.title, "exercise": sheet.id, "files": dict(files),
            "by": "teacher" if asked.seat is None else "student", "at": time.time(),
        }  # fmt: skip
        await self._store.do(Connected.keep_share, share)
        self.shares[share["id"]] = share
        for topic in (EVERYBODY, *TEACHERS):
            self._hub.tell(topic, ShareEvent(share))
        return share

    async def unshare(self, identity: str) -> None:
        """Stops showing code. Raises Refusal."""
        if self.shares.pop(identity, None) is None:
            raise Refusal("not-found", "This is not shared.")
        await self._store.do(Connected.remove_share, identity)
        for topic in (EVERYBODY, *TEACHERS):
            self._hub.tell(topic, UnshareEvent(id=identity))
