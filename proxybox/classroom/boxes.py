"""The programs of students: each seat has a desk, with one box and at most one run in it.

    Boxes.run ── a new box (Sessions.open) ── the main file as its program ── events of the seat's topic
    Boxes.prompt ── the box of the last run, with its variables

Rule: what a program does is sent at once, in bounded pieces, to its seat and to the teachers who watch the seat.
"""

import asyncio
import base64
import contextlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import attrs

from proxybox.classroom.answers import EndedJson, MatchesJson, RunBegunJson, RunEventJson, RunKind
from proxybox.classroom.endings import ended, in_a_line, plain_end
from proxybox.classroom.hub import Hub
from proxybox.classroom.pageevents import (
    ClearEvent,
    GivenEvent,
    InputEvent,
    OutEvent,
    PageEvent,
    PictureEvent,
    RunBeginsEvent,
    RunEndsEvent,
    ValueEvent,
)  # fmt: skip
from proxybox.classroom.records import EndedRun
from proxybox.commands import Echo
from proxybox.serve.callers import Caller
from proxybox.serve.problems import Refusal
from proxybox.serve.sessions import Sessions
from proxybox.streamevents import DisplayEvent, InputRequestEvent, TextEvent, WorkerEvent

#: Seconds between two pieces of output that are sent, after the first of them.
_RHYTHM: Final = 0.04
#: Characters of output of one run that are sent and stored. Most programs reach the limit of their policy before. Each
#: event counts as some characters more, so that many small events are not much larger than their text.
_MOST_TOLD, _EVENT = 400_000, 100
#: Characters of a picture, of all pictures of one run, and of all stored runs of a seat.
_MOST_PICTURE, _MOST_PICTURES, _MOST_KEPT = 1 << 20, 4 << 20, 6 << 20
#: The media types of a program's displays that pages can show, the best first.
_SHOWN: Final = ("image/png", "image/jpeg", "image/svg+xml", "text/plain")
#: Bytes of memory of a box that has done little: nearly all of it is shared with other boxes. And the bytes above these
#: that all waiting boxes together may use.
_SHARED, _TOGETHER = 48 << 20, 150 << 20
#: The refusals that mean that a box does not exist any more.
_GONE: Final = frozenset({"session-ended", "not-found"})
#: The reason of an end that the student or the teacher has requested.
_STOPPED: Final = "It was stopped."


@attrs.define(eq=False)
class SeatRun:
    """One run. events: for pages that open later. size: their characters. pictures: the characters of pictures.

    stops: how often somebody asked to stop it.
    """

    exercise: str
    kind: RunKind
    id: str = attrs.field(factory=lambda: secrets.token_urlsafe(9))
    at: float = attrs.field(factory=time.time)
    events: list[RunEventJson] = attrs.field(factory=list)
    size: int = 0
    pictures: int = 0
    stops: int = 0

    def as_json(self) -> RunBegunJson:
        """Returns the run for pages."""
        return {"run": self.id, "kind": self.kind, "exercise": self.exercise, "at": self.at}


@attrs.define(eq=False)
class Desk:
    """The desk of a seat. session: the id of its box. run: the current run. events: the sink of its events.

    last: the last run, by exercise. opening: a lock, held while a box is opened. memory: bytes that the box does not
    share. used: when something ended in it.
    """

    caller: Caller
    session: str | None = None
    exercise: str | None = None
    run: SeatRun | None = None
    task: "asyncio.Task[None] | None" = None
    events: "_EventSink | None" = None
    last: dict[str, SeatRun] = attrs.field(factory=dict)
    opening: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    is_completing: bool = False
    memory: int = 0
    used: float = 0.0

    def keep(self, run: SeatRun) -> None:
        """Stores a run as the last one of its exercise, and removes older runs while all together are too large."""
        self.last.pop(run.exercise, None)
        self.last[run.exercise] = run
        while len(self.last) > 1 and sum(each.size + each.pictures for each in self.last.values()) > _MOST_KEPT:
            del self.last[next(iter(self.last))]


@attrs.frozen(kw_only=True)
class RunSettings:
    """Where an exercise's programs run. policy, language: names in the service. files: the other files in the box."""

    policy: str
    language: str
    main: str
    files: Mapping[str, bytes]


class ClassBoxes:
    """The desks of a class. on_end: called with the seat, the run and its record."""

    def __init__(
        self, sessions: Sessions, hub: Hub, places: Mapping[str, RunSettings],
        on_change: Callable[[str], object], on_end: Callable[[str, SeatRun, EndedRun], Awaitable[object]],
    ) -> None:  # fmt: skip
        self._sessions, self._hub, self._places = sessions, hub, places
        self._on_change, self._on_end = on_change, on_end
        self._desks: dict[str, Desk] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def desk(self, seat: str) -> Desk:
        """Returns the desk of a seat; a new one if there is none."""
        if seat not in self._desks:
            self._desks[seat] = Desk(Caller(key=seat, name="seat", concurrency=2))
        return self._desks[seat]

    def running(self, seat: str) -> SeatRun | None:
        """Returns the current run of a seat."""
        return self.desk(seat).run

    def output(self, seat: str, exercise: str) -> list[RunEventJson]:
        """Returns the events of the last run of an exercise."""
        run = self.desk(seat).last.get(exercise)
        return run.events if run is not None else []

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, seat: str, exercise: str, files: Mapping[str, str]) -> SeatRun:
        """Runs the main file of an exercise in a new box. Raises Refusal while something runs."""

        async def work(events: "_EventSink") -> EndedJson:
            place, desk = self._places[exercise], self.desk(seat)
            await self._open(desk, exercise, files)
            return await self._execute(desk, events, code=files.get(place.main, ""), echo="display", name=place.main)

        return self._begin(seat, SeatRun(exercise=exercise, kind="run"), work)

    def prompt(self, seat: str, exercise: str, code: str, files: Mapping[str, str]) -> SeatRun:
        """Runs statements in the box of the last run, or in a new one if there is none. Raises Refusal."""

        async def work(events: "_EventSink") -> EndedJson:
            desk = self.desk(seat)
            await self._have_box(desk, exercise, files)
            try:
                return await self._execute(desk, events, code=code)
            except Refusal as refusal:
                if refusal.kind not in _GONE:
                    raise
            await self._open(desk, exercise, files)
            return await self._execute(desk, events, code=code)

        return self._begin(seat, SeatRun(exercise=exercise, kind="repl"), work)

    def begin_check(self, seat: str, exercise: str, work: Callable[[SeatRun], Awaitable[EndedJson]]) -> SeatRun:
        """Begins the tests of an exercise: `work` runs them. Raises Refusal while something runs."""
        run = SeatRun(exercise=exercise, kind="check")
        return self._begin(seat, run, lambda _: work(run))

    def _begin(self, seat: str, run: SeatRun, work: Callable[["_EventSink"], Awaitable[EndedJson]]) -> SeatRun:
        desk = self.desk(seat)
        if desk.run is not None:
            raise Refusal("session-busy", "Something runs already. Stop it first.")
        desk.run = run
        if run.kind != "check":
            desk.keep(run)
        desk.task = asyncio.create_task(self._carry_out(seat, desk, run, work))
        return run

    async def _carry_out(
        self, seat: str, desk: Desk, run: SeatRun, work: Callable[["_EventSink"], Awaitable[EndedJson]]
    ) -> None:
        events = desk.events = _EventSink(self._hub, f"seat:{seat}", run, self._places[run.exercise].main)
        events.tell(RunBeginsEvent(run.as_json()))
        self._on_change(seat)
        began = time.monotonic()
        try:
            end = await work(events)
        except Refusal as refusal:
            end = _refused(refusal, run)
        except asyncio.CancelledError:
            end = plain_end("cancelled", _STOPPED)
        except Exception:
            end = plain_end("internal_error", "Something went wrong on the teacher's computer. Try again.")
            raise
        finally:
            desk.run = desk.task = desk.events = None
            desk.used = time.monotonic()
            self._make_room()
            seconds = round(time.monotonic() - began, 3)
            events.end(end, seconds)
            ran = EndedRun(
                seat=seat, exercise=run.exercise, kind=run.kind, at=run.at, seconds=seconds,
                status=end["status"], error=in_a_line(end),
            )  # fmt: skip
            self._behind(self._on_end(seat, run, ran))
            self._on_change(seat)

    async def _have_box(self, desk: Desk, exercise: str, files: Mapping[str, str]) -> None:
        """Opens a box if the desk has none for this exercise."""
        if desk.session is None or desk.exercise != exercise:
            await self._open(desk, exercise, files)

    async def _open(self, desk: Desk, exercise: str, files: Mapping[str, str]) -> None:
        """Opens a box, which replaces the desk's box."""
        place = self._places[exercise]
        options: dict[str, Any] = {
            name: {"base64": base64.b64encode(data).decode()} for name, data in place.files.items()
        }
        options |= files
        asked = {"policy": place.policy, "language": place.language, "files": options}
        self._leave(desk)  # at once: requests from now on do not concern the old box
        async with desk.opening:  # a completion may have begun to open a box: the desk has only one
            self._leave(desk)
            session = await self._sessions.open(desk.caller, asked)
            desk.session, desk.exercise = session.id, exercise

    async def _execute(
        self, desk: Desk, events: "_EventSink", *, code: str, echo: Echo = True, name: str = ""
    ) -> EndedJson:
        session = desk.session
        assert session is not None  # noqa: S101 - for mypy
        try:
            data = await self._sessions.command(
                desk.caller,
                session,
                "exec",
                on_event=events.take,
                code=code,
                name=name,
                echo=echo,
                interactive=True,
                weigh=True,
            )
        except Refusal as refusal:
            if refusal.kind in _GONE and desk.session == session:
                desk.session = None
            raise
        result = json.loads(data)
        if not result["alive"]:
            desk.session = None
        desk.memory = max(0, (result.get("memory") or 0) - _SHARED)
        error = result["error"]
        if error is not None and error["type"] == "KeyboardInterrupt" and events.is_stopped:
            return plain_end("cancelled", _STOPPED)
        return ended(result, events.main, code if name else "")

    # --- during a run -------------------------------------------------------------------------------------------------

    async def warm_up(self) -> None:
        """Makes a box of each kind in each worker, so that no first run waits for it."""
        caller = Caller(key="warm-up", name="warm-up", concurrency=16)
        for policy, language in {(place.policy, place.language) for place in self._places.values()}:
            opened = [await self._sessions.open(caller, {"policy": policy, "language": language}) for _ in range(3)]
            for session in opened:
                await self._end(caller, session.id)

    async def input(self, seat: str, run: str, text: str) -> None:
        """Sends input to a program. Raises Refusal."""
        desk = self._desk_of(seat, run)
        if desk.session is None or desk.events is None:
            raise Refusal("session-busy")  # the box is not open yet
        await self._sessions.input(desk.caller, desk.session, text)
        desk.events.give(text)

    async def stop(self, seat: str, run: str) -> None:
        """Interrupts a run. If the run goes on, the second call ends its box. Raises Refusal."""
        desk = self._desk_of(seat, run)
        assert desk.run is not None  # noqa: S101 - for mypy
        desk.run.stops += 1
        if desk.run.kind == "check" or desk.run.stops > 1 or desk.session is None:
            self._leave(desk)
            if desk.task is not None:
                desk.task.cancel()
        else:
            with contextlib.suppress(Refusal):
                await self._sessions.interrupt(desk.caller, desk.session)

    def _desk_of(self, seat: str, run: str) -> Desk:
        desk = self.desk(seat)
        if desk.run is None or desk.run.id != run:
            raise Refusal("not-found", "This has ended already.")
        return desk

    async def complete(self, seat: str, exercise: str, code: str, cursor: int, files: Mapping[str, str]) -> MatchesJson:
        """Returns the completions at the cursor; none while something runs."""
        desk, session = self.desk(seat), ""
        nothing: MatchesJson = {"start": cursor, "matches": []}
        if desk.run is not None or desk.is_completing:
            return nothing
        desk.is_completing = True
        try:
            await self._have_box(desk, exercise, files)
            session = desk.session or ""
            found = json.loads(await self._sessions.command(desk.caller, session, "complete", code=code, cursor=cursor))
        except Refusal as refusal:
            if refusal.kind in _GONE and desk.session == session:
                desk.session = None
            return nothing
        finally:
            desk.is_completing = False
        return {"start": found["start"], "matches": found["matches"][:200]}

    # --- end ----------------------------------------------------------------------------------------------------------

    def leave(self, seat: str) -> None:
        """Ends the run of a seat, and its box."""
        desk = self.desk(seat)
        self._leave(desk)
        if desk.task is not None:
            desk.task.cancel()

    def _leave(self, desk: Desk) -> None:
        if desk.session is not None:
            self._behind(self._end(desk.caller, desk.session))
            desk.session = None

    def _make_room(self) -> None:
        """Ends boxes without a run while these use too much memory; those that have waited longest first."""
        waiting = [desk for desk in self._desks.values() if desk.session is not None and desk.run is None]
        total = sum(desk.memory for desk in waiting)
        for desk in sorted(waiting, key=lambda desk: desk.used):
            if total <= _TOGETHER:
                return
            if desk.memory:
                total -= desk.memory
                self._leave(desk)

    async def _end(self, caller: Caller, session: str) -> None:
        with contextlib.suppress(Refusal):
            await self._sessions.end(caller, session)

    def _behind(self, work: Awaitable[object]) -> None:
        async def do() -> None:
            await work

        task = asyncio.create_task(do())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ends everything that runs."""
        running = [desk.task for desk in self._desks.values() if desk.task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _EventSink:
    """Sends the events of one run. It collects text for a moment, so that a flood of text becomes few events."""

    def __init__(self, hub: Hub, topic: str, run: SeatRun, main: str) -> None:
        self._hub, self._topic, self._run, self.main = hub, topic, run, main
        self._gathered: list[tuple[str, str]] = []
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether somebody asked to stop the run."""
        return self._run.stops > 0

    def tell(self, event: PageEvent) -> None:
        """Sends an event, after all text that came before it."""
        self._flush()
        self._put(event)

    def _put(self, event: PageEvent) -> None:
        self._run.events.append({"event": event.NAME, "data": event.data})
        self._hub.tell(self._topic, event)

    def give(self, text: str) -> None:
        """Sends text that was typed for the program. Pages show it where the program asked for it."""
        if self._run.size < _MOST_TOLD:
            self._run.size += len(text)
            self.tell(GivenEvent(run=self._run.id, text=text))

    async def take(self, event: WorkerEvent) -> None:
        """Handles an event of the box. The program waits until this returns."""
        if isinstance(event, TextEvent):
            self._print(event.event, event.text)
        elif isinstance(event, InputRequestEvent):
            self.tell(InputEvent(run=self._run.id))
            self._run.size += _EVENT
        elif isinstance(event, DisplayEvent):
            self._show(event)
        await asyncio.sleep(0)

    def _print(self, stream: str, text: str) -> None:
        room = _MOST_TOLD - self._run.size
        if room <= 0:
            return
        self._run.size += len(text)
        if not self._gathered or self._gathered[-1][0] != stream:
            self._run.size += _EVENT
        self._gathered.append((stream, text[:room]))
        loop = asyncio.get_running_loop()
        if loop.time() - self._last >= _RHYTHM:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_at(self._last + _RHYTHM, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        self._last = asyncio.get_running_loop().time()
        pieces: list[list[str]] = []
        for stream, text in gathered:
            if pieces and pieces[-1][0] == stream:
                pieces[-1].append(text)
            else:
                pieces.append([stream, text])
        for stream, *texts in pieces:
            self._put(OutEvent(run=self._run.id, stream=stream, text="".join(texts)))

    def _show(self, event: DisplayEvent) -> None:
        run = self._run
        if run.size >= _MOST_TOLD:
            return
        run.size += _EVENT
        if event.kind == "clear":
            self.tell(ClearEvent(run=run.id, wait=event.wait))
            return
        data = {kind: text for kind in _SHOWN if isinstance(text := event.data.get(kind), str)}
        if event.kind == "value":
            text = data.get("text/plain", "")[: max(0, _MOST_TOLD - run.size)]
            run.size += len(text)
            self.tell(ValueEvent(run=run.id, text=text))
        size = sum(map(len, data.values()))
        if not any(kind.startswith("image/") for kind in data) and event.kind == "value":
            return
        if not data or size > _MOST_PICTURE or run.pictures + size > _MOST_PICTURES:
            return
        run.pictures += size
        known = event.metadata.get("display_id")
        self.tell(PictureEvent(
            run=run.id, content=data, display_id=known[:100] if isinstance(known, str) else None,
            update=event.kind == "update",
        ))  # fmt: skip

    def end(self, end: EndedJson, seconds: float) -> None:
        """Sends how the run has ended."""
        run = self._run
        self.tell(RunEndsEvent({"run": run.id, "kind": run.kind, "exercise": run.exercise, "seconds": seconds, **end}))


def _refused(refusal: Refusal, run: SeatRun) -> EndedJson:
    if run.stops:
        return plain_end("cancelled", _STOPPED)
    if refusal.kind == "session-ended":
        return plain_end("crashed", "Its box has ended.")
    return plain_end("overloaded", f"{refusal.detail} Try again.")
