"""The turns of a recorded guest's threads, and which thread waits for which message."""

import errno
import itertools
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import proxybox
from proxybox import Limits, Policy
from proxybox.controller import abi
from proxybox.controller.boxes import recorded
from proxybox.controller.effects import Blocked
from proxybox.controller.oscalls.memory import futex
from proxybox.controller.process.activity import Patience
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.listener import GuestListener, Notification
from proxybox.controller.record import recording
from proxybox.controller.record.onebyone import SLICE_NS, OneByOne, wait_for_end
from proxybox.controller.record.recording import RecordingDispatcher
from proxybox.controller.world.futexes import Futexes


def test_a_thread_alone_goes_on() -> None:
    turns = OneByOne(0)
    turns.stops(0)
    assert turns.may_go_on(0, 0)
    assert turns.is_free
    turns.goes(0, 0)
    assert turns.was_alone(1)


def test_nobody_goes_while_another_one_runs() -> None:
    turns = OneByOne(0)
    turns.goes(1, 0)  # started by thread 0
    turns.stops(0)
    assert not turns.may_go_on(0, 0)
    turns.lines_up(0)
    assert not turns.has_turn(0)
    turns.stops(1)
    assert turns.has_turn(0)
    assert not turns.has_turn(1)


def test_a_thread_gives_way_after_its_slice() -> None:
    turns = OneByOne(0)
    turns.goes(1, 0)
    turns.stops(1)
    turns.lines_up(1)
    turns.stops(0)
    assert turns.has_turn(1)
    turns.goes(1, 100)
    turns.lines_up(0)
    turns.stops(1)
    assert turns.may_go_on(1, 100 + SLICE_NS - 1)
    assert not turns.may_go_on(1, 100 + SLICE_NS)


def test_turns_come_in_the_order_of_asking() -> None:
    turns = OneByOne(9)
    for channel in (3, 1, 2):
        turns.lines_up(channel)
    turns.stops(9)
    came = []
    for _ in range(3):
        (channel,) = (each for each in (1, 2, 3) if turns.has_turn(each))
        turns.goes(channel, 0)
        assert not any(turns.has_turn(each) for each in (1, 2, 3))
        turns.stops(channel)
        came.append(channel)
    assert came == [3, 1, 2]


def test_who_ran_beside_another_one_was_not_alone() -> None:
    turns = OneByOne(0)
    assert not turns.was_alone(0)  # it is just starting a thread
    turns.goes(1, 0)
    turns.stops(0)
    turns.stops(1)
    turns.goes(0, 0)
    assert turns.was_alone(0)
    turns.lines_up(1)
    assert turns.has_turn(1, overdue=True)
    turns.goes(1, 0)
    assert not turns.was_alone(0)
    assert not turns.was_alone(1)
    turns.stops(0)
    assert not turns.was_alone(0)  # until its next answer


def test_never_two_at_a_time_but_overdue() -> None:
    chance = random.Random(5)
    turns, running, asked = OneByOne(0), {0}, set(range(1, 6))
    for channel in asked:
        turns.lines_up(channel)
    for now in itertools.count():
        for channel in list(running):
            turns.stops(channel)
            running.remove(channel)
            if turns.may_go_on(channel, now * SLICE_NS // 3):
                turns.goes(channel, now * SLICE_NS // 3)
                running.add(channel)
            else:
                turns.lines_up(channel)
                asked.add(channel)
        for channel in chance.sample(sorted(asked), len(asked)):
            if turns.has_turn(channel):
                turns.goes(channel, now * SLICE_NS // 3)
                asked.remove(channel)
                running.add(channel)
        assert len(running) == 1
        if now == 500:
            break


def test_an_end_is_waited_for_and_not_for_ever() -> None:
    counts, looks = iter([3, 3, 2, 1]), []
    assert wait_for_end(lambda: next(counts), 2, 9)
    assert next(counts) == 1
    assert not wait_for_end(lambda: looks.append(1) or 5, 2, 7)
    assert len(looks) == 7


# --- words ------------------------------------------------------------------------------------------------------------

ANY = 0xFFFFFFFF


def test_those_who_wait_longest_are_woken() -> None:
    futexes = Futexes(lambda channel: True)
    waiters = [futexes.wait(channel, 0x1000, ANY, is_shared=False) for channel in range(3)]
    assert futexes.wake(0x2000, 9, ANY) == 0
    assert futexes.wake(0x1000, 2, ANY) == 2
    assert [waiter is not None and waiter.is_woken for waiter in waiters] == [True, True, False]
    assert futexes.wake(0x1000, 2, ANY) == 1
    assert futexes.wake(0x1000, 2, ANY) == 0


def test_bits_choose_who_is_woken() -> None:
    futexes = Futexes(lambda channel: True)
    first, second = (futexes.wait(0, 0x1000, bits, is_shared=False) for bits in (1, 6))
    assert first is not None
    assert second is not None
    assert futexes.wake(0x1000, 9, 2) == 1
    assert (first.is_woken, second.is_woken) == (False, True)


def test_a_word_that_may_have_changed_is_looked_at_again() -> None:
    futexes = Futexes(lambda channel: channel == 1)
    assert futexes.wait(0, 0x1000, ANY, is_shared=False) is None
    assert futexes.wait(1, 0x1000, ANY, is_shared=False) is not None


def test_the_end_of_a_thread_wakes_those_that_may_wait_for_it() -> None:
    futexes = Futexes(lambda channel: True)
    joins, locks = (futexes.wait(0, 0x1000, ANY, is_shared=is_shared) for is_shared in (True, False))
    assert joins is not None
    assert locks is not None
    futexes.thread_ended()
    assert (joins.is_woken, locks.is_woken) == (True, False)


def test_a_wait_that_has_ended_is_woken_no_more() -> None:
    futexes = Futexes(lambda channel: True)
    waiter = futexes.wait(0, 0x1000, ANY, is_shared=False)
    assert waiter is not None
    futexes.leave(0x1000, waiter)
    futexes.leave(0x1000, waiter)
    assert futexes.wake(0x1000, 9, ANY) == 0


def test_a_thread_that_lingers_runs_until_it_has_gone() -> None:
    turns = OneByOne(0)
    turns.goes(1, 0)
    turns.stops(0)
    turns.lines_up(0)
    turns.stops(1)
    turns.lingers()
    assert not turns.has_turn(0)
    assert turns.has_turn(0, overdue=True)
    turns.goes(0, 0)
    assert not turns.was_alone(0)  # the word that it has read may be cleared meanwhile
    turns.stops(0)
    assert not turns.may_go_on(0, 0)
    turns.has_gone()
    assert turns.may_go_on(0, 0)


def test_a_thread_that_was_not_made_does_not_run() -> None:
    turns = OneByOne(0)
    turns.goes(1, 0)
    turns.stops(0)
    assert not turns.may_go_on(0, 0)
    turns.keeps({0})
    assert turns.may_go_on(0, 0)


THREADS = """
import threading
for _ in range(5):
    threads = [threading.Thread(target=sorted, args=["word"]) for _ in range(3)]
    for each in threads: each.start()
    for each in threads: each.join()
print("done")
"""


@pytest.mark.parametrize("late", [30, 1 << 60])
def test_a_driver_does_not_wait_for_the_end_of_a_thread(
    late: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's count is late by some looks, as on a busy machine; a hostile thread never ends."""
    counted, ended, looks, most = recorded.threads_of, RecordingDispatcher._ended, 0, 0

    def count(process: GuestProcess) -> int:
        nonlocal looks
        looks += 1
        return counted(process) if looks > late else 9

    def looked(*args: Any) -> None:
        nonlocal looks, most
        looks = 0
        ended(*args)
        most = max(most, looks)

    monkeypatch.setattr(recorded, "threads_of", count)
    monkeypatch.setattr(RecordingDispatcher, "_ended", looked)
    if late == 30:  # a late thread is about to run; the threads of this test are not
        monkeypatch.setattr(recorded, "all_wait", lambda pid: False)
    path = tmp_path / "run.pbx"
    result = proxybox.run(THREADS, record=path, policy=Policy(limits=Limits(wall_time=60)))
    assert (result.stdout, result.record_fault, result.record_exact) == ("done\n", "", late == 30)
    assert most == recording._LOOKS_AT_END
    monkeypatch.undo()
    assert proxybox.replay(path).ok


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorders that would wait for a missing thread until the end of the box."""
    monkeypatch.setattr(Patience, "is_over", lambda *_: False)


def replayed(code: str, record: Path, guest: str) -> str:
    """Runs and replays a program, and returns its output."""
    result = proxybox.run(code, record=record, guest=guest, policy=Policy(limits=Limits(wall_time=60)))
    assert (result.status, result.stderr, result.record_fault) == (proxybox.Status.OK, "", "")
    done = proxybox.replay(record, guest=guest)
    assert (done.ok, done.divergence) == (True, None)
    return result.stdout


SOME_THREADS = """
import threading
done, lock = [], threading.Lock()
def work(k):
    for _ in range(30):
        with lock: done.append(k)
for k in range(5):
    try: threading.Thread(target=work, args=[k]).start()
    except RuntimeError: print("no thread", k)
for each in threading.enumerate():
    if each is not threading.current_thread(): each.join()
print(len(done), sorted(set(done)))
"""


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("guest", ["pypy", "cpython"])
@pytest.mark.parametrize("who", ["the kernel", "the listener"])
def test_nobody_waits_for_a_thread_that_was_not_made(
    who: str, guest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example because of RLIMIT_NPROC: the controller has allowed the clone, but the guest gets EAGAIN."""
    allow, admits, seen = GuestListener.allow_thread, GuestListener.admits, itertools.count()

    def allow_some(guest_listener: GuestListener, notification: Notification) -> bool:
        return (
            guest_listener.listener.refuse(notification)
            if next(seen) in (1, 3)
            else allow(guest_listener, notification)
        )

    def admit_some(guest_listener: GuestListener, tid: int) -> bool:
        return next(seen) not in (1, 3) and admits(guest_listener, tid)

    if who == "the kernel":
        monkeypatch.setattr(GuestListener, "allow_thread", allow_some)
    else:
        monkeypatch.setattr(GuestListener, "admits", admit_some)
    assert replayed(SOME_THREADS, tmp_path / "run.pbx", guest) == "no thread 1\nno thread 3\n90 [0, 2, 4]\n"


@pytest.mark.usefixtures("patient")
def test_nobody_waits_for_a_thread_without_a_stack(tmp_path: Path) -> None:
    clone = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); null = ctypes.c_long(0)\n"
    clone += "libc.syscall(56, ctypes.c_long(0x3d0f00), ctypes.c_long(1 << 20), null, null, null, null)\n"
    clone += "assert ctypes.get_errno() == 14\n"
    assert replayed(clone + SOME_THREADS, tmp_path / "run.pbx", "cpython") == "150 [0, 1, 2, 3, 4]\n"


WITHOUT_MAIN = """
import ctypes, os, threading
def work():
    for k in range(20):
        each = threading.Thread(target=sum, args=[[k]]); each.start(); each.join()
    print("done", flush=True)
    os._exit(0)
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.usefixtures("patient")
def test_nobody_waits_for_a_main_thread_that_has_ended(tmp_path: Path) -> None:
    """The kernel counts it as a thread until the process ends."""
    assert replayed(WITHOUT_MAIN, tmp_path / "run.pbx", "cpython") == "done\n"


def test_a_signal_takes_no_wake_from_those_who_wait() -> None:
    """As in the kernel: a wait that was woken returns 0, even when a signal comes before its answer."""
    world: Any = SimpleNamespace(futexes=Futexes(lambda channel: True))
    thread: Any = SimpleNamespace(channel=0)
    wait, wake = abi.FUTEX_WAIT | abi.FUTEX_PRIVATE_FLAG, abi.FUTEX_WAKE | abi.FUTEX_PRIVATE_FLAG
    first, second = (futex(world, thread, 0x1000, wait, 7, None, 0, 0) for _ in range(2))
    assert futex(world, thread, 0x1000, wake, 1, None, 0, 0) == 1
    assert [each.on_interrupt() for each in (first, second)] == [0, -errno.EINTR]  # type: ignore[union-attr]
    assert futex(world, thread, 0x1000, wake, 9, None, 0, 0) == 0


def test_each_answer_is_given_beside_a_thread_that_does_not_compute() -> None:
    """For example one that was allowed and not made.

    The second in the queue has waited long when it becomes the first.
    """

    class Answering(RecordingDispatcher):
        def _goes(self, channel: int, frame: bytes, reply: Any, noted: Any) -> Any:
            turns.goes(channel, 0)
            return reply

    turns, dispatcher, given = OneByOne(9), object.__new__(Answering), list[int]()
    noted: Any = SimpleNamespace(inexact=None, note=lambda *_: None)
    dispatcher._recorder, dispatcher._is_lingering, dispatcher._watched = noted, False, -1
    dispatcher.patience = Patience(lambda: 0, lambda: True)
    waits: dict[int, Any] = {each: dispatcher._in_turn(turns, each, b"", each, (None, None)) for each in (1, 2, 3)}
    for _ in range(12):
        for channel, wait in tuple(waits.items()):
            reply = wait.on_timeout()
            if isinstance(reply, Blocked):
                waits[channel] = reply
            else:
                given.append(channel)
                del waits[channel]
        for channel in given:
            turns.stops(channel)
    assert given == [1, 2, 3]
