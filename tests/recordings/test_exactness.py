"""What a record says about itself: whether a replay does the same, and from which call on it may differ.

Whether threads run at the same time, and whether a replay has parted, depends only on what the threads do. It does not
depend on the CPU time that they get on a busy machine.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import Inexact
from proxybox.controller.boxes import recorded, replayed
from proxybox.controller.process import activity
from proxybox.controller.process.activity import Patience
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.record import exactness, recording, watching
from proxybox.controller.record.replayer import Replayer
from tests.soak.busy import busy_loops
from tests.soak.records import generated

LIMITS = {"wall_time": 120, "cpu_time": 60}
THREADS = """
import threading
done, lock = [], threading.Lock()
def work(k):
    for n in range(40):
        with lock: done.append((k, n))
        sum(range(20_000))
threads = [threading.Thread(target=work, args=[k]) for k in range(4)]
for each in threads: each.start()
for each in threads: each.join()
print(done)
"""
#: One thread computes for long while another one wants to continue.
COMPUTES = """
import threading, time
computes = True
def look():
    global computes
    for _ in range(3): time.sleep(0.001)
    computes = False
threading.Thread(target=look).start()
n = 0
while computes: n += 1
print("ended")
"""


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run.pbx"


# --- patience ---------------------------------------------------------------------------------------------------------


def test_patience_ends_by_cpu_time_and_not_by_looks() -> None:
    spent = 0
    patience = Patience(lambda: spent, lambda: False)
    patience.begin()
    assert not any(patience.is_over(100) for _ in range(10_000))
    spent = 99
    assert not patience.is_over(100)
    spent = 100
    assert patience.is_over(100)
    patience.begin()
    assert not patience.is_over(100)


def test_patience_ends_where_nobody_does_anything() -> None:
    states = iter([(5, True), (6, True), (6, False), (6, True), (6, True)])
    now = (5, False)
    patience = Patience(lambda: now[0], lambda: now[1])
    patience.begin()
    over = []
    for now in states:  # noqa: B007 - the lambdas look at it
        over.append(patience.is_over(100))
    assert over == [False, False, False, False, True]


def test_a_process_whose_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(*states: str) -> bool:
        monkeypatch.setattr(activity.hostproc, "threads", lambda pid: [*range(len(states))])
        monkeypatch.setattr(activity.hostproc, "state", lambda tid: states[tid])
        return activity.all_wait(1)

    assert [of("S"), of("S", "S"), of("Z", "S")] == [True, True, True]
    assert [of(), of("Z"), of("S", "R"), of("T", "S"), of("S", "D"), of("t")] == [False] * 6


# --- the guest gets no CPU --------------------------------------------------------------------------------------------


class Stopping:
    """Stops a guest a few times, for longer than threads once had until their request, like the rotation of boxes."""

    def __init__(self, process: GuestProcess) -> None:
        self._watch, self.stops = process.watch, 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self.stops < 8 and self._watch.is_running():
            self._watch.stop()
            self.stops += 1
            time.sleep(0.25)
            self._watch.go_on()
            time.sleep(0.03)

    def join(self) -> None:
        self._thread.join()


def test_nobody_goes_on_beside_a_thread_that_gets_no_cpu(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping, served = list[Stopping](), recorded.RecordedRunner.served_by

    def served_by(spec: Any, process: GuestProcess, *args: Any) -> Any:
        stopping.append(Stopping(process))
        return served(spec, process, *args)

    monkeypatch.setattr(recorded.RecordedRunner, "served_by", served_by)
    result = proxybox.run(THREADS, record=record, limits=LIMITS)
    stopping[0].join()
    assert (result.status, result.record_inexact) == (proxybox.Status.OK, None)
    assert result.record_exact
    assert stopping[0].stops > 1
    assert proxybox.replay(record).ok


@pytest.mark.parametrize("code", ["print(sum(range(3_000_000)))", THREADS], ids=["one thread", "threads"])
def test_a_replayed_guest_that_gets_no_cpu_has_not_parted(
    code: str, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = proxybox.run(code, record=record, limits=LIMITS).check()
    stopping, watches = list[Stopping](), watching.watch

    def watch(it: Replayer, process: GuestProcess) -> None:
        watches(it, process)
        stopping.append(Stopping(process))

    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(replayed, "watch", watch)
    done = proxybox.replay(record)
    stopping[0].join()
    assert (done.ok, done.divergence, done.result.stdout) == (True, None, result.stdout)
    assert stopping[0].stops > 0


def test_a_call_that_does_not_come_is_noticed(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest waits for an answer that does not come: no thread computes, so no call can come."""
    proxybox.run("import os; os.getppid(); print(1)", record=record).check()
    answers = Replayer._answer

    def some(it: Replayer, channel: int, frame: bytes, *rest: Any) -> None:
        if int.from_bytes(frame[4:8], "little") != 110:  # getppid
            answers(it, channel, frame, *rest)

    monkeypatch.setattr(Replayer, "_answer", some)
    done = proxybox.replay(record)
    assert done.divergence is not None
    assert done.divergence.why == "a call does not come"


# --- what a record says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guest", ["pypy", "cpython"])
def test_a_thread_that_computes_beside_others_is_told(guest: str, record: Path) -> None:
    result = proxybox.run(COMPUTES, record=record, guest=guest, limits=LIMITS).check()
    inexact = result.record_inexact
    assert inexact is not None
    assert (inexact.why, result.record_exact, result.record_fault) == (exactness.BESIDE, False, "")
    done = proxybox.replay(record, guest=guest)
    assert done.inexact == inexact
    assert done.divergence is None or done.divergence.number >= inexact.call
    with proxybox.Record(record) as read:
        assert 1 < inexact.call <= sum(1 for _ in read.calls()) + 1
        assert read.inexact == inexact
    assert result.to_dict()["record_inexact"] == {"call": inexact.call, "why": exactness.BESIDE}


def test_a_signal_that_comes_late_is_told(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.RecordingDispatcher, "patience_ns", 1_000_000)
    code = """
import signal
rang = []
signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.01)
n = 0
while not rang: n += 1
print("rang")
"""
    result = proxybox.run(code, record=record, limits=LIMITS).check()
    assert result.record_inexact is not None
    assert result.record_inexact.why == exactness.LATE


def test_what_is_left_out_is_told(record: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("secret")
    result = proxybox.run(
        "print(len(open('/data/file').read()))", record=record, record_redact=["/data"],
        filesystem={"mounts": [f"{tmp_path}/data:/data"]},
    ).check()  # fmt: skip
    assert result.record_inexact is not None
    assert result.record_inexact.why == exactness.LEFT_OUT
    done = proxybox.replay(record)
    assert done.divergence is not None
    assert done.divergence.number == result.record_inexact.call


def test_an_exact_record_says_so(record: Path) -> None:
    result = proxybox.run("print(1)", record=record).check()
    assert (result.record_exact, result.record_inexact) == (True, None)
    assert result.to_dict()["record_exact"] is True
    assert not proxybox.run("print(1)").record_exact  # there is no record


@pytest.mark.parametrize("seen", [3, {}, {"call": 0, "why": ""}, {"call": True, "why": ""}, {"call": 1, "why": 2},
                                  {"call": 1, "why": "x" * 2000}])  # fmt: skip
def test_what_makes_no_sense_is_refused(seen: Any) -> None:
    with pytest.raises(proxybox.RecordError, match="inexact"):
        exactness.read_inexact(seen)


def test_what_is_told_is_read_again() -> None:
    seen = Inexact(7, "because")
    assert exactness.read_inexact(exactness.as_data(seen)) == seen
    assert exactness.read_inexact(exactness.as_data(None)) is None


# --- a busy machine ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy() -> Iterator[None]:
    """Four busy loops during the tests."""
    with busy_loops(4):
        yield


@pytest.mark.sized(1)
@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("seed", range(8))
def test_threads_on_a_busy_machine_are_replayed_or_told(seed: int, tmp_path: Path) -> None:
    for number, code in enumerate(generated(5, threaded=True, seed=seed)):
        path = tmp_path / f"{number}.pbx"
        functions = {"double": lambda n: 2 * n, "later": lambda text: text[::-1]}
        (tmp_path / "in.bin").write_bytes(bytes(range(256)))
        with proxybox.Sandbox(
            functions=functions, filesystem={"mounts": [f"{tmp_path / 'in.bin'}:/data/in.bin"]}, limits=LIMITS
        ) as box:  # fmt: skip
            result = box.run(code, stdin="typed\n" * 20, record=path)
        assert not result.record_fault
        done = proxybox.replay(path)
        assert done.ok or not result.record_exact, (code, done.divergence)
