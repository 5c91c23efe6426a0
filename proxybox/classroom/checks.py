"""Checks: run the tests of an exercise on one student's files, soon and fairly, in long-lived processes (checking.py).

    check ── the line of its key ── a free lane: a process ── the grade
                  │                     │
                  │      not done in time in a quick lane: again, for longer; then in a slow one
                  └─ a key has one check at a time; the waiting key that was served longest ago is next (fairqueue.py)

Quick lanes stop long checks, and slow lanes repeat them, so that endless loops delay only each other. A check of an
unknown duration is first tried briefly, and one quick lane does only these: sixty loops delay a good check for some
seconds. A check whose process dies is tried again, once, in a slow lane.
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
#: The level of checks for slow lanes; 0 and 1 are those for quick ones.
_SLOW: Final = 2

#: The environment variables that a process inherits: for finding programs, files and the locale, and proxybox's own.
_INHERITED: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
    "PROXYBOX_GUEST", "PROXYBOX_GUEST_LIBRARY", "PROXYBOX_WARM",
)  # fmt: skip
#: How much lower the priority of processes is than the web server's: slow ones come after quick ones.
_NICE: Final[Mapping[LaneKind, int]] = {"quick": 1, "slow": 3}
#: The part of `idle` for which an unused process is kept: a slow check has to wait anyway.
_KEPT: Final[Mapping[LaneKind, float]] = {"quick": 1.0, "slow": 0.1}
#: How often a check begins if its process dies.
_TRIES: Final = 2
#: Seconds for which a stopped check may go on before its process is ended.
_GRACE: Final = 10.0
#: Seconds in which a process must have an exercise ready: it takes tenths of a second, and many on a busy machine.
_READY: Final = 300.0
#: The most checks that wait for one key.
_MOST_WAITING: Final = 32

AT_FAULT: Final = "The tests of this exercise cannot be run. That is not your mistake."
DIED: Final = "The tests were ended before they were done. Try again."
TOO_LONG: Final = "The tests took too much time and were ended. Is there a loop that goes on for ever?"


class Superseded(ProxyboxError):
    """A later check of the same key and exercise has taken the place of this one, which had not begun."""


class TooManyChecks(ProxyboxError):
    """A key has too many waiting checks."""


class ChecksClosed(ProxyboxError):
    """The classroom has ended, and its checks with it."""


class LaneEnded(Exception):
    """The process of a check has ended. overdue: because the check did not stop. why: more about the cause."""

    def __init__(self, *, overdue: bool = False, why: str = "") -> None:
        super().__init__(why)
        self.overdue = overdue
        self.why = why


@attrs.frozen(kw_only=True)
class LaneRequest:
    """A request to a lane. number: unique for this try."""

    number: int
    key: str
    exercise: Packed
    files: Mapping[str, bytes]


@attrs.frozen
class LaneResult:
    """What a lane returns. stopped: there was no time for all the tests. seconds: the duration of the tests."""

    grade: Grade
    stopped: bool
    seconds: float


class Lane(Protocol):
    """Does one check at a time."""

    async def grade(self, asked: LaneRequest, seconds: float) -> LaneResult:
        """Runs a check, and stops it after so many seconds of its tests.

        Raises LaneEnded; the lane can still be used after that.
        """

    def stop(self) -> None:
        """Stops the check that the lane runs."""

    async def close(self) -> None:
        """Ends the lane and its check."""


@attrs.define(eq=False)
class _Check:
    """A check for which a caller waits. level: of its duration. tries: how many have ended with their process."""

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
        """The kind of lane for this check."""
        return "slow" if self.level == _SLOW else "quick"

    @property
    def remembered(self) -> tuple[str, str]:
        """The key under which the level of the next such check is stored."""
        return self.key, self.exercise.digest


class Checks:
    """The checks of a classroom; for one event loop.

    deadline: seconds for all tests of a check; tests that have not ended by then have not passed. brief_seconds: the
    time for a check of an unknown duration. quick_seconds: a check that takes longer is a slow one. quick, slow: the
    most processes of each kind. idle: seconds after which an unused process ends. most_checks, most_resident: checks
    and bytes of memory after which a process is replaced.

    guest, packages: as for `Sandbox`. make_lane: makes the lanes, instead of processes.
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
        """Makes the folder for temporary files. Processes start with the first check. Raises OSError."""
        self._folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="proxybox-checks-")

    async def close(self) -> None:
        """Ends everything; callers that wait for a check get ChecksClosed."""
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
        """Returns the grade of a submission. key: the caller's; it becomes the grade's student.

        deadline: seconds, instead of the deadline of all checks. The grade reports tests that are at fault or could not
        be run (`Grade.failed`). When the caller is cancelled, so is the check. Raises Superseded, TooManyChecks,
        ChecksClosed.
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
        """Returns how many checks wait."""
        return len(self._waiting)

    def _drop(self, check: _Check) -> None:
        """Gives up a check for which nobody waits any more."""
        self._waiting.remove(check.key, check)
        running = self._running.get(check.key)
        if running is not None and running[0] is check:
            running[1].stop()

    # --- scheduling ---------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        for kind in self._room:
            while (self._free[kind] or self._room[kind]) and (check := self._next(kind)) is not None:
                self._begin(check, self._lane(kind))

    def _next(self, kind: LaneKind) -> _Check | None:
        """Removes the next check for lanes of a kind from the queue, and returns it."""
        levels = (_SLOW,) if kind == "slow" else (1, 0) if self._may_be_longer() else (0,)

        def choose(key: str, checks: Sequence[_Check]) -> tuple[int, _Check] | None:
            level = checks[0].level
            return (levels.index(level), checks[0]) if level in levels and key not in self._running else None

        found = self._waiting.next(choose)
        return None if found is None else found[1]

    def _may_be_longer(self) -> bool:
        """Whether a further quick lane may run longer than a brief try. If there are several, one is only for these."""
        return sum(check.level == 1 for check, _ in self._running.values()) < max(1, self._quick - 1)

    def _lane(self, kind: LaneKind) -> Lane:
        """Returns an unused lane, or a new one; of several, the one that was used last."""
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
        except Exception as error:  # a fault of ours: no caller may wait for ever
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
        """Puts a check back into the queue, unless nobody waits for it or a later one has replaced it."""
        if any(later.exercise.digest == check.exercise.digest for later in self._waiting.line(check.key)):
            _refuse(check, Superseded("a later check of the same exercise has taken its place"))
        elif not check.future.done():
            self._waiting.put(check.key, check, first=True)

    async def _graded(self, check: _Check, lane: Lane) -> Grade | None:
        """Returns the grade of a check; None if the check has to be repeated."""
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
        """Stores the level at which this check, or the next such one, is tried."""
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
    """Ends the wait for a check that is not done with an error."""
    if not check.future.done():
        check.future.set_exception(error)


def _failed(key: str, message: str, fault: str = "") -> Grade:
    """Returns a grade for failed grading. message: for the student. fault: for the teacher, as the fault of a test."""
    tests = (Verdict(name="The tests", status="internal_error", possible=0.0, hidden=True, fault=fault),)
    return Grade(student=key, message=message, failed=True, tests=tests if fault else ())


# --- lanes that are processes -----------------------------------------------------------------------------------------


@attrs.define(eq=False, kw_only=True)
class ProcessLane:
    """A lane with a process of its own. It starts with the first check, and is replaced when it has ended.

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
        """The id of the process; None if there is none."""
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
