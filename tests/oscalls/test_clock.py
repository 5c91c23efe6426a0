"""The time and waits under each time policy."""

import errno
import struct

import pytest

from proxybox.controller import abi
from proxybox.controller.effects import Blocked
from proxybox.controller.oscalls import clock, memory, process, signals
from proxybox.controller.world.clock import MONOTONIC_START_NS, TICK_NS
from proxybox.policies import Time

SECOND = 10**9
START = 1_600_000_000


def read(box, clock_id=abi.CLOCK_REALTIME):
    seconds, ns = abi.TIMESPEC.unpack(box.written(clock.clock_gettime, clock_id, 8))
    return seconds * SECOND + ns


def sleep(box, seconds):
    return box.call(clock.nanosleep, abi.pack_timespec(int(seconds * SECOND)), 0)


def test_real_time_flows_with_the_host_but_hides_its_uptime(box):
    before, up = read(box), read(box, abi.CLOCK_MONOTONIC)
    box.host.ns += 3 * SECOND
    assert read(box) - before == 3 * SECOND
    assert read(box, abi.CLOCK_MONOTONIC) - up == 3 * SECOND
    assert up == MONOTONIC_START_NS


def test_frozen_time_stands_still(make_box):
    box = make_box(time=Time.frozen(START))
    box.host.ns += 77 * SECOND
    assert read(box) == START * SECOND
    assert read(box, abi.CLOCK_MONOTONIC) == read(box, abi.CLOCK_BOOTTIME)
    first, second = (read(box, abi.CLOCK_PROCESS_CPUTIME_ID) for _ in range(2))
    assert second > first  # so that a loop that polls it ends


def test_virtual_time_moves_by_reads_and_sleeps_alone(make_box):
    box = make_box(time=Time.virtual(START, sleep="skip"))
    assert read(box) == START * SECOND + TICK_NS
    box.host.ns += 77 * SECOND
    assert read(box) == START * SECOND + 2 * TICK_NS
    assert sleep(box, 3600) == 0
    assert read(box) == (START + 3600) * SECOND + 3 * TICK_NS


def test_virtual_time_with_real_sleeps_ends_where_it_said(make_box):
    box = make_box(time=Time.virtual(START, sleep="real"))
    wait = sleep(box, 2)
    assert wait.deadline_ns == box.host.ns + 2 * SECOND
    box.host.ns += 5 * SECOND  # the driver came late
    assert box.wait_out(wait) == 0
    assert read(box) == (START + 2) * SECOND + TICK_NS


def test_scaled_time_makes_waits_shorter(make_box):
    box = make_box(time=Time.scaled(10, start=START))
    box.host.ns += SECOND
    assert read(box) == (START + 10) * SECOND
    assert sleep(box, 20).deadline_ns == box.host.ns + 2 * SECOND


def test_an_interrupted_sleep_tells_what_is_left(box):
    wait = box.call(clock.nanosleep, abi.pack_timespec(5 * SECOND), 64)
    box.host.ns += 2 * SECOND
    assert wait.on_interrupt() == (-errno.EINTR, (64, abi.pack_timespec(3 * SECOND)))


def test_absolute_sleeps_in_the_past_are_over(box):
    past = abi.pack_timespec(SECOND)
    assert box.call(clock.clock_nanosleep, abi.CLOCK_REALTIME, 1, past, 0) == 0


@pytest.mark.parametrize("time", [(-1, 0), (0, -1), (0, SECOND), (1 << 62, 1 << 62)])
def test_nonsense_times_are_einval(box, time):
    assert box.value(clock.nanosleep, struct.pack("<qq", *time), 0) == -errno.EINVAL


def test_the_longest_sleep_is_a_wait(box):
    wait = box.call(clock.nanosleep, struct.pack("<qq", (1 << 63) - 1, 0), 0)
    assert isinstance(wait, Blocked)


def test_clock_ids(box):
    for known in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, -6, -2):
        assert box.value(clock.clock_gettime, known, 8) == 0
        assert box.value(clock.clock_getres, known, 8) == 0
    own = (~box.world.process.pid << 3) | 6
    assert box.value(clock.clock_gettime, own, 8) == 0
    for unknown in (10, 12, 99, -1, -5 << 20, -(1 << 31)):
        assert box.value(clock.clock_gettime, unknown, 8) == -errno.EINVAL
    assert box.value(clock.clock_getres, 0, 0) == 0
    cpu = box.value(clock.clock_nanosleep, 2, 0, abi.pack_timespec(1), 0)
    assert cpu == -errno.EOPNOTSUPP
    assert box.value(clock.clock_settime, 0, 8) == -errno.EPERM


def test_old_clocks_agree(make_box):
    box = make_box(time=Time.frozen(START))
    assert box.value(clock.time, 0) == START
    assert box.written(clock.gettimeofday, 8, 0) == struct.pack("<qq", START, 0)
    assert box.call(clock.gettimeofday, 0, 0) == (0,)
    assert box.value(process.times, 0) == MONOTONIC_START_NS // 10**7


def test_two_virtual_runs_read_the_same(make_box):
    def run():
        box = make_box(time=Time.virtual(START, sleep="skip"))
        seen = []
        for step in range(20):
            box.host.ns += step * 12_345
            seen.append(read(box, (0, 1, 2, 3)[step % 4]))
            sleep(box, step / 7)
            seen.append(box.written(process.getrusage, 0, 8))
        return seen

    assert run() == run()


# --- alarms ---


def test_an_alarm_fires_at_its_time(box):
    box.world.signals.actions[abi.SIGALRM] = abi.SIGACTION.pack(4096, 0, 0, 0)
    assert box.value(signals.alarm, 5) == 0
    assert box.world.next_alarm_ns() == box.host.ns + 5 * SECOND
    box.world.fire_alarms()
    assert box.world.signals.outbox == []
    box.host.ns += 2 * SECOND
    assert box.value(signals.alarm, 9) == 3
    box.host.ns += 9 * SECOND
    box.world.fire_alarms()
    assert [signal.number for signal in box.world.signals.outbox] == [abi.SIGALRM]
    assert box.world.next_alarm_ns() is None


def test_an_interval_timer_goes_on(box):
    box.world.signals.actions[abi.SIGALRM] = abi.SIGACTION.pack(4096, 0, 0, 0)
    new = abi.pack_timeval(SECOND) + abi.pack_timeval(2 * SECOND)
    assert box.value(signals.setitimer, abi.ITIMER_REAL, new, 0) == 0
    assert box.written(signals.getitimer, abi.ITIMER_REAL, 8) == new
    box.host.ns += 10 * SECOND
    box.world.fire_alarms()
    assert len(box.world.signals.outbox) == 1
    assert box.world.next_alarm_ns() == box.host.ns + SECOND
    assert box.value(signals.setitimer, 7, new, 0) == -errno.EINVAL
    assert box.value(signals.setitimer, 0, struct.pack("<qqqq", 0, 0, 0, -1), 0) == -errno.EINVAL


@pytest.mark.parametrize("time", [Time.real(), Time.frozen(START), Time.scaled(1e6)])
def test_an_ignored_alarm_each_microsecond_does_not_spin_the_controller(make_box, time):
    box = make_box(time=time)
    box.world.signals.actions[abi.SIGALRM] = abi.SIGACTION.pack(abi.SIG_IGN, 0, 0, 0)
    microsecond = abi.pack_timeval(1_000)
    assert box.value(signals.setitimer, abi.ITIMER_REAL, microsecond + microsecond, 0) == 0
    start = box.host.ns
    for _ in range(10):
        box.host.ns = max(box.host.ns, box.world.next_alarm_ns())
        box.world.fire_alarms()
    assert box.host.ns - start >= 9_000_000


def test_a_skipped_sleep_stops_at_the_alarm(make_box):
    box = make_box(time=Time.virtual(START, sleep="skip"))
    box.world.signals.actions[abi.SIGALRM] = abi.SIGACTION.pack(4096, 0, 0, 0)
    box.value(signals.alarm, 5)
    assert sleep(box, 60) == -errno.EINTR
    assert read(box) == (START + 5) * SECOND + TICK_NS
    assert sleep(box, 60) == 0


def test_a_skipped_pause_ends_with_the_alarm(make_box):
    box = make_box(time=Time.virtual(START, sleep="skip"))
    box.world.signals.actions[abi.SIGALRM] = abi.SIGACTION.pack(4096, 0, 0, 0)
    box.value(signals.alarm, 5)
    assert box.call(signals.pause) == -errno.EINTR
    assert isinstance(box.call(signals.pause), Blocked)


def test_an_alarm_without_a_handler_ends_the_box(box):
    box.value(signals.alarm, 1)
    box.host.ns += SECOND
    box.world.fire_alarms()
    assert box.world.ending.signal == abi.SIGALRM


# --- futex ---

PRIVATE_WAIT = abi.FUTEX_WAIT | abi.FUTEX_PRIVATE_FLAG


def futex(box, timeout_ns, op=PRIVATE_WAIT, mark=0):
    time = None if timeout_ns is None else abi.pack_timespec(timeout_ns)
    box.world.thread.calls += 1
    return box.call(memory.futex, 4096, op, 1, time, mark, 0xFFFFFFFF)


def test_a_timed_futex_is_sliced_until_its_time(box):
    slices = 0
    while True:
        wait = futex(box, 10_000_000)
        result = box.wait_out(wait)
        if result != 0:
            break
        slices += 1
    assert result == -errno.ETIMEDOUT
    assert 5 < slices < 20
    assert box.world.thread.slice is None


def test_another_call_in_between_begins_a_new_wait(box):
    box.wait_out(futex(box, 60_000))
    box.world.thread.calls += 5
    wait = futex(box, 60_000)
    assert wait.deadline_ns == box.host.ns + 50_000
    box.wait_out(futex(box, 60_000, mark=memory.FIRST_SLICE))


def test_a_wait_that_was_left_is_not_gone_on_with(box):
    for _ in range(3):
        box.wait_out(futex(box, 300_000_000))
        box.host.ns += 200_000_000
    assert box.wait_out(futex(box, 300_000_000)) == 0


def test_a_skipped_futex_times_out_at_once_when_nobody_could_wake_it(make_box):
    box = make_box(time=Time.virtual(START, sleep="skip"))
    assert futex(box, 30 * SECOND) == -errno.ETIMEDOUT
    assert read(box) == (START + 30) * SECOND + TICK_NS
    box.world.allocate_thread()
    wait = futex(box, 30 * SECOND)
    assert isinstance(wait, Blocked)


def test_futex_refusals(box):
    assert futex(box, None, op=3) == -errno.ENOSYS
    assert futex(box, None, op=abi.FUTEX_WAKE) == 0
    assert isinstance(futex(box, None, op=abi.FUTEX_WAIT), Blocked)  # shared, without a timeout
    bad = box.call(memory.futex, 4096, 0, 1, struct.pack("<qq", 0, -1), 0, 0)
    assert bad == -errno.EINVAL
    assert box.call(memory.futex, 4096, abi.FUTEX_WAIT_BITSET, 1, None, 0, 0) == -errno.EINVAL
