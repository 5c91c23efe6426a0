"""The interpreter's share of boxes that threads serve: their calls are answered one at a time, and in which order."""

import itertools
import os
import threading

import pytest

import proxybox
from proxybox.controller.callers import Callers
from proxybox.controller.costs import interpreter
from proxybox.controller.costs.interpreter import InterpreterShare


@pytest.fixture
def queue(monkeypatch):
    """A new queue, with one serving thread besides those of the test."""
    fresh = interpreter._Queue()
    monkeypatch.setattr(interpreter._queue, "made", fresh)
    InterpreterShare().begin()
    return fresh


def long_box() -> InterpreterShare:
    share = InterpreterShare()
    share.begin()
    share.limit(True)
    return share


class Wanting:
    """A thread that waits for one turn, and appends its share to `order` when it has the turn."""

    def __init__(self, share, order, queue):
        self._share, self._order, self._queue = share, order, queue
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        while share not in queue._waiting:
            assert self.thread.is_alive()
            os.sched_yield()

    def _run(self):
        with self._share:
            self._order.append(self._share)


def test_a_box_that_has_used_little_has_no_turns(queue):
    share = InterpreterShare()
    share.begin()
    with share:
        assert not share.is_in


def test_a_box_that_is_served_alone_has_no_turns(monkeypatch):
    monkeypatch.setattr(interpreter._queue, "made", interpreter._Queue())
    share = long_box()
    with share:
        assert not share.is_in
    other = InterpreterShare()
    other.begin()
    with share:
        assert share.is_in
    other.end()
    with share:
        assert not share.is_in


def test_one_at_a_time_and_first_who_has_used_least(queue):
    order = []
    first, much, little = long_box(), long_box(), long_box()
    much.used_ns, little.used_ns = 2_000_000, 1_000_000
    with first:
        waiting = [Wanting(each, order, queue) for each in (much, little)]
        assert not order
    for each in waiting:
        each.thread.join(60)
    assert order == [little, much]


def test_who_has_rested_is_not_ahead_for_ever(queue):
    busy, rested = long_box(), long_box()
    busy.used_ns = 10_000_000_000
    with busy:
        pass
    with rested:
        pass
    assert rested.used_ns >= 10_000_000_000 - interpreter._AHEAD


def test_the_turn_ends_while_a_function_of_the_caller_runs(queue):
    """Other boxes are answered during a host function, however long it takes."""
    one, other = long_box(), long_box()
    callers = Callers(interpreter=one)
    with one:
        assert one.is_in
        with callers:
            assert not one.is_in
            with other:
                assert other.is_in
        assert one.is_in


@pytest.mark.parametrize("is_waiting", [False, True])
def test_what_a_signal_handler_raises_does_not_leave_the_turn_taken(queue, monkeypatch, is_waiting):
    """Ctrl-C while a thread waits for its turn, or just after it got it."""
    interrupted, other = long_box(), long_box()

    def raise_it() -> None:
        raise KeyboardInterrupt

    queue._debt_ns = 10 * interpreter.QUANTUM
    monkeypatch.setattr(queue, "_leave_to_others", raise_it)
    holder = long_box()
    if is_waiting:
        real = threading.Lock

        class Raising:
            """A lock whose second `acquire` raises KeyboardInterrupt."""

            def __init__(self):
                self._lock, self._calls = real(), 0

            def acquire(self):
                self._calls += 1
                if self._calls == 2:
                    raise KeyboardInterrupt
                self._lock.acquire()

        monkeypatch.setattr(interpreter.threading, "Lock", Raising)
        queue._debt_ns = 0
        with holder, pytest.raises(KeyboardInterrupt), interrupted:
            pass
        monkeypatch.setattr(interpreter.threading, "Lock", real)
    else:
        with pytest.raises(KeyboardInterrupt), interrupted:
            pass
    assert queue._holder is None
    assert not queue._waiting
    assert not interrupted.is_in
    queue._debt_ns = 0
    with other:
        assert other.is_in


@pytest.fixture
def looks(queue, monkeypatch):
    """Replaces the clocks: each look takes its full time, and others use the nanoseconds of `used` meanwhile."""
    made = Looks()
    monkeypatch.setattr(interpreter.time, "sleep", made.sleep)
    monkeypatch.setattr(interpreter.time, "process_time_ns", lambda: made.used_ns)
    monkeypatch.setattr(interpreter.time, "monotonic_ns", lambda: made.now_ns)
    return made


class Looks:
    def __init__(self):
        self.number = self.used_ns = self.now_ns = 0
        self.used = itertools.repeat(0)

    def sleep(self, seconds):
        self.number += 1
        self.now_ns += round(seconds * 1e9)
        self.used_ns += next(self.used)


def test_less_than_a_quantum_is_no_reason_to_look(queue, looks):
    queue._debt_ns = interpreter.QUANTUM - 1
    with long_box():
        pass
    assert looks.number == 0


@pytest.mark.parametrize("used", [interpreter._LOOK, interpreter._LOOK // 8 + 1])
def test_others_have_twice_as_long_as_those_that_have_turns(queue, looks, used):
    """Not longer, where the caller's program steadily uses a little of it."""
    looks.used = itertools.repeat(used)
    queue._debt_ns = 3 * interpreter.QUANTUM
    with long_box():
        pass
    assert looks.now_ns == 6 * interpreter.QUANTUM


def test_others_have_no_more_than_they_want(queue, looks):
    looks.used = iter([400_000, 400_000, 10_000])
    queue._debt_ns = 9 * interpreter.QUANTUM
    with long_box():
        pass
    assert looks.number == 3, "two times others have used it, and then they have not"


def test_a_forked_child_has_no_turns_of_its_parent(queue):
    share = long_box()
    with share:
        child = os.fork()
        if not child:
            another = InterpreterShare()
            another.begin()
            InterpreterShare().begin()
            another.limit(True)
            with another:
                os._exit(0 if another.is_in else 1)
        _, status = os.waitpid(child, 0)
    assert status == 0


def test_boxes_of_a_pool_whose_calls_cost_much_are_answered_in_turn():
    """Real boxes: while one makes calls without a pause, the other gets its turns, and both end as if alone."""
    calls = "import os\nfor i in range(20000): os.stat('/tmp/%d' % (i % 7)) if os.path.exists('/nope%d' % i) else 0"
    limits = {"cpu_time": 60, "wall_time": 120}
    turns = []
    enter = interpreter._Queue.enter

    def counted(self, share):
        turns.append(share)
        enter(self, share)

    with pytest.MonkeyPatch.context() as patched, proxybox.Pool(limits=limits, size=2) as pool:
        patched.setattr(interpreter._Queue, "enter", counted)
        futures = [pool.submit(calls) for _ in range(2)]
        results = [each.result() for each in futures]
    assert [each.status for each in results] == ["ok", "ok"]
    assert len(set(turns)) == 2
    assert interpreter._queue()._holder is None
    assert not interpreter._queue()._waiting
