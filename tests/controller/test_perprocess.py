"""An object of which a process has one: made once, by the first thread that calls, and again in each forked child."""

import ast
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxybox.controller.perprocess import PerProcess

ROOT = Path(__file__).resolve().parents[2]


class Meeting:
    """Makes an object slowly: it sets `making`, and then waits for `go`."""

    def __init__(self) -> None:
        self.making, self.go = threading.Event(), threading.Event()
        self.made: list[object] = []

    def __call__(self) -> object:
        self.made.append(object())
        self.making.set()
        assert self.go.wait(60)
        return self.made[-1]


class Lock:
    """A lock that sets `waits` when a thread has to wait for it."""

    def __init__(self) -> None:
        self._lock, self.waits = threading.Lock(), threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.waits.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_of_two_threads_that_ask_first_at_once_one_makes_it() -> None:
    meeting, lock, found = Meeting(), Lock(), list[object]()
    one = PerProcess(meeting)
    one._making = lock
    threads = [threading.Thread(target=lambda: found.append(one()), daemon=True) for _ in range(2)]
    threads[0].start()
    assert meeting.making.wait(60)
    threads[1].start()
    assert lock.waits.wait(60), "the second thread has not waited for the first: two objects are made"
    meeting.go.set()
    for each in threads:
        each.join(60)
    assert found == meeting.made * 2


def test_what_cannot_be_made_is_tried_again() -> None:
    answers = iter([RuntimeError("no thread is left"), None])

    def make() -> list[int]:
        if error := next(answers):
            raise error
        return []

    one = PerProcess(make)
    with pytest.raises(RuntimeError, match="no thread is left"):
        one()
    assert one.made is None
    assert one() is one() is one.made


FORKS = """
import os, signal, threading
from proxybox.controller.perprocess import PerProcess

signal.alarm(60)  # a child that waits for a lock of its parent
begun, end = threading.Event(), threading.Event()

class Worker:
    def __init__(self):
        self.thread = threading.Thread(target=end.wait, daemon=True)
        self.thread.start()

@PerProcess
def held():
    begun.set()
    end.wait()

forgotten = []
worker, lock, unused = PerProcess(Worker, forgotten.append), PerProcess(threading.Lock), PerProcess(list, print)
threading.Thread(target=held, daemon=True).start()  # it makes something while this process is forked
begun.wait()

def generation(left):
    global end
    parents, known = worker(), len(forgotten)
    with lock():
        child = os.fork()
        if not child:
            end = threading.Event()  # the one before may be locked by the thread that waited for it
            assert worker.made is None and forgotten[known:] == [parents]
            assert worker() is worker() is not parents and worker().thread.is_alive()
            assert lock().acquire(blocking=False), "held by a thread of the parent"
            lock().release()
            end.set()
            held()
            assert unused.made is None
            if left:
                generation(left - 1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert worker() is parents and len(forgotten) == known

generation(2)
"""


def test_forked_children_have_none_of_their_parents() -> None:
    """Threads, a held lock and a half-made object are not in the children, nor in their children."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


#: Locks of modules that need no renewal after a fork: fork(2) itself waits for the first, and processes that use the
#: second have no children.
_AS_THEY_ARE = {"controller/process/launch.py:_forking", "proxybox/packages/downloading.py:_telling"}
_LOCKS = ("Lock", "RLock", "Condition", "Semaphore", "Event")


@pytest.mark.full
def test_no_module_has_a_lock_that_a_forked_child_would_wait_for() -> None:
    found = {
        f"{file.relative_to(ROOT)}:{ast.unparse(statement.targets[0])}"
        for folder in ("controller", "policies", "proxybox")
        for file in (ROOT / folder).rglob("*.py")
        for statement in ast.parse(file.read_text()).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)
        if ast.unparse(statement.value.func) in {f"threading.{kind}" for kind in _LOCKS}
    }
    assert found == _AS_THEY_ARE, "make the lock with PerProcess(threading.Lock), and use it as `with lock():`"
