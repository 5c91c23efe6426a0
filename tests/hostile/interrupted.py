"""A program for test_callers and test_ends: it disturbs a box at each line of its start, one line after another, or at
random moments. It prints each line or moment after which something was left behind, or the box had a wrong end.

usage: interrupted.py start | killed | random SEED COUNT (at the least, until a quarter of them came in time)

start: KeyboardInterrupt at every line. killed: kill -9 of all processes that the controller has started so far. random:
KeyboardInterrupt from a timer, anywhere in a box with threads, files and output. It is a process of its own, because
anything left behind would otherwise belong to the tests.
"""

import contextlib
import linecache
import os
import random
import signal
import sys
import time
from pathlib import Path

import proxybox

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "soak"))
import sweeps
from counts import Counts, descendants

BUSY = """
import os, threading
def work(n):
    for turn in range(20):
        with open(f"/tmp/{n}", "a") as file: file.write("x" * 5000)
        print(n, turn, os.path.getsize(f"/tmp/{n}"))
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for each in threads: each.start()
for each in threads: each.join()
"""


class AtLine:
    """A trace function that calls `act` at the nth line that runs of the files that start a box."""

    def __init__(self, nth, act):
        self.left, self.act, self.place = nth, act, None

    def __call__(self, frame, event, arg):
        name = os.path.basename(frame.f_code.co_filename)
        if "/controller/" not in frame.f_code.co_filename or name not in ("launch.py", "watchdog.py", "box.py"):
            return None
        # these hold only a lock, and the interpreter guards its `with`
        if frame.f_code.co_name in ("take", "give_back"):
            return None
        # At the end of a with block a trace function is called before __exit__. The interpreter runs no signal handlers
        # there.
        leaving = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with Closing")
        if event == "line" and not leaving:
            self.left -= 1
            if not self.left:
                self.place = f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
                sys.settrace(None)
                self.act()
        return self


def interrupt():
    signal.raise_signal(signal.SIGINT)


def kill():
    for pid in descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def report(place, before, seconds=0.1):
    end = time.monotonic() + seconds
    while (left := Counts.take().grown(before)) and time.monotonic() < end:
        pass
    if left:
        print(
            place,
            left,
            [
                os.readlink(f"/proc/self/fd/{fd}")
                for fd in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{fd}")
            ],
            flush=True,
        )


def at_every_line(act, check):
    for nth in sweeps.every(12, 2000):
        before = Counts.take()
        at_line = AtLine(nth, act)
        sys.settrace(at_line)
        try:
            result = proxybox.run("1", timeout=100)
        except (KeyboardInterrupt, proxybox.SandboxStartError) as error:
            result = type(error)  # not the error itself: its traceback would keep objects of the start alive
        finally:
            sys.settrace(None)
        if at_line.place is None:
            assert nth > 100, nth
            return
        if not check(result):
            print(at_line.place, repr(result), flush=True)
        report(at_line.place, before)


def is_right_for_killed(result):
    """Whether the box did not start, was killed, or had already ended."""
    if result is proxybox.SandboxStartError:
        return True
    return isinstance(result, proxybox.Result) and (result.signal == signal.SIGKILL or result.ok)


def at_random_moments(seed, count):
    def interrupt_here(*_):
        raise KeyboardInterrupt

    moments = random.Random(seed)
    signal.signal(signal.SIGALRM, interrupt_here)
    started = time.monotonic()
    proxybox.run(BUSY, check=True)
    usual, came, tried = time.monotonic() - started, 0, 0
    while tried < count or (came <= count / 4 and tried < 10 * count):
        tried += 1
        before, moment = Counts.take(), moments.uniform(1e-5, usual)
        try:
            signal.setitimer(signal.ITIMER_REAL, moment)
            result = proxybox.run(BUSY, timeout=200)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if not result.ok:
                print(moment, result, flush=True)
        except KeyboardInterrupt:
            came += 1
        report(moment, before)
    assert came > count / 4, came


def main(mode="start", *numbers):
    proxybox.run("1", check=True)
    proxybox.run(BUSY, check=True)
    if mode == "random":
        at_random_moments(*map(int, numbers))
    elif mode == "killed":
        at_every_line(kill, is_right_for_killed)
    else:
        at_every_line(interrupt, lambda result: result is KeyboardInterrupt)


main(*sys.argv[1:])
