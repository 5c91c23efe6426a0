"""Ending one run from outside: while it runs, waits, starts, and when it is over."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import proxybox
from proxybox import Running, Status
from proxybox.controller.boxes.box import BoxRunner

KINDS = ("new", "copied", "pool", "pool of processes")
#: Prints a line, and then prevents every stop that a program can prevent.
STAYS = """
import signal
for number in range(1, 32):
    if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSYS):
        signal.signal(number, signal.SIG_IGN)
print("here", flush=True)
while True:
    try:
        while True: pass
    except BaseException:
        pass
"""
SPINS = "try:\n  print('here', flush=True)\n  while True: pass\nexcept KeyboardInterrupt:\n  print('interrupted')"


@contextlib.contextmanager
def boxes_of(kind: str) -> Iterator[Any]:
    if kind.startswith("pool"):
        with proxybox.Pool(size=1, processes=int(kind != "pool")) as pool:
            yield pool
    else:
        with proxybox.Sandbox(warm=kind == "copied") as box:
            assert box.run("").ok
            yield box


@pytest.fixture(scope="module", params=KINDS)
def boxes(request: pytest.FixtureRequest) -> Iterator[Any]:
    with boxes_of(request.param) as made:
        yield made


class Job:
    """A run in a thread of its own. running: the handle that can end it; begun: set when it has printed."""

    def __init__(self, boxes: Any, code: str, **options: Any) -> None:
        self.begun, self._told = threading.Event(), threading.Event()
        self._found: list[Any] = []
        self._thread = threading.Thread(target=self._work, args=(boxes, code, options))
        self._thread.start()
        assert self._told.wait(60)

    def _work(self, boxes: Any, code: str, options: dict[str, Any]) -> None:
        try:
            self._found.append(boxes.run(code, on_stdout=lambda _: self.begun.set(), on_start=self._start, **options))
        except BaseException as error:
            self._found.append(error)
            self._told.set()

    def _start(self, running: Running) -> None:
        self.running = running
        self._told.set()

    def result(self) -> Any:
        self._thread.join(60)
        return self._found[0]


def test_a_program_that_runs_is_cancelled(boxes: Any) -> None:
    run = Job(boxes, STAYS)
    assert run.begun.wait(60)
    run.running.cancel()
    run.running.cancel()
    result = run.result()
    assert (result.status, result.why, result.stdout) == (Status.CANCELLED, "the caller ended it", "here\n")
    assert boxes.run("print(1)").stdout == "1\n"


def test_a_callback_of_the_run_itself_may_cancel_it(boxes: Any) -> None:
    known: list[Running] = []
    result = boxes.run(STAYS, on_start=known.append, on_stdout=lambda _: known[0].cancel())
    assert result.status is Status.CANCELLED


def test_what_is_cancelled_before_it_begins_never_begins(boxes: Any) -> None:
    printed: list[str] = []
    result = boxes.run("print(1)", on_start=Running.cancel, on_stdout=printed.append)
    assert (result.status, result.why, result.usage.calls) == (Status.CANCELLED, "the caller ended it", 0)
    assert printed == []
    with pytest.raises(proxybox.ExecutionError):
        boxes.run("print(1)", on_start=Running.cancel, check=True)


def test_after_the_end_nothing_happens_and_another_run_is_not_hit(boxes: Any) -> None:
    known: list[Running] = []
    assert boxes.run("print(1)", on_start=known.append).ok
    run = Job(boxes, STAYS)
    assert run.begun.wait(60)
    known[0].interrupt()
    known[0].cancel()
    run.running.cancel()
    assert run.result().stdout == "here\n"
    printed: list[str] = []
    assert boxes.run("print(2)", on_start=lambda _: known[0].cancel(), on_stdout=printed.append).ok
    assert printed == ["2\n"]


def test_on_start_comes_once_and_before_the_program(boxes: Any) -> None:
    events: list[str] = []
    result = boxes.run("print(1)", on_start=lambda _: events.append("start"), on_stdout=events.append)
    assert result.ok
    assert events[0] == "start"
    assert events.count("start") == 1
    with pytest.raises(ZeroDivisionError):
        boxes.run("print(1)", on_start=lambda _: 1 / 0, on_stdout=events.append)
    assert events.count("1\n") == 1
    with pytest.raises(TypeError, match="on_start: want a function or None"):
        boxes.run("print(1)", on_start=1)


@pytest.mark.parametrize("kind", KINDS)
def test_interrupt_is_as_ctrl_c(kind: str) -> None:
    with boxes_of(kind) as boxes:
        assert boxes.run("print(1)", on_start=Running.interrupt).stdout == "1\n"  # there is nothing to interrupt
        run = Job(boxes, SPINS)
        assert run.begun.wait(60)
        run.running.interrupt()
        result = run.result()
    assert (result.status, result.stdout) == (Status.OK, "here\ninterrupted\n")


@pytest.mark.parametrize("processes", [0, 1])
def test_runs_that_wait_for_a_pool_are_cancelled_where_they_wait(processes: int) -> None:
    with proxybox.Pool(size=1, processes=processes, limits={"cpu_time": 60, "wall_time": 60}) as pool:
        first = Job(pool, STAYS)
        assert first.begun.wait(60)
        waiting = [Job(pool, "print(1)") for _ in range(3)]
        waiting[0].running.cancel()
        waiting[1].running.cancel()
        for run in waiting[:2]:
            result = run.result()
            assert (result.status, result.usage.calls) == (Status.CANCELLED, 0)
            assert not run.begun.is_set()
        first.running.cancel()
        assert first.result().status is Status.CANCELLED
        assert waiting[2].result().stdout == "1\n"


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("by", ["cancel", "close"])
def test_a_run_that_is_cancelled_while_its_box_is_made_never_begins(
    kind: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[Running] = []
    world = BoxRunner.world

    def slow(box: BoxRunner, *args: Any) -> Any:
        known[0].cancel() if by == "cancel" else boxes._end()
        return world(box, *args)

    printed: list[str] = []
    with boxes_of(kind) as boxes:
        monkeypatch.setattr(BoxRunner, "world", slow)
        result = boxes.run("print(1)", on_start=known.append, on_stdout=printed.append)
        monkeypatch.undo()
    assert (result.status, printed) == (Status.CANCELLED, [])


def test_many_runs_are_cancelled_at_any_moment() -> None:
    with proxybox.Pool(size=2) as pool:
        for _ in range(3):
            runs = [Job(pool, STAYS) for _ in range(4)]
            for run in runs:
                run.running.cancel()
            assert {run.result().status for run in runs} == {Status.CANCELLED}
        assert pool.run("print(1)").stdout == "1\n"


def test_a_process_of_a_pool_goes_on_however_much_is_cancelled_in_it() -> None:
    with proxybox.Pool(size=2, processes=1) as pool:
        (worker,) = pool._boxes._workers
        for number in range(6):
            run = Job(pool, STAYS)
            assert number % 2 or run.begun.wait(60)  # every second one at any moment
            run.running.cancel()
            assert run.result().status is Status.CANCELLED
        assert pool._boxes._workers == [worker]
        assert not any(each.closed for each in worker.connections)
        assert [pool.run(f"print({n})").stdout for n in range(3)] == ["0\n", "1\n", "2\n"]


def test_a_job_of_a_pool_that_is_closed_before_it_has_begun_never_begins() -> None:
    """As in pool/worker.py when its socket is closed between a job and its beginning."""
    with proxybox.Pool(size=1) as pool:
        pool._boxes.cancel()
        printed: list[str] = []
        assert pool.run("print(1)", on_stdout=printed.append).status is Status.CANCELLED
    assert printed == []
