"""Interrupts of recorded programs wait for the program's next call: none is lost, doubled, or for another call."""

import select
import threading
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import Status
from proxybox.controller.boxes.recorded import RecordedRunner
from proxybox.controller.drivers.serving import Serving
from proxybox.controller.drivers.signalling import SignalDelivery
from proxybox.controller.record import recording
from proxybox.controller.record.recorder import Recorder

#: Calls a host function that interrupts the program a moment later, while it computes.
BEGINS = "import host; host.begins()\n"
COMPUTES = "for _ in range(60_000_000): pass\n"
#: A limit that ends a program whose interrupt was lost.
FEW = {"wall_time": 20}


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run.pbx"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts wait for the program's next call, however slow the machine is."""
    monkeypatch.setattr(recording.RecordingDispatcher, "patience_ns", 10**11)


def soon(does: Any) -> threading.Timer:
    """Calls a function in another thread a moment later, while the program computes."""
    timer = threading.Timer(0.05, does)
    timer.start()
    return timer


@pytest.mark.usefixtures("patient")
def test_an_interrupt_of_a_call_that_has_ended_is_not_one_of_the_next(record: Path) -> None:
    others = []
    with (
        proxybox.Sandbox(functions={"begins": lambda: others.append(soon(session.interrupt))}) as box,
        box.session(record=record) as session,
    ):
        assert session.exec(BEGINS + COMPUTES).ok
        others[0].join()
        assert session.exec("import os; os.getppid(); print('went on')").stdout == "went on\n"
    assert proxybox.replay(record).ok


def test_an_interrupt_comes_at_once_where_no_thread_can_be_started(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    def interrupt() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Timer, "start", broken)
            box.interrupt()

    others = []
    code = "import host\ntry:\n    host.begins()\n    while True: pass\nexcept KeyboardInterrupt: print('interrupted')"
    with proxybox.Sandbox(functions={"begins": lambda: others.append(soon(interrupt))}, limits=FEW) as box:
        result = box.run(code, record=record)
    others[0].join()
    assert (result.status, result.stdout) == (Status.OK, "interrupted\n")


@pytest.mark.usefixtures("patient")
def test_an_interrupt_that_waits_no_longer_ends_the_wait_of_a_call_on_its_way(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGINT comes just after the program's request to sleep: it is pending, and must interrupt the sleep."""

    def holds_back(delivery: SignalDelivery) -> bool:
        (driver,) = (driver for spec in box._boxes for driver in spec._running)
        if driver.computes:
            select.select([driver.main_fd], [], [], 60)
        return False

    code = f"""
import signal, time
signal.setitimer(signal.ITIMER_REAL, 900)
{BEGINS}{COMPUTES}
try: time.sleep(1000)
except KeyboardInterrupt: print("interrupted")
"""
    others = []
    with proxybox.Sandbox(functions={"begins": lambda: others.append(soon(interrupt))}, limits=FEW) as box:

        def interrupt() -> None:
            monkeypatch.setattr(SignalDelivery, "_holds_back", holds_back)
            box.interrupt()

        result = box.run(code, record=record)
    others[0].join()
    assert (result.status, result.stdout) == (Status.OK, "interrupted\n")


def test_an_interrupt_while_a_thread_is_let_in(record: Path) -> None:
    """The interrupting thread reads whether the program computes, while the driver adds the line of a new thread."""

    class Meanwhile:
        thread = object()

        def __init__(self, lines: dict[int, Any]) -> None:
            self.lines = lines

        @property
        def blocked(self) -> object:
            self.lines[1] = self
            return self

    def look() -> bool:
        (driver,) = (driver for spec in box._boxes for driver in spec._running)
        with monkeypatch.context() as patch:
            lines: dict[int, Any] = {}
            lines[0] = Meanwhile(lines)
            patch.setattr(driver, "_lines", lines)
            return driver.computes

    with pytest.MonkeyPatch.context() as monkeypatch, proxybox.Sandbox(functions={"look": look}) as box:
        result = box.run("import host; print(host.look())", record=record)
    assert result.stdout == "False\n", result


def test_an_interrupt_as_the_program_ends_leaves_the_record_whole(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Recorder.note

    def interrupted(self: Recorder, *what: Any) -> None:
        note(self, *what)
        if what[0] == "ended":
            drivers[0]._signals._interrupt_now()

    monkeypatch.setattr(Recorder, "note", interrupted)
    drivers: list[Serving] = []
    served_by = RecordedRunner.served_by

    def serves(self: RecordedRunner, *args: Any) -> Any:
        made = served_by(self, *args)
        drivers.append(made[1])
        return made

    monkeypatch.setattr(RecordedRunner, "served_by", serves)
    with proxybox.Sandbox() as box, box.session(record=record) as session:
        assert session.exec("print(1)").ok
    assert proxybox.replay(record).ok
