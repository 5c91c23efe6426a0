"""Boxes in the background take turns: as many compute as there are places, and a box with a new request goes on at
once.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import attrs
import pytest

import proxybox
from proxybox.controller import hostproc
from proxybox.controller.process import rotation
from proxybox.controller.process import watch as watches
from proxybox.controller.process.rotation import ALLOWANCE_NS, TURN_NS, WAY_NS, Rotation, Rotations
from proxybox.controller.process.watch import Watch
from proxybox.controller.process.watchdog import watchdog
from proxybox.session import Session

TICK = 20_000_000


@attrs.define(eq=False)
class Fake:
    """The part of a watch that turns use. wants: the part of a CPU that it uses while it goes on."""

    wants: float = 1.0
    pid: int = 0
    cpu: int | None = 0
    near: set | None = attrs.field(factory=set)
    is_asked: bool = False
    interrupted: str = ""
    waits: bool = False
    spent: int = 0

    def spent_ns(self) -> int:
        return self.spent

    def wait_for_turn(self) -> None:
        self.waits = True

    def take_turn(self) -> None:
        self.waits = False

    def share(self, threads: int) -> None:
        pass

    def begin_sharing(self) -> None:
        pass


class Clock:
    """Gives turns as the watchdog does. cpus: how many CPUs the running boxes have together."""

    def __init__(self, places: int, boxes: list[Fake], cpus: float | None = None) -> None:
        self.rotation, self.boxes, self.now = Rotation(places), boxes, 10**12
        self.cpus = places if cpus is None else cpus
        self.most = 0
        for box in boxes:
            self.rotation.join(box)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.rotation.pass_on(self.now)
            self.now += TICK
            going = [box for box in self.boxes if not box.waits and box.near is not None]
            self.most = max(self.most, sum(box.wants > 0 for box in going))
            wanted = sum(box.wants for box in going)
            for box in going:
                box.spent += int(TICK * box.wants * min(1.0, self.cpus / wanted if wanted else 1.0))


@pytest.fixture(autouse=True)
def fakes_are_not_runnable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "count_runnable", lambda pid: count_runnable(pid) if pid else 0)


count_runnable = rotation.count_runnable


@pytest.mark.parametrize("places", [1, 2, 3])
def test_no_more_compute_than_there_are_places_and_all_have_the_same_part(places: int) -> None:
    clock = Clock(places, [Fake() for _ in range(6)])
    clock.tick(6 * 2 * 10)
    assert clock.most == places
    spent = [box.spent for box in clock.boxes]
    assert max(spent) - min(spent) <= TURN_NS
    assert sum(spent) == places * 6 * 2 * 10 * TICK


def test_who_is_alone_is_never_stopped() -> None:
    box = Fake()
    clock = Clock(1, [box])
    for _ in range(100):
        clock.tick()
        assert not box.waits


def test_who_computes_no_more_gives_its_turn_away_and_is_free() -> None:
    rests, computes = Fake(wants=0.0), Fake()
    clock = Clock(1, [rests, computes])
    clock.tick(4)
    assert not rests.waits
    for _ in range(100):
        clock.tick()
        assert not computes.waits


def test_who_is_free_waits_again_when_its_allowance_is_used() -> None:
    rests, others = Fake(wants=0.0), [Fake() for _ in range(5)]
    clock = Clock(1, [rests, *others])
    clock.tick(4)
    rests.wants, before = 1.0, rests.spent
    while not rests.waits:
        clock.tick()
    assert 0 < rests.spent - before <= ALLOWANCE_NS + 2 * TICK


def test_who_has_no_cpu_in_its_turn_because_others_have_it_keeps_its_place_in_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rotation, "count_runnable", lambda pid: 1)
    clock = Clock(1, [Fake() for _ in range(4)], cpus=0.01)
    clock.tick(100)
    assert clock.most == 1


def test_those_that_are_free_take_turns_also_where_other_programs_have_most_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They use less than their share of an idle CPU would be, and all want more."""
    monkeypatch.setattr(rotation, "count_runnable", lambda pid: 1)
    boxes = [Fake(is_asked=True) for _ in range(40)]
    clock = Clock(1, boxes, cpus=0.2)
    clock.tick()
    assert not any(box.waits for box in boxes)  # each has a new request
    clock.tick(400)
    assert sum(not box.waits for box in boxes) == 1


@pytest.mark.parametrize("why", ["asked", "interrupted"])
def test_who_is_wanted_goes_on_at_once_beside_those_that_have_rotation(why: str) -> None:
    boxes = [Fake() for _ in range(10)]
    clock = Clock(1, boxes)
    clock.tick(2)
    last = boxes[-1]
    assert last.waits
    if why == "asked":
        last.is_asked = True
    else:
        last.interrupted = "cancelled"
    clock.tick()
    assert not last.waits
    if why == "asked":
        clock.tick(8)
        assert last.waits  # it has used its allowance
    else:
        clock.tick(10)
        assert not last.waits


def test_who_costs_nothing_for_a_while_is_forgotten_until_it_is_brought_back() -> None:
    box = Fake(wants=0.0)
    clock = Clock(1, [box])
    clock.tick(4 + rotation.IDLE_NS // TICK)
    assert not clock.rotation
    box.wants = 1.0
    clock.rotation.join(box)
    clock.rotation.join(Fake())
    clock.tick(4)
    assert box.waits or box.spent


def test_who_ends_while_others_are_looked_at_leaves_at_the_next_tick() -> None:
    class Ending(Fake):
        """Ends when it is checked for the second time."""

        looks = 0

        @property
        def near(self) -> object:
            self.looks += 1
            return None if self.looks > 1 else set()

        @near.setter
        def near(self, value: object) -> None:
            pass

    clock = Clock(1, [Ending()])
    clock.tick(2)
    assert not clock.rotation


def test_who_has_ended_leaves_and_nothing_is_kept_of_it() -> None:
    boxes = [Fake() for _ in range(5)]
    clock = Clock(2, boxes)
    clock.tick(3)
    for box in boxes:
        box.near = None
    clock.tick()
    left = clock.rotation
    assert [len(each) for each in (left._known, left._free, left._going, left._waiting)] == [0, 0, 0, 0]


def test_boxes_of_each_cpu_take_turns_by_themselves() -> None:
    rotations, boxes = Rotations(2), [Fake(cpu=number % 2) for number in range(6)]
    for box in boxes:
        rotations.join(box)
    for tick in range(12):
        rotations.pass_on(10**12 + tick * TICK)
        for box in boxes:
            box.spent += 0 if box.waits else TICK
        assert Counter(box.cpu for box in boxes if not box.waits) == {0: 1, 1: 1}


def test_who_uses_less_than_its_share_is_not_stopped() -> None:
    little, others = Fake(wants=0.0), [Fake() for _ in range(3)]
    clock = Clock(1, [little, *others], cpus=1)
    clock.tick(8)
    little.wants = 0.1
    stops = 0
    for _ in range(200):
        clock.tick()
        stops += little.waits
    assert stops == 0


def test_many_that_compute_at_once_after_a_rest_do_not_all_go_on() -> None:
    boxes = [Fake(wants=0.0) for _ in range(20)]
    clock = Clock(1, boxes)
    clock.tick(40)  # all are free, and have saved credit
    assert not any(box.waits for box in boxes)
    for box in boxes:
        box.wants = 1.0
    clock.tick(2)
    assert sum(not box.waits for box in boxes) <= 3


def test_those_that_compute_make_way_for_one_that_begins_for_half_of_the_time_at_most() -> None:
    boxes = [Fake() for _ in range(3)]
    clock = Clock(1, boxes)
    clock.tick(20)
    assert sum(not box.waits for box in boxes) == 1
    clock.rotation.make_way(clock.now)
    assert all(box.waits for box in boxes)
    clock.tick(1 + WAY_NS // TICK)
    clock.tick()
    assert sum(not box.waits for box in boxes) == 1
    ran = 0
    for _ in range(400):  # new boxes begin all the time
        clock.rotation.make_way(clock.now)
        clock.tick()
        ran += any(not box.waits for box in boxes)
    assert ran >= 150


def test_who_is_interrupted_while_it_makes_way_goes_on() -> None:
    box = Fake()
    clock = Clock(1, [box])
    clock.tick(10)
    clock.rotation.make_way(clock.now)
    assert box.waits
    box.interrupted = "wall_time"
    clock.tick()
    assert not box.waits


# --- real boxes -------------------------------------------------------------------------------------------------------

BOXES = 6


class OnePlace(Rotations):
    """The boxes of all CPUs take turns with each other."""

    def join(self, watch: rotation.Turning) -> None:
        self._by_cpu.setdefault(None, Rotation(1)).join(watch)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[proxybox.Sandbox]:
    """A sandbox whose boxes have one place together."""
    monkeypatch.setattr(watchdog(), "_rotations", OnePlace(1))
    limits = {"wall_time": 60, "cpu_time": 60, "threads": 32}
    with proxybox.Sandbox(limits=limits, session={"branches": 1}) as made:
        yield made


def watch_of(session: Session) -> Watch:
    return session._live._live.process.watch


def state_of(session: Session) -> str:
    return hostproc.state(watch_of(session).pid)


def start(session: Session, code: str, results: list[proxybox.Result]) -> threading.Thread:
    thread = threading.Thread(target=lambda: results.append(session.exec(code)))
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        os.sched_yield()


def settled(read: Callable[[], int]) -> int:
    """Reads a number until it no longer changes, and returns it."""
    before, now = -1, read()
    while before != now:
        os.sched_yield()
        before, now = now, read()
    return now


@pytest.mark.full
def test_loops_take_turns_and_each_goes_on_and_is_interrupted_at_once(sandbox: proxybox.Sandbox) -> None:
    sessions = [sandbox.session() for _ in range(BOXES)]
    results: list[proxybox.Result] = []
    try:
        threads = [start(session, "while True: pass", results) for session in sessions]
        until(lambda: [state_of(session) for session in sessions].count("T") == BOXES - 1)
        before = [watch_of(session).cpu_time_ns() for session in sessions]
        until(
            lambda: all(watch_of(each).cpu_time_ns() > was + 1e7 for each, was in zip(sessions, before, strict=True))
        )  # each has had its turn
        until(lambda: [state_of(session) for session in sessions].count("T") == BOXES - 1)
        for session in sessions:
            session.interrupt()
        for thread in threads:
            thread.join()
        assert {result.error.type for result in results} == {"KeyboardInterrupt"}
        assert [session.eval("6 * 7").value for session in sessions] == [42] * BOXES
    finally:
        for session in sessions:
            session.close()


def test_a_box_that_waits_for_its_turn_ends_by_its_limits(sandbox: proxybox.Sandbox) -> None:
    results: list[proxybox.Result] = []
    with sandbox.session() as first, sandbox.session() as second:
        other = start(first, "while True: pass", results)
        result = second.exec("while True: pass", timeout=0.5)
        assert result.error is not None
        assert result.error.type == "KeyboardInterrupt"
        assert result.why.startswith("limits.wall_time; ")
        first.close()
        other.join()
    assert sandbox.run("print(6 * 7)").stdout == "42\n"


def test_a_session_that_sleeps_sleeps_on_when_its_turn_comes(sandbox: proxybox.Sandbox) -> None:
    spins = "import threading\nthreading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()"
    results: list[proxybox.Result] = []
    with sandbox.session() as sleeper, sandbox.session() as other:
        assert sleeper.exec(spins).ok
        thread = start(other, "while True: pass", results)
        until(lambda: watch_of(sleeper).takes_turns and watch_of(other).takes_turns)
        live = sleeper._live
        live.sleep()
        until(lambda: state_of(sleeper) == "T")
        before = settled(watch_of(sleeper).cpu_time_ns)
        goal = watch_of(other).cpu_time_ns() + int(3e8)  # several turns
        until(lambda: watch_of(other).cpu_time_ns() > goal)
        assert watch_of(sleeper).cpu_time_ns() == before
        other.interrupt()
        thread.join()
        assert sleeper.eval("6 * 7").value == 42


#: Programs with calls that a stop may interrupt. Each takes many turns beside a loop.
BUSY = {
    "threads begin": """
import threading
count = 0
def one():
    global count
    count += 1
for _ in range(400):
    threads = [threading.Thread(target=one) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
print(count)
""",
    "calls": """
import os
count = 0
while count < 16000: count += len(os.listdir("/")) > 0
print(count // 10)
""",
    "locks": """
import threading, queue
jobs, done = queue.Queue(5), queue.Queue()
def work():
    while (job := jobs.get()) is not None: done.put(job)
threads = [threading.Thread(target=work) for _ in range(3)]
for each in threads: each.start()
for number in range(64000): jobs.put(number)
for _ in threads: jobs.put(None)
for each in threads: each.join()
print(done.qsize() // 40)
""",
    "alarms": """
import signal
count = 0
def handler(number, frame):
    global count
    count += 1
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
while count < 300: pass
signal.setitimer(signal.ITIMER_REAL, 0)
print(1600)
""",
    "files": """
import os
for number in range(400):
    for name in "abcd":
        with open(f"/tmp/{name}", "ab") as file: file.write(b"x" * 1000)
print(sum(os.path.getsize(f"/tmp/{name}") for name in "abcd") // 1000)
""",
}


@pytest.mark.parametrize(("running", "least", "most"), [(1000, 960, 1024), (500, 250, 750), (0, 0, 0)])
def test_threads_without_number_are_counted_by_a_few(
    monkeypatch: pytest.MonkeyPatch, running: int, least: int, most: int
) -> None:
    """Four boxes of two hundred threads once took a tenth of a CPU of the watchdog, which enforces all limits."""
    looks = []
    monkeypatch.setattr(hostproc, "threads", lambda pid: list(range(1000)))
    monkeypatch.setattr(hostproc, "state", lambda tid: looks.append(tid) or ("R" if tid * 7 % 1000 < running else "S"))
    assert least <= count_runnable(1) <= most
    assert len(looks) <= 32


def test_a_process_without_threads_has_none_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is ending: its folder in /proc exists, and is empty."""
    monkeypatch.setattr(hostproc, "threads", lambda pid: [])
    assert count_runnable(1) == 0


@pytest.mark.full
@pytest.mark.parametrize("what", BUSY)
def test_a_program_notices_nothing(sandbox: proxybox.Sandbox, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "TURN_NS", 0)  # it is stopped at each check of the watchdog
    monkeypatch.setattr(rotation, "ALLOWANCE_NS", 0)
    monkeypatch.setattr(watches, "ALLOWANCE_NS", 0)
    stopped: Counter[int] = Counter()
    wait = Watch.wait_for_turn

    def counted(watch: Watch) -> None:
        stopped[watch.pid] += 1
        wait(watch)

    monkeypatch.setattr(Watch, "wait_for_turn", counted)
    results: list[proxybox.Result] = []
    with sandbox.session() as session, sandbox.session() as other:
        thread = start(other, "while True: pass", results)
        result = session.exec(BUSY[what], timeout=200)  # on a busy machine it is slow
        assert (result.stdout, result.error) == ("1600\n", None)
        assert stopped[watch_of(session).pid] >= 2
        other.interrupt()
        thread.join()
