"""Boxes that would never end: guests that report their exit, or wait for input, and then go on natively.

Each driver serves them: the calling thread's, a pool's, a pool process's, and an event loop's engine.
"""

import os
import subprocess
import sys
import threading

import anyio
import pytest

import proxybox
from proxybox.controller.drivers.engine import the_engine
from proxybox.controller.process.watch import Watch

#: The only thread reports its exit, and then waits in the kernel, or computes, for ever.
GONE_AND_WAITING = "import raw; raw.exchange(raw.put(raw.frame(60, (7,))), raw.SLEEP)"
GONE_AND_COMPUTING = """
import raw
spin = raw.function(bytes([0xEB, 0xFE]))
raw.syscalls([raw.put(raw.frame(60, (7,)))])
spin()
"""
#: Each thread reports its exit; the last one is the main thread.
ALL_GONE = """
import raw, threading
def work():
    threading.current_thread()
    raw.exchange(raw.put(raw.frame(60, (7,)), 4 + 2 * 1), raw.SLEEP)
threading.Thread(target=work).start()
raw.exchange(raw.put(raw.frame(60, (7,))), raw.SLEEP)
"""


def blocking(code, **options):
    with proxybox.Sandbox(warm=False) as box:
        return box.run(code, **options)


def pool(code, **options):
    with proxybox.Pool(size=1) as pool:
        return pool.run(code, **options)


def processes(code, **options):
    with proxybox.Pool(size=1, processes=1) as pool:
        return pool.run(code, **options)


def loop(code, **options):
    async def run():
        async with proxybox.AsyncSandbox(warm=False) as box:
            return await box.run(code, **options)

    return anyio.run(run)


@pytest.fixture(scope="module", autouse=True)
def _engines(_warm):
    """Starts the engine before the tests: it lasts as long as the process."""
    the_engine()


@pytest.fixture(params=[blocking, pool, processes, loop], ids=lambda way: way.__name__)
def way(request):
    return request.param


@pytest.mark.parametrize("code", [GONE_AND_WAITING, GONE_AND_COMPUTING], ids=["waits", "computes"])
def test_the_only_thread_says_that_it_exits(way, hostile, code):
    """The controller accepts the report and ends the box at once. No limit is needed."""
    result = way(code, files=hostile.files, timeout=None)
    assert (result.status, result.exit_code) == ("error", 7), result


def test_the_last_of_several_threads_says_that_it_exits(hostile):
    result = hostile.run(ALL_GONE, timeout=100)
    assert (result.status, result.exit_code) == ("error", 7), result


def test_a_session_whose_thread_says_that_it_exits(sandbox, hostile):
    session = sandbox().session(files=hostile.files)
    result = session.exec(GONE_AND_WAITING)
    assert (result.exit_code, session.alive) == (7, False), result


def test_the_place_in_a_pool_is_free_again(hostile):
    with proxybox.Pool(size=1) as pool:
        for _ in range(3):
            assert pool.run(GONE_AND_WAITING, files=hostile.files).exit_code == 7
        assert pool.run("print(1)").ok


# --- input that does not come -----------------------------------------------------------------------------------------


@pytest.fixture
def silent():
    """A pipe into which nobody writes."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as file:
        yield file
    os.close(writing)


def test_input_from_a_pipe_counts(way, silent):
    result = way("input()", stdin=silent, timeout=0.3)
    assert (result.status, result.why) == ("time_limit", "limits.wall_time"), result


def test_processes_read_what_comes_as_it_comes():
    """A pipe is not read to its end before the program begins."""
    reading, writing = os.pipe()
    os.write(writing, b"first\n")

    def answer(text):
        os.write(writing, b"second\n")

    with open(reading, "rb", buffering=0) as file, proxybox.Pool(size=1, processes=1) as pool:
        result = pool.run("print(input(), flush=True); print(input())", stdin=file, on_stdout=answer)
    os.close(writing)
    assert result.stdout == "first\nsecond\n", result


def test_input_from_a_socket_counts(hostile):
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        result = hostile.run("input()", stdin=theirs, timeout=0.3)
    assert result.status == "time_limit", result


def answered_late(hostile, answers, **options):
    """The result of a program whose input comes late.

    answers: the descriptor to which the answer is written, 4 seconds after the program has asked.
    """
    timer = threading.Timer(4.0, os.write, [answers, b"late\n"])

    def seen(text):
        if text == "asks\n":
            timer.start()

    result = hostile.run("print('asks', flush=True)\nprint(input())", on_stdout=seen, **options)
    assert result.stdout.startswith("asks\n"), result
    timer.join()
    return result


def test_input_from_a_terminal_is_given_time(hostile):
    """The answer comes after the time limit, and the program still gets it."""
    controller, terminal = os.openpty()
    with open(terminal, closefd=True) as file:
        result = answered_late(hostile, controller, stdin=file, timeout=3)
    os.close(controller)
    assert result.stdout == "asks\nlate\n", result


@pytest.mark.sized(1)
@pytest.mark.parametrize(("word", "status"), [("free", "ok"), ("counted", "time_limit"), ("auto", "time_limit")])
def test_the_policy_has_the_last_word(hostile, word, status):
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as file:
        result = answered_late(hostile, writing, stdin=file, timeout=None, limits={"wall_time": 3, "input_wait": word})
    os.close(writing)
    assert result.status == status, result


@pytest.mark.parametrize(("word", "stands_still"), [("auto", True), ("free", True), ("counted", False)])
def test_a_function_may_be_counted(sandbox, word, stands_still):
    """Time that a function for input takes is the caller's, unless the policy says otherwise."""
    session = sandbox(limits={"input_wait": word}).session()
    seen = []

    def give(size):
        seen.append(session._live._live.process.watch.deadline_ns is None)
        return "x\n"

    assert session.eval("input()", stdin=give).value == "x"
    assert seen == [stands_still]


def test_a_pipe_on_the_command_line():
    reading, writing = os.pipe()
    try:
        told = subprocess.run(
            [sys.executable, "-m", "proxybox.cli", "run", "--timeout", "0.5", "-c", "input()"],
            stdin=reading, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        os.close(reading)
        os.close(writing)
    assert told.returncode == 124, told


# --- a call that was told to stop ---------------------------------------------------------------------------------------


def test_the_grace_of_an_interrupted_call_holds_whatever_it_waits_for():
    """While a driver waits for the caller's input, wall time stops, except the grace period of an interrupted call."""
    watch = Watch(os.getpid(), -1, deadline_ns=1000)
    watch.interrupted = "cancelled"
    assert watch.suspend() is None
    assert watch.deadline_ns == 1000


def test_a_stopped_call_that_reads_on_is_ended(sandbox):
    """The program catches the interrupt and reads the terminal again, where nobody answers."""
    controller, terminal = os.openpty()
    session = sandbox(session={"grace": 0.2}, limits={"wall_time": None}).session()
    code = "while True:\n    try: input()\n    except KeyboardInterrupt: pass"
    with open(terminal, closefd=True) as file:
        timer = threading.Timer(0.3, session._live.stop)
        timer.start()
        result = session.exec(code, stdin=file)
        timer.join()
    os.close(controller)
    assert result.status == "cancelled", result
    assert not session.alive
