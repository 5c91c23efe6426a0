"""Signals to a process that accepts none: those that are pending in the kernel, and those that the controller holds
back.
"""

import os
import resource
import signal
import subprocess
import sys

import pytest

from proxybox.controller import hostproc
from proxybox.controller.process.signalled import SIGNALS_AT_ONCE
from proxybox.controller.process.watch import Watch

#: RLIMIT_SIGPENDING, which Python does not define.
SIGPENDING = 11

#: Blocks all signals, accepts one whose number it reads, and reports that.
DEAF = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
print(flush=True)
for line in sys.stdin:
    print(signal.sigwait([int(line)]), flush=True)
"""


@pytest.fixture
def deaf():
    with subprocess.Popen(
        [sys.executable, "-c", DEAF], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        child.stdout.readline()
        yield child
        child.kill()


@pytest.fixture
def watch(deaf):
    made = Watch(deaf.pid, os.pidfd_open(deaf.pid))
    yield made
    made.close()


def take(deaf, number):
    deaf.stdin.write(f"{number}\n")
    deaf.stdin.flush()
    assert deaf.stdout.readline() == f"{number}\n"


def test_a_real_time_signal_is_sent_again_when_it_has_been_taken(deaf, watch):
    assert watch.offer([40, 40, 41]) == [True, False, True]
    assert watch.offer([40]) == [False]
    take(deaf, 40)
    assert watch.offer([40, 41]) == [True, False]


def test_a_standard_signal_is_one_with_its_like(deaf, watch):
    assert watch.offer([10] * 20) == [True] * 20
    assert watch.undelivered() == 1 << 10 - 1


def test_no_more_than_a_few_are_on_their_way(deaf, watch):
    numbers = [*range(1, 6), *range(40, 60)]
    assert watch.offer(numbers).count(True) == SIGNALS_AT_ONCE
    assert watch.undelivered().bit_count() == SIGNALS_AT_ONCE
    assert not any(watch.offer(range(50, 60)))
    assert watch.send(signal.SIGINT), "the caller's own word is not the guest's"
    take(deaf, 40)
    assert watch.offer([55, 56]) == [True, False]


def test_what_the_kernel_has_no_room_for_is_kept(deaf, watch):
    """RLIMIT_SIGPENDING: EAGAIN for real-time signals. Standard signals arrive without their siginfo."""
    _, most = resource.prlimit(deaf.pid, SIGPENDING)
    resource.prlimit(deaf.pid, SIGPENDING, (0, most))
    assert watch.offer([40, 10]) == [False, True]
    resource.prlimit(deaf.pid, SIGPENDING, (most, most))
    assert watch.offer([40]) == [True]
    take(deaf, 40)


def state(watch):
    return hostproc.state(watch.pid)


@pytest.mark.parametrize(("stop", "go_on"), [("stop", "go_on"), ("wait_for_turn", "take_turn")])
def test_who_is_stopped_cannot_let_itself_go_on(deaf, watch, stop, go_on):
    """SIGCONT continues a process when it is sent, whether or not it is blocked."""
    getattr(watch, stop)()
    while state(watch) != "T":
        pass
    assert watch.offer([signal.SIGCONT, signal.SIGUSR1]) == [False, True]
    assert state(watch) == "T"
    assert watch.stops == 1
    getattr(watch, go_on)()
    assert watch.offer([signal.SIGCONT]) == [True]
    take(deaf, signal.SIGCONT)


def test_who_sleeps_goes_on_when_it_is_woken_and_has_its_turn(deaf, watch):
    watch.stop()
    watch.wait_for_turn()
    watch.take_turn()
    assert watch.is_stopped
    watch.wait_for_turn()
    watch.go_on()
    assert watch.is_stopped
    while state(watch) != "T":
        pass
    watch.take_turn()
    take(deaf, signal.SIGCONT)
    assert watch.stops == 1


def test_who_is_awake_does_not_wait_for_its_turn(deaf, watch):
    watch.wait_for_turn()
    with watch.awake():
        assert not watch.is_stopped
        watch.wait_for_turn()
        assert not watch.is_stopped
    watch.wait_for_turn()
    assert watch.is_stopped
