"""Checks: which is next, what happens to those that take long or die, and what a student sees of the tests."""

import asyncio
import json
import os
import shutil
import signal
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

pytest.importorskip("cattrs", reason="the extra teach is missing")

from proxybox.classroom import checks as module
from proxybox.classroom.checks import (
    AT_FAULT,
    DIED,
    TOO_LONG,
    Checks,
    ChecksClosed,
    LaneEnded,
    LaneKind,
    LaneRequest,
    LaneResult,
    ProcessLane,
    Superseded,
    TooManyChecks,
)
from proxybox.classroom.results import results_of
from proxybox.teach.boxes import NOT_RUN
from proxybox.teach.checking import find_exercise, shipped_exercises
from proxybox.teach.exercise import Exercise, load_exercise
from proxybox.teach.grades import Grade, Verdict
from proxybox.teach.grading import grade, local_pool, pack
from proxybox.teach.pytestrun import STOPPED
from tests import sweeps

TESTS = """
import pytest

def test_double(student):
    "Doubles"
    student.expect("double", 4, returns=8)

@pytest.mark.hidden
def test_concealed(student):
    "Concealed name"
    student.expect("double", 4711, returns=9422)
"""
RIGHT = b"def double(n):\n    return n * 2\n"
ENDLESS = b"def double(n):\n    while True: pass\n"


def make(folder: Path, tests: str = TESTS, settings: str = "", **files: str) -> Exercise:
    """Writes and loads an exercise. files: additional ones; __ in a name stands for /."""
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    (folder / "exercise.toml").write_text(f'title = "Doubles"\ntext = "Double it."\n{settings}')
    (folder / "tests/test_it.py").write_text(textwrap.dedent(tests))
    for name, text in files.items():
        (folder / f"{name.replace('__', '/')}.py").write_text(textwrap.dedent(text))
    return load_exercise(folder)


def lane_in(folder: Path, kind: type[ProcessLane] = ProcessLane, most_checks: int = 100) -> ProcessLane:
    return kind(folder=str(folder), guest=None, packages=(), nice=0, most_checks=most_checks, most_resident=1 << 30)


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[Checks]:
    checks = Checks(**options)
    await checks.start()
    try:
        yield checks
    finally:
        await checks.close()


def statuses(found: Grade) -> list[str]:
    return [test.status for test in found.tests]


# --- who is next: lanes that do what the test says --------------------------------------------------------------------


@attrs.define(eq=False)
class Fake:
    """A lane that puts each request into the test's queue. The test sets its result."""

    kind: LaneKind
    told: "asyncio.Queue[tuple[Fake, str, asyncio.Future[LaneResult]]]"
    stopped: int = 0
    closed: asyncio.Event = attrs.field(factory=asyncio.Event)
    doing: "asyncio.Future[LaneResult] | None" = None

    async def grade(self, asked: LaneRequest, seconds: float) -> LaneResult:
        self.doing = asyncio.get_running_loop().create_future()
        await self.told.put((self, f"{asked.key} {asked.files['name'].decode()}", self.doing))
        return await self.doing

    def stop(self) -> None:
        self.stopped += 1
        assert self.doing is not None
        self.doing.set_result(LaneResult(Grade(student=""), True, 0.1))

    async def close(self) -> None:
        self.closed.set()
        if self.doing is not None and not self.doing.done():
            self.doing.set_exception(LaneEnded())


@attrs.define
class Told:
    """Checks whose lanes are fakes."""

    checks: Checks
    queue: "asyncio.Queue[tuple[Fake, str, asyncio.Future[LaneResult]]]"
    exercises: dict[str, Exercise]

    def ask(self, key: str, name: str, **options: Any) -> "asyncio.Task[Grade]":
        """Starts a check in a task."""
        work = self.checks.check(key, pack(self.exercises[name]), {"name": name.encode()}, **options)
        return asyncio.create_task(work)

    async def begun(self) -> tuple[Fake, str, "asyncio.Future[LaneResult]"]:
        return await self.queue.get()

    async def end(self, stopped: bool = False, seconds: float = 0.1) -> str:
        """Ends the check that has begun, and returns the kind of its lane, its key and its exercise."""
        lane, what, future = await self.begun()
        future.set_result(LaneResult(Grade(student=what), stopped, seconds))
        return f"{lane.kind}: {what}"


def faked(tmp_path: Path, test: Callable[[Told], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        exercises = {name: make(tmp_path / name, f"{TESTS}\n# {name}") for name in ("one", "two", "three")}
        async with started(make_lane=lambda kind: Fake(kind, queue), **{"quick": 1, "slow": 1, **options}) as checks:
            told = Told(checks, queue, exercises)
            for name in exercises:  # each exercise is packed now, so that a later check enters its queue at once
                asked = told.ask("before", name)
                await told.end()
                await asked
            await asyncio.wait_for(test(told), 60)

    asyncio.run(main())


def test_who_was_served_longest_ago_is_next(tmp_path: Path) -> None:
    async def test(told: Told) -> None:
        given = ("ann one", "ann two", "ann three", "bob one", "cy one", "bob two")
        asked = [told.ask(*each.split()) for each in given]
        seen = [await told.end() for _ in asked]
        assert seen == [
            "quick: ann one", "quick: bob one", "quick: cy one", "quick: ann two", "quick: bob two", "quick: ann three",
        ]  # fmt: skip
        assert [found.student for found in await asyncio.gather(*asked)] == list(given)

    faked(tmp_path, test)


def test_a_key_has_one_check_at_a_time(tmp_path: Path) -> None:
    async def test(told: Told) -> None:
        asked = [told.ask("ann", "one"), told.ask("ann", "two"), told.ask("bob", "one")]
        first, second = await told.begun(), await told.begun()
        assert [first[1], second[1]] == ["ann one", "bob one"]
        assert told.checks.waiting() == 1
        for _, _, future in (first, second):
            future.set_result(LaneResult(Grade(student=""), False, 0.1))
        assert await told.end() == "quick: ann two"
        await asyncio.gather(*asked)

    faked(tmp_path, test, quick=3)


def test_a_later_check_takes_the_place_of_one_that_waits(tmp_path: Path) -> None:
    async def test(told: Told) -> None:
        asked = [told.ask("ann", "one"), told.ask("ann", "one"), told.ask("ann", "two"), told.ask("ann", "one")]
        assert [await told.end() for _ in range(3)] == ["quick: ann one", "quick: ann two", "quick: ann one"]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in found] == [Grade, Superseded, Grade, Grade]

    faked(tmp_path, test)


def test_what_is_not_done_in_a_quick_lane_is_done_in_a_slow_one_and_goes_there_the_next_time(tmp_path: Path) -> None:
    async def test(told: Told) -> None:
        for seconds, kinds in ((9.0, ["quick", "quick", "slow"]), (0.1, ["slow"]), (0.1, ["quick"])):
            asked = told.ask("ann", "one")
            seen = [await told.end(stopped=kind == "quick" and len(kinds) == 3, seconds=seconds) for kind in kinds]
            assert seen == [f"{kind}: ann one" for kind in kinds]
            assert not (await asked).failed

    faked(tmp_path, test)


def test_slow_checks_hold_up_no_quick_ones(tmp_path: Path) -> None:
    async def test(told: Told) -> None:
        keys = ("bob", "cy", "di")
        for key in keys:
            asked = told.ask(key, "one")
            seen = [await told.end(stopped=True), await told.end(stopped=True), await told.end(seconds=9.0)]
            assert seen == [f"quick: {key} one", f"quick: {key} one", f"slow: {key} one"]
            await asked
        slow = [told.ask(key, "one") for key in keys]
        loop = await told.begun()
        assert (loop[1], told.checks.waiting()) == ("bob one", 2)
        quick = told.ask("ann", "one")
        assert await told.end() == "quick: ann one"
        await quick
        loop[2].set_result(LaneResult(Grade(student=""), True, 20.0))
        assert [await told.end(), await told.end()] == ["slow: cy one", "slow: di one"]
        await asyncio.gather(*slow)

    faked(tmp_path, test)


@pytest.mark.parametrize("hammering", [2, 5])
def test_what_takes_longer_and_what_is_brief_each_have_a_lane(tmp_path: Path, hammering: int) -> None:
    """However often a key asks: with lanes for short and for long checks, neither waits for ever."""

    async def test(told: Told) -> None:
        longer = [told.ask(key, "one") for key in ("ann", "bob", "cy")]
        assert [await told.end(stopped=True), await told.end(stopped=True)] == ["quick: ann one", "quick: bob one"]
        _, what, running = await told.begun()
        assert what == "ann one"  # now without the short time limit
        assert await told.end(stopped=True) == "quick: cy one"
        brief = [told.ask(f"key{number}", "two") for number in range(hammering)]
        for number in range(20):  # another check comes whenever one has ended
            assert (await told.end())[7:10] == "key"
            brief.append(told.ask(f"key{number % hammering}", "three"))
        running.set_result(LaneResult(Grade(student=""), False, 1.0))
        for key in ("bob", "cy"):
            seen = ""
            while not seen.endswith(f"{key} one"):
                lane, seen, future = await told.begun()
                future.set_result(LaneResult(Grade(student=""), False, 0.1))
                assert lane.kind == "quick"
        await asyncio.gather(*longer)
        for each in brief:  # those that still wait give up
            each.cancel()

    faked(tmp_path, test, quick=2)


def test_a_check_whose_process_dies_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    async def test(told: Told) -> None:
        asked = told.ask("ann", "one")
        for kind in ("quick", "slow"):
            lane, _, future = await told.begun()
            assert lane.kind == kind
            future.set_exception(LaneEnded())
        found = await asked
        assert (found.failed, found.message) == (True, DIED)
        other = told.ask("bob", "one")
        assert await told.end() == "quick: bob one"
        assert not (await other).failed

    faked(tmp_path, test)


def test_a_check_that_does_not_stop_is_told_so(tmp_path: Path) -> None:
    async def test(told: Told) -> None:
        asked = told.ask("ann", "one")
        for _ in range(2):
            (await told.begun())[2].set_exception(LaneEnded(overdue=True))
        found = await asked
        assert (found.failed, found.message) == (True, TOO_LONG)

    faked(tmp_path, test)


def test_a_check_that_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    async def test(told: Told) -> None:
        running = told.ask("ann", "one")
        lane, _, _ = await told.begun()
        waiting = told.ask("bob", "one")
        await asyncio.sleep(0)
        assert told.checks.waiting() == 1
        for each in (waiting, running):
            each.cancel()
        await asyncio.wait([waiting, running])
        assert (lane.stopped, told.checks.waiting()) == (1, 0)
        after = told.ask("ann", "one")
        assert await told.end() == "quick: ann one"  # a check that was stopped does not make it a slow one
        await after

    faked(tmp_path, test)


def test_lines_are_bounded_and_end_with_the_classroom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 1)

    async def test(told: Told) -> None:
        asked = [told.ask("ann", name) for name in ("one", "two", "three")]
        await told.begun()
        with pytest.raises(TooManyChecks):
            await asked[2]
        await told.checks.close()
        found = await asyncio.gather(*asked[:2], return_exceptions=True)
        assert [type(each) for each in found] == [ChecksClosed, ChecksClosed]
        with pytest.raises(ChecksClosed):
            await told.ask("ann", "one")

    faked(tmp_path, test)


def test_a_lane_without_checks_is_closed(tmp_path: Path) -> None:
    async def test(told: Told) -> None:
        asked = told.ask("ann", "one")
        lane, _, future = await told.begun()
        future.set_result(LaneResult(Grade(student=""), False, 0.1))
        await asked
        await lane.closed.wait()
        again = told.ask("ann", "one")
        other, _, future = await told.begun()
        assert other is not lane
        future.set_result(LaneResult(Grade(student=""), False, 0.1))
        await again

    faked(tmp_path, test, idle=0.0)


# --- with processes ---------------------------------------------------------------------------------------------------


def _with_time(exercise: Exercise, folder: Path) -> Exercise:
    """Copies an exercise, with more time for its programs: on a busy machine no grade may depend on that limit."""
    shutil.copytree(exercise.folder, folder)
    settings = folder / "exercise.toml"
    settings.write_text(settings.read_text().replace("wall_time = 2", "wall_time = 60"))
    return load_exercise(folder)


def test_grades_are_those_of_grade(tmp_path: Path) -> None:
    async def main() -> None:
        async with started(deadline=600.0) as checks:
            with local_pool(1) as pool:
                for name in sweeps.spread(shipped_exercises(), 2):
                    exercise = _with_time(find_exercise(name), tmp_path / name)
                    given = [*exercise.model_solutions(), *exercise.wrong_solutions()]
                    given = [
                        attrs.evolve(each, source="", submitted=None) for each in given if each.student != "never_ends"
                    ]
                    wanted, *found = await asyncio.gather(
                        asyncio.to_thread(grade, exercise, given, executor=pool),
                        *(checks.check(each.student, pack(exercise), each.files) for each in given),
                    )
                    assert found == list(wanted)
                    assert {each.status for each in wanted} - {"ok"}

    asyncio.run(main())


def test_a_student_learns_nothing_of_hidden_tests(tmp_path: Path) -> None:
    hostile = """
        import os, sys
        def double(n):
            seen = []
            for folder in ("/", "/box", "/tmp", "/proc/self", os.getcwd(), *sys.path):
                try:
                    seen += os.listdir(folder)
                except OSError:
                    pass
            frame = sys._getframe()
            while frame is not None:
                seen += map(str, frame.f_locals.values())
                frame = frame.f_back
            print(seen, n)
            told = b'r{"grade": {"student": "forged", "tests": []}, "stopped": false, "resident": 0}'
            for fd in range(30):
                try:
                    os.write(fd, len(told).to_bytes(4, "big") + told)
                except OSError:
                    pass
            raise ValueError(n)
    """

    async def main() -> Grade:
        async with started(brief_seconds=600.0, quick_seconds=600.0, deadline=600.0) as checks:
            return await checks.check("ann", pack(make(tmp_path)), {"solution.py": textwrap.dedent(hostile).encode()})

    found = asyncio.run(main())
    told = json.dumps(results_of(found))
    assert (found.student, len(found.tests)) == ("ann", 2)
    for secret in ("Concealed", "concealed", "4711", "9422", "test_it", "exercise.toml", "forged"):
        assert secret not in told
    whole = json.dumps(results_of(found, whole=True))
    assert "Concealed name" in whole
    assert "4711" in whole
    assert results_of(found)["hidden"] == {"passed": 0, "total": 1}


def test_a_loop_without_end_costs_the_deadline_and_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 300.0)
    lanes: list[ProcessLane] = []

    async def main() -> tuple[Grade, Grade, set[int | None]]:
        def lane(kind: LaneKind) -> ProcessLane:
            lanes.append(lane_in(tmp_path))
            return lanes[-1]

        async with started(brief_seconds=0.1, quick_seconds=0.2, deadline=0.4, make_lane=lane) as checks:
            exercise = make(tmp_path / "exercise")
            ended = await checks.check("ann", pack(exercise), {"solution.py": ENDLESS})
            pids = {each.pid for each in lanes}
            done = await checks.check("ann", pack(exercise), {"solution.py": RIGHT}, deadline=600.0)
            return ended, done, pids ^ {each.pid for each in lanes}

    ended, done, others = asyncio.run(main())
    assert [(test.status, test.message) for test in ended.tests] == [("time_limit", STOPPED), ("skipped", NOT_RUN)]
    assert not ended.failed
    assert statuses(done) == ["ok", "ok"]
    assert (len(lanes), others) == (2, set())


STUCK = """
    import threading
    def test_double(student):
        "Doubles"
        threading.Event().wait()
"""


def test_a_test_that_never_ends_is_ended_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.5)

    async def main() -> tuple[Grade, Grade]:
        async with started(brief_seconds=0.1, quick_seconds=0.2, deadline=0.4) as checks:
            exercise = make(tmp_path / "fine")
            return (
                await checks.check("ann", pack(make(tmp_path / "stuck", STUCK)), {"solution.py": RIGHT}),
                await checks.check("ann", pack(exercise), {"solution.py": RIGHT}, deadline=60.0),
            )

    stuck, fine = asyncio.run(main())
    assert (stuck.failed, stuck.message) == (True, TOO_LONG)
    assert statuses(fine) == ["ok", "ok"]


def test_a_killed_process_costs_its_own_check_one_try(tmp_path: Path) -> None:
    kills = {"ann": 1, "eve": 2}

    @attrs.define(eq=False, kw_only=True)
    class Killed(ProcessLane):
        async def grade(self, asked: LaneRequest, seconds: float) -> LaneResult:
            if kills.get(asked.key, 0):
                kills[asked.key] -= 1
                await self._start()
                assert self.pid is not None
                os.kill(self.pid, signal.SIGKILL)
            return await super().grade(asked, seconds)

    async def main() -> list[Grade]:
        def lane(kind: LaneKind) -> ProcessLane:
            return lane_in(tmp_path, Killed)

        async with started(make_lane=lane) as checks:
            exercise = make(tmp_path / "exercise")
            asked = (checks.check(key, pack(exercise), {"solution.py": RIGHT}) for key in ("ann", "bob", "eve"))
            return list(await asyncio.gather(*asked))

    ann, bob, eve = asyncio.run(main())
    assert statuses(ann) == statuses(bob) == ["ok", "ok"]
    assert (eve.failed, eve.message) == (True, DIED)
    assert results_of(eve)["tests"] == []


def test_processes_are_replaced_and_leave_nothing(tmp_path: Path) -> None:
    lanes: list[ProcessLane] = []
    pids = []

    async def main() -> None:
        def lane(kind: LaneKind) -> ProcessLane:
            lanes.append(lane_in(tmp_path, most_checks=2))
            return lanes[-1]

        exercise = make(tmp_path / "exercise")
        async with started(make_lane=lane) as checks:
            for _ in range(3):
                assert statuses(await checks.check("ann", pack(exercise), {"solution.py": RIGHT})) == ["ok", "ok"]
                pids.append(lanes[0].pid)

    asyncio.run(main())
    assert len(lanes) == 1
    assert pids[0] is not None
    assert pids[1] is None
    assert pids[2] not in (None, pids[0])
    assert [path.name for path in tmp_path.iterdir()] == ["exercise"]
    for pid in filter(None, pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_flood_is_cut(tmp_path: Path) -> None:
    flood = b"def double(n):\n    while True: print('x' * 1000)\n"

    async def main() -> Grade:
        async with started() as checks:
            return await checks.check(
                "ann", pack(make(tmp_path, settings="[limits]\ncpu_time = 1\n")), {"solution.py": flood}
            )

    found = asyncio.run(main())
    assert set(statuses(found)) <= {"output_limit", "time_limit"}
    assert len(json.dumps(results_of(found))) < 30_000


def test_what_the_teacher_did_wrong_is_told_to_the_teacher_alone(tmp_path: Path) -> None:
    async def main() -> tuple[Grade, Grade]:
        async with started(quick=1) as checks:
            broken = make(tmp_path / "broken", "ANSWER = 4711\ndef test_double(student)\n")
            return (
                await checks.check("ann", pack(broken), {"solution.py": RIGHT}),
                await checks.check("ann", pack(make(tmp_path / "whole")), {"solution.py": RIGHT}),
            )

    found, other = asyncio.run(main())
    told = results_of(found, at=1.0)
    assert told == {
        "at": 1.0, "passed": 0, "total": 0, "points": 0.0, "possible": 0.0, "tests": [],
        "hidden": {"passed": 0, "total": 0}, "message": AT_FAULT,
    }  # fmt: skip
    assert "SyntaxError" in results_of(found, whole=True)["tests"][0]["fault"]
    assert statuses(other) == ["ok", "ok"]


def test_exercises_in_one_process_have_modules_of_their_own(tmp_path: Path) -> None:
    conftest = """
        import os, sys
        sys.path.insert(0, os.path.dirname(__file__))
    """
    tests = """
        def test_double(student):
            "Doubles"
            from helpers import ANSWER
            student.expect("answer", returns=ANSWER)
    """

    async def main() -> list[list[str]]:
        async with started(quick=1) as checks:
            made = {
                number: make(
                    tmp_path / str(number), tests, tests__conftest=conftest, tests__helpers=f"ANSWER = {number}"
                )
                for number in (1, 2)
            }
            return [
                statuses(
                    await checks.check(
                        "ann", pack(made[number]), {"solution.py": f"def answer(): return {said}".encode()}
                    )
                )
                for number in (1, 2, 1, 2)
                for said in (1, 2)
            ]

    right, wrong = ["ok"], ["wrong_answer"]
    assert asyncio.run(main()) == [right, wrong, wrong, right, right, wrong, wrong, right]


def test_nothing_of_a_submission_is_in_the_results_of_the_next(tmp_path: Path) -> None:
    tests = """
        import pytest

        @pytest.fixture(scope="session")
        def seen():
            return []

        def test_double(student, seen):
            "Doubles"
            seen.append(student.get("WHO"))
            assert len(seen) == 1, "seen before"
            student.expect("double", 1, returns=2)
    """

    async def main() -> list[Grade]:
        async with started(quick=1) as checks:
            exercise = make(tmp_path, tests)
            return [
                await checks.check(key, pack(exercise), {"solution.py": code})
                for key, code in (
                    ("ann", b"WHO = 'ann'\ndef double(n):\n    print('by ann')\n    return 3\n"),
                    ("bob", b""),
                    ("cy", b"WHO = 'cy'\n" + RIGHT),
                )
            ]

    ann, bob, cy = asyncio.run(main())
    assert "by ann" in json.dumps(results_of(ann))
    assert "ann" not in json.dumps(results_of(bob))
    assert statuses(cy) == ["ok"]


# --- what a student is told -------------------------------------------------------------------------------------------


def test_what_holds_for_the_whole_file_is_told_once() -> None:
    broken = [
        Verdict(name=name, status="syntax_error", message="The file is no Python: on line 3.", line=3, hidden=hidden)
        for name, hidden in (("a", False), ("b", False), ("c", True))
    ]
    rules = Verdict(name="The rules", status="skipped", possible=0.0)
    told = results_of(Grade(student="ann", tests=(rules, *broken), note="A notebook."))
    assert told["message"] == "The file is no Python: on line 3.\nA notebook."
    assert [(test["name"], test["message"], test["line"]) for test in told["tests"]] == [
        ("The rules", "", None), ("a", "", 3), ("b", "", 3),
    ]  # fmt: skip
    assert (told["passed"], told["total"], told["hidden"]) == (0, 4, {"passed": 0, "total": 1})


def test_a_message_of_hidden_tests_alone_is_not_told() -> None:
    tests = tuple(
        Verdict(name=f"secret {number}", status="error", message="f(42) raised", hidden=True) for number in range(2)
    )
    told = results_of(Grade(student="ann", tests=tests))
    assert (told["tests"], told["message"]) == ([], "")


def test_messages_that_differ_stay_with_their_tests() -> None:
    tests = (
        Verdict(name="a", status="wrong_answer", message="f(1) returned 2."),
        Verdict(name="b", status="ok", points=1.0, output="printed\n"),
        Verdict(name="c", status="error", message="f(3) raised\x1b[2J", output="printed\n", hidden=False),
    )
    told = results_of(Grade(student="ann", tests=tests))
    assert told["message"] == ""
    assert [(test["message"], test["output"]) for test in told["tests"]] == [
        ("f(1) returned 2.", ""), ("", ""), (r"f(3) raised\x1b[2J", "printed\n"),
    ]  # fmt: skip
