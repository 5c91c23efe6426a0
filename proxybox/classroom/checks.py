"""Checks: the tests of an exercise for one student's files, soon and fairly, in processes that stay (checking.py).

    check ── the line of its key ── a free lane: a process ── the grade
                  │                     │
                  │      not done in time, in a quick lane: again, for longer; then in a slow one
                  └─ a key has one check at a time; of keys that wait, who was served longest ago is next (fairqueue.py)

Quick lanes end what takes long, and slow lanes do it, so that endless loops hold up only each other. What nobody knows
yet is tried briefly, and one quick lane does nothing else: sixty loops hold up a good check for some seconds. A check
whose process dies is tried again, once, in a slow lane.
"""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import socket
import tempfile
from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import attrs

from proxybox.classroom.checking import files_as_json, grade_of
from proxybox.errors import ProxyboxError
from proxybox.pool.workers import Worker
from proxybox.serve.fairqueue import MOST_KEYS, FairQueue
from proxybox.serve.wire import AnswerKind, WorkerSocket
from proxybox.teach.grades import Grade, Verdict
from proxybox.teach.grading import Packed

LaneKind = Literal["quick", "slow"]
#: The level of what is done in slow lanes; 0 and 1 are those of quick ones.
_SLOW: Final = 2

#: The variables that a process inherits: what finds programs, files and the locale, and what is ours.
_INHERITED: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    "PROXYBOX_GUEST", "PROXYBOX_GUEST_LIBRARY", "PROXYBOX_WARM",
)  # fmt: skip
#: By how many steps the priority of processes is below the web server's: slow ones come after quick ones.
_NICE: Final[Mapping[LaneKind, int]] = {"quick": 1, "slow": 3}
#: For which part of `idle` a process is kept that has nothing to do: who waits for a slow check waits anyway.
_KEPT: Final[Mapping[LaneKind, float]] = {"quick": 1.0, "slow": 0.1}
#: How often a check begins whose process dies.
_TRIES: Final = 2
#: Seconds that a check which was told to stop may take until its process is ended.
_GRACE: Final = 10.0
#: Seconds in which a process has to have an exercise ready; on a busy machine, a tenth of a second becomes many.
_READY: Final = 300.0
#: The most checks that wait for one key.
_MOST_WAITING: Final = 32

AT_FAULT: Final = "The tests of this exercise cannot be run. That is not your mistake."
DIED: Final = "The tests were ended before they were done. Try again."
TOO_LONG: Final = "The tests took too much time and were ended. Is there a loop that goes on for ever?"


class Superseded(ProxyboxError):
    """A later check of the same key and exercise has taken the place of this one, which had not begun."""


class TooManyChecks(ProxyboxError):
    """A key has more checks that wait than it may have."""


class ChecksClosed(ProxyboxError):
    """The classroom has ended, and with it what was to be checked."""


class LaneEnded(Exception):
    """The process of a check has ended. overdue: because the check did not stop. why: what else is known."""

    def __init__(self, *, overdue: bool = False, why: str = "") -> None:
        super().__init__(why)
        self.overdue = overdue
        self.why = why


@attrs.frozen(kw_only=True)
class LaneRequest:
    """What a lane is asked for. number: of this try, unique."""

    number: int
    key: str
    exercise: Packed
    files: Mapping[str, bytes]


@attrs.frozen
class LaneResult:
    """What a lane has done. stopped: whether there was no time for all the tests. seconds: that the tests took."""

    grade: Grade
    stopped: bool
    seconds: float


class Lane(Protocol):
    """Does one check at a time."""

    async def grade(self, asked: LaneRequest, seconds: float) -> LaneResult:
        """Does a check, and stops it after so many seconds of its tests.

        Raises LaneEnded; the lane can be used again all the same.
        """

    def stop(self) -> None:
        """Stops the check that it does."""

    async def close(self) -> None:
        """Ends it, and what it does."""


@attrs.define(eq=False)
class _Check:
    """A check that somebody waits for. level: how long it may take. tries: that have ended with their process."""

    number: int
    key: str
    exercise: Packed
    files: Mapping[str, bytes]
    deadline: float
    future: "asyncio.Future[Grade]"
    level: int = 0
    tries: int = 0

    @property
    def kind(self) -> LaneKind:
        """The kind of the lane that it is for."""
        return "slow" if self.level == _SLOW else "quick"

    @property
    def remembered(self) -> tuple[str, str]:
        """What tells how long the next one will take."""
        return self.key, self.exercise.digest


class Checks:
    """The checks of a classroom; for one event loop.

    deadline: seconds for all tests of a check; those that have not ended by then have not passed. brief_seconds: for a
    check that nobody knows yet. quick_seconds: until a check is a slow one. quick, slow: how many processes there are
    of each kind at most. idle: seconds until a process with nothing to do ends. most_checks, most_resident: checks and
    bytes of memory after which a process is replaced.
    guest, packages: as for `Sandbox`. make_lane: makes what does the checks, in place of processes.
    """

    def __init__(
        self,
        *,
        guest: str | None = None,
        packages: Sequence[str] = (),
        deadline: float = 20.0,
        brief_seconds: float = 0.25,
        quick_seconds: float = 2.0,
        quick: int = 2,
        slow: int = 2,
        idle: float = 300.0,
        most_checks: int = 500,
        most_resident: int = 400 << 20,
        make_lane: Callable[[LaneKind], Lane] | None = None,
    ) -> None:
        self._deadline, self._idle = deadline, idle
        self._seconds = brief_seconds, quick_seconds
        self._limits = most_checks, most_resident
        self._guest, self._packages = guest, tuple(map(os.path.abspath, packages))
        self._room: dict[LaneKind, int] = {"quick": quick, "slow": slow}
        self._quick = quick
        self._make_lane = make_lane or self._process
        self._free: dict[LaneKind, list[Lane]] = {"quick": [], "slow": []}
        self._numbers = itertools.count(1)
        self._waiting: FairQueue[_Check] = FairQueue()
        self._running: dict[str, tuple[_Check, Lane]] = {}
        self._levels: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idling: dict[Lane, asyncio.TimerHandle] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._closed = False

    async def start(self) -> None:
        """Makes the folder for temporary files. Processes start when there is something to check. Raises OSError."""
        self._folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="proxybox-checks-")

    async def close(self) -> None:
        """Ends everything; who waits for a check gets ChecksClosed."""
        self._closed = True
        for check in [*self._waiting, *(check for check, _ in self._running.values())]:
            _refuse(check, ChecksClosed("the classroom has ended"))
        self._waiting = FairQueue()
        for handle in self._idling.values():
            handle.cancel()
        self._idling.clear()
        lanes = [*(lane for _, lane in self._running.values()), *itertools.chain(*self._free.values())]
        await asyncio.gather(*(lane.close() for lane in lanes), return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder.name, True)
            self._folder.cleanup()

    # --- for callers --------------------------------------------------------------------------------------------------

    async def check(
        self, key: str, exercise: Packed, files: Mapping[str, bytes], *, deadline: float | None = None
    ) -> Grade:
        """The grade of a submission. key: of whoever waits for it; it becomes the grade's student.

        deadline: seconds, in place of that of all. A grade says itself when the tests are at fault or could not be run
        (`Grade.failed`). When the caller is cancelled, so is the check. Raises Superseded, TooManyChecks, ChecksClosed.
        """
        if self._closed:
            raise ChecksClosed("the classroom has ended")
        for older in [each for each in self._waiting.line(key) if each.exercise.digest == exercise.digest]:
            self._waiting.remove(key, older)
            _refuse(older, Superseded("a later check of the same exercise has taken its place"))
        if len(self._waiting.line(key)) >= _MOST_WAITING:
            raise TooManyChecks(f"{_MOST_WAITING} checks wait already")
        check = _Check(
            next(self._numbers), key, exercise, dict(files), self._deadline if deadline is None else deadline,
            asyncio.get_running_loop().create_future(),
        )  # fmt: skip
        check.level = self._levels.get(check.remembered, 0)
        self._waiting.put(key, check)
        self._assign()
        try:
            return await check.future
        finally:
            if check.future.cancelled():
                self._drop(check)

    def waiting(self) -> int:
        """How many checks wait."""
        return len(self._waiting)

    def _drop(self, check: _Check) -> None:
        """Gives up a check that nobody waits for."""
        self._waiting.remove(check.key, check)
        running = self._running.get(check.key)
        if running is not None and running[0] is check:
            running[1].stop()

    # --- who is next --------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        for kind in self._room:
            while (self._free[kind] or self._room[kind]) and (check := self._next(kind)) is not None:
                self._begin(check, self._lane(kind))

    def _next(self, kind: LaneKind) -> _Check | None:
        """Takes out the check that is next in lanes of a kind."""
        levels = (_SLOW,) if kind == "slow" else (1, 0) if self._may_be_longer() else (0,)

        def choose(key: str, checks: Sequence[_Check]) -> tuple[int, _Check] | None:
            level = checks[0].level
            return (levels.index(level), checks[0]) if level in levels and key not in self._running else None

        found = self._waiting.next(choose)
        return None if found is None else found[1]

    def _may_be_longer(self) -> bool:
        """Whether a quick lane may be used for more than a brief try: all but one of them may, so that none waits."""
        return sum(check.level == 1 for check, _ in self._running.values()) < max(1, self._quick - 1)

    def _lane(self, kind: LaneKind) -> Lane:
        """A lane that has nothing to do, or a new one; of several, the one that was used last."""
        if not self._free[kind]:
            self._room[kind] -= 1
            return self._make_lane(kind)
        lane = self._free[kind].pop()
        self._idling.pop(lane).cancel()
        return lane

    def _rest(self, kind: LaneKind, lane: Lane) -> None:
        """Leaves a lane open for the next check. Without a check for some time (`_KEPT`) it is closed."""
        self._free[kind].append(lane)
        idle = self._idle * _KEPT[kind]
        self._idling[lane] = asyncio.get_running_loop().call_later(idle, self._leave, kind, lane)

    def _leave(self, kind: LaneKind, lane: Lane) -> None:
        self._free[kind].remove(lane)
        del self._idling[lane]
        self._room[kind] += 1
        self._spawn(lane.close())

    def _begin(self, check: _Check, lane: Lane) -> None:
        self._running[check.key] = check, lane
        self._spawn(self._run(check, lane))

    async def _run(self, check: _Check, lane: Lane) -> None:
        kind = check.kind
        try:
            grade = await self._graded(check, lane)
        except Exception as error:  # ours: nobody may wait for ever
            grade = _failed(check.key, DIED, f"{type(error).__name__}: {error}")
        del self._running[check.key]
        if self._closed:
            await lane.close()
            return
        if grade is None:
            self._again(check)
        elif not check.future.done():
            check.future.set_result(grade)
        self._rest(kind, lane)
        self._assign()

    def _again(self, check: _Check) -> None:
        """Has a check wait for another try, unless nobody waits for it, or a later one has taken its place."""
        if any(later.exercise.digest == check.exercise.digest for later in self._waiting.line(check.key)):
            _refuse(check, Superseded("a later check of the same exercise has taken its place"))
        elif not check.future.done():
            self._waiting.put(check.key, check, first=True)

    async def _graded(self, check: _Check, lane: Lane) -> Grade | None:
        """The grade of a check; None where it is to be done again."""
        asked = LaneRequest(number=next(self._numbers), key=check.key, exercise=check.exercise, files=check.files)
        seconds = check.deadline if check.level == _SLOW else min(self._seconds[check.level], check.deadline)
        is_last = seconds == check.deadline
        try:
            done = await lane.grade(asked, seconds)
        except LaneEnded as ended:
            check.tries += not ended.overdue
            if check.future.done() or (not is_last if ended.overdue else check.tries < _TRIES):
                self._remember(check, _SLOW)
                return None
            return _failed(check.key, TOO_LONG if ended.overdue else DIED, ended.why)
        if check.future.done():
            return None
        self._remember(check, min(check.level + 1, _SLOW) if done.stopped else bisect(self._seconds, done.seconds))
        return None if done.stopped and not is_last else done.grade

    def _remember(self, check: _Check, level: int) -> None:
        """Remembers at which level a check is tried next, which may be at once."""
        check.level = level
        self._levels.pop(check.remembered, None)
        if level:
            self._levels[check.remembered] = level
            while len(self._levels) > MOST_KEYS:
                self._levels.popitem(last=False)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _process(self, kind: LaneKind) -> Lane:
        if self._folder is None:
            raise RuntimeError("start() comes first")
        return ProcessLane(
            folder=self._folder.name, guest=self._guest, packages=self._packages, nice=_NICE[kind],
            most_checks=self._limits[0], most_resident=self._limits[1],
        )  # fmt: skip


def _refuse(check: _Check, error: ProxyboxError) -> None:
    """Ends the wait for a check that is not done."""
    if not check.future.done():
        check.future.set_exception(error)


def _failed(key: str, message: str, fault: str = "") -> Grade:
    """A grade that says that grading failed: to the student in a message, to the teacher as the fault of a test."""
    tests = (Verdict(name="The tests", status="internal_error", possible=0.0, hidden=True, fault=fault),)
    return Grade(student=key, message=message, failed=True, tests=tests if fault else ())


# --- lanes that are processes -----------------------------------------------------------------------------------------


@attrs.define(eq=False, kw_only=True)
class ProcessLane:
    """A lane with a process of its own, which starts with the first check and is replaced when it has ended.

    folder: for the process's temporary files. The rest is as for `Checks`.
    """

    folder: str
    guest: str | None
    packages: Sequence[str]
    nice: int
    most_checks: int
    most_resident: int
    _process: Worker | None = None
    _own: str = ""
    _control: WorkerSocket | None = None
    _work: WorkerSocket | None = None
    _count: int = 0
    _number: int = 0
    _busy: bool = False

    @property
    def pid(self) -> int | None:
        """The process, where there is one."""
        return None if self._process is None else self._process.process.pid

    async def grade(self, asked: LaneRequest, seconds: float) -> LaneResult:
        """As Lane says."""
        loop = asyncio.get_running_loop()
        self._number, self._busy = asked.number, True
        stopping: asyncio.TimerHandle | None = None
        began = loop.time()
        try:
            work = self._work or await self._start()
            message = {"check": asked.number, "key": asked.key, "exercise": asked.exercise.digest}
            async with asyncio.timeout(_READY) as limit:
                await work.send({**message, "files": files_as_json(asked.files)})
                while (report := await work.receive())[0] == AnswerKind.EVENT:
                    if report[1] == b'"need"':
                        packed = asked.exercise
                        await work.send({"files": files_as_json(packed.files), "over": packed.over})
                    else:
                        began = loop.time()
                        stopping = loop.call_later(seconds, self.stop)
                        limit.reschedule(began + seconds + _GRACE)
        except (EOFError, OSError) as error:  # TimeoutError is an OSError
            await self.close()
            is_overdue = isinstance(error, TimeoutError) and stopping is not None
            raise LaneEnded(overdue=is_overdue, why=f"{type(error).__name__}: {error}") from None
        finally:
            if stopping is not None:
                stopping.cancel()
        self._busy = False
        return await self._done(asked, *report, loop.time() - began)

    async def _done(self, asked: LaneRequest, kind: bytes, data: bytes, seconds: float) -> LaneResult:
        report = json.loads(data)
        self._count += 1
        if self._count >= self.most_checks or report.get("resident", 0) > self.most_resident:
            await self.close()
        if kind == AnswerKind.RESULT:
            return LaneResult(grade_of(report["grade"]), report["stopped"], seconds)
        if report["type"] != "exercise":
            raise LaneEnded(why=report["message"])
        return LaneResult(_failed(asked.key, AT_FAULT, report["message"]), False, seconds)

    def stop(self) -> None:
        """As Lane says."""
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.tell({"stop": self._number})

    async def close(self) -> None:
        """As Lane says. The next check gets a new process."""
        process, self._process = self._process, None
        if process is not None and self._busy:
            process.process.kill()
        for line in (self._control, self._work):
            if line is not None:
                line.close()
        self._control = self._work = None
        if process is not None:
            await asyncio.to_thread(process.end)
            await asyncio.to_thread(shutil.rmtree, self._own, True)

    async def _start(self) -> WorkerSocket:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment["MALLOC_ARENA_MAX"] = "2"
        self._count = 0
        self._own = await asyncio.to_thread(tempfile.mkdtemp, dir=self.folder)
        process = self._process = await asyncio.to_thread(
            Worker, "proxybox.classroom.checking", self._own, self.guest, self.packages, self.nice, sockets=2,
            environment=environment,
        )  # fmt: skip
        ends = [socket.socket(fileno=os.dup(connection.fileno())) for connection in process.connections]
        process.close()
        self._control, self._work = [await WorkerSocket.on(end) for end in ends]
        return self._work
