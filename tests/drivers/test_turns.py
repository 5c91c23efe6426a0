"""The engine's turns in a simulation: guests that want much, little or nothing, or only compute."""

import os
import time

import attrs
import pytest

from proxybox.controller.drivers.turns import BURST, LONGEST_PATIENCE, PATIENCE, QUANTUM, EngineTurns, wait_readable


@attrs.define(eq=False)
class Guest:
    """A guest. cost_ns: of each request. think_ns:

    CPU time before the next; None: it makes none. asks: requests left.
    """

    cost_ns: int = 0
    think_ns: int | None = 0
    asks: float = float("inf")
    waits_natively: bool = False
    cpu: int | None = 0
    credit_ns: int = BURST
    step_ns: int = 0
    is_resting: bool = False
    is_stopped: bool = False
    dormant: int = 0
    left_ns: int = 0  # of the CPU time until the next request
    cpu_ns: int = 0
    served_ns: int = 0
    longest_ns: int = 0
    asked_at: int = 0

    @property
    def has_request(self) -> bool:
        return self.think_ns is not None and self.asks > 0 and self.left_ns <= 0

    @property
    def computes(self) -> bool:
        return self.waits_natively or (not self.has_request and (self.asks > 0 or self.think_ns is None))

    def guest_cpu_ns(self) -> int:
        return self.cpu_ns


class Cpu:
    """One CPU: an engine's round, and guests that share the remaining time equally."""

    def __init__(self, *guests: Guest) -> None:
        self.guests, self.now = set(guests), 0
        self.masked: set[Guest] = set()
        self.turns = EngineTurns(
            lambda: self.guests, self.masked.add, self.masked.discard, self.idle, lambda: 0, lambda: self.now
        )

    def idle(self, ns: int) -> bool:
        """Runs guests while the engine waits, until a guest that is not masked has a request.

        Returns whether one has.
        """
        end = self.now + ns
        while self.now < end:
            if any(each.has_request and each not in self.masked for each in self.guests):
                return True
            running = [each for each in self.guests if not each.has_request and each.computes]
            running = [each for each in running if not each.waits_natively]
            if not running:
                self.now = end
                break
            step = min([end - self.now, *(each.left_ns * len(running) for each in running if each.left_ns > 0)])
            self.now += step
            for each in running:
                each.cpu_ns += step // len(running)
                each.left_ns -= step // len(running)
                if each.has_request:
                    each.asked_at = self.now
        return False

    def round(self) -> None:
        if self.turns.resting:
            self.turns.go_on()
        else:
            self.idle(1_000_000)
        ready = [each for each in self.guests if each.has_request and each not in self.masked]
        for guest in sorted(ready, key=lambda each: each.credit_ns, reverse=True):
            if guest.credit_ns <= self.turns.line:
                if len(self.guests) > 1:
                    guest.credit_ns = max(guest.credit_ns, -BURST)
                    self.turns.rest(guest)
                    continue
                guest.credit_ns, self.turns.line = BURST, 0
            elif guest.credit_ns > self.turns.line + 2 * QUANTUM:
                self.turns.came(guest)
            guest.longest_ns = max(guest.longest_ns, self.now - guest.asked_at)
            self.now += guest.cost_ns
            guest.step_ns = guest.cost_ns
            guest.credit_ns -= guest.cost_ns
            guest.served_ns += guest.cost_ns
            guest.asks -= 1
            guest.left_ns = guest.think_ns or 0

    def run(self, ns: int) -> None:
        end = self.now + ns
        while self.now < end:
            self.round()


def test_equal_wishes_get_equal_parts():
    cpu = Cpu(*(Guest(cost_ns=10_000, think_ns=5_000) for _ in range(4)))
    cpu.run(1_000_000_000)
    served = [each.served_ns for each in cpu.guests]
    assert max(served) - min(served) <= 4 * QUANTUM


def test_dear_calls_get_no_more_than_cheap_ones():
    """Calls of 2.6 ms beside calls of 10 us: the turns depend on time, and not on the number of calls."""
    dear = [Guest(cost_ns=2_600_000, think_ns=1000) for _ in range(4)]
    cheap = Guest(cost_ns=10_000, think_ns=5_000)
    cpu = Cpu(cheap, *dear)
    cpu.run(2_000_000_000)
    assert cheap.served_ns + cheap.cpu_ns >= 0.9 * cpu.now / 5
    assert max(each.served_ns for each in dear) <= 1.1 * cpu.now / 5 + BURST


def test_who_asks_for_little_waits_for_one_step():
    """300 cheap calls beside guests that are already busy: each waits only for the current step."""
    slices = [Guest(cost_ns=200_000, think_ns=1000) for _ in range(8)]
    cpu = Cpu(*slices)
    cpu.run(500_000_000)
    cheap = Guest(cost_ns=10_000, think_ns=5_000, asks=300)
    cheap.asked_at = cpu.now
    cpu.guests.add(cheap)
    began = cpu.now
    while cheap.asks:
        cpu.round()
    assert cheap.longest_ns <= 2 * 200_000, cheap.longest_ns
    assert cpu.now - began <= 2 * 300 * 15_000 + 2_000_000, cpu.now - began


def test_who_only_computes_gets_a_part():
    """It makes no request, and needs the CPU time that the engine would use for others."""
    computing, asking = Guest(think_ns=None), Guest(cost_ns=20_000, think_ns=1000)
    cpu = Cpu(computing, asking)
    cpu.run(1_000_000_000)
    assert computing.cpu_ns >= 0.4 * cpu.now


def test_who_waits_natively_is_waited_for_by_nobody():
    """A native wait does not compute, although the guest has no request."""
    asking = Guest(cost_ns=10_000, think_ns=1000)
    cpu = Cpu(asking, *(Guest(think_ns=None, waits_natively=True) for _ in range(8)))
    cpu.run(1_000_000_000)
    assert asking.served_ns >= 0.8 * cpu.now


def test_who_sips_is_not_waited_for():
    """It uses a little of each wait, and the rest of the CPU is idle.

    It pays for all of it, and is no longer waited for.
    """
    sipper, asking = Guest(think_ns=None), Guest(cost_ns=10_000, think_ns=1000)
    now = 0

    def wait(ns: int) -> bool:
        nonlocal now
        now += ns
        sipper.cpu_ns += ns // 10
        return False

    turns = EngineTurns(lambda: {sipper, asking}, lambda _: None, lambda _: None, wait, lambda: 0, lambda: now)
    turns.rest(asking)
    turns.go_on()
    assert sipper.dormant
    assert sipper.credit_ns == BURST - PATIENCE
    asking.credit_ns = 0
    turns.go_on()
    assert not asking.is_resting


@pytest.mark.parametrize(
    ("step_ns", "patience_ns"),
    [(0, PATIENCE), (700_000, 700_000), (10**9, LONGEST_PATIENCE)],
)
def test_who_is_woken_slowly_is_waited_for_as_long_as_the_next_step_would_take(step_ns: int, patience_ns: int):
    """It has hardly run when its request comes; it is waited for the next time, too."""
    slow, asking, asked = Guest(think_ns=None, cpu=1), Guest(step_ns=step_ns), list[int]()
    now = 0

    def wait(ns: int) -> bool:
        nonlocal now
        asked.append(ns)
        now += min(ns, 180_000)
        slow.cpu_ns += 5_000
        return True

    turns = EngineTurns(lambda: {slow, asking}, lambda _: None, lambda _: None, wait, lambda: 0, lambda: now)
    turns.rest(asking)
    for _ in range(3):
        turns.go_on()
    assert asked == [patience_ns] * 3
    assert not slow.dormant


def test_who_computes_on_another_cpu_is_not_waited_for_for_long():
    """It gets no more of the other CPU when the engine rests."""
    elsewhere, asking = Guest(think_ns=None, cpu=1), Guest(cost_ns=10_000, think_ns=1000)
    now = waited = 0

    def wait(ns: int) -> bool:
        nonlocal now, waited
        now, waited = now + ns, waited + ns
        elsewhere.cpu_ns += ns
        return False

    turns = EngineTurns(lambda: {elsewhere, asking}, lambda _: None, lambda _: None, wait, lambda: 0, lambda: now)
    for _ in range(10_000):
        if asking.is_resting:
            turns.go_on()
        else:
            now += 11_000
            elsewhere.cpu_ns += 11_000
            asking.credit_ns -= 10_000
            if asking.credit_ns <= turns.line:
                turns.rest(asking)
    assert waited < 0.05 * now


def test_who_computes_where_the_engine_comes_to_is_waited_for_at_once():
    """It did not share the engine's CPU, but then the kernel has moved the engine to the guest's CPU."""
    elsewhere, asking = Guest(think_ns=None, cpu=1), Guest(cost_ns=10_000, think_ns=1000)
    now = here = 0

    def wait(ns: int) -> bool:
        nonlocal now
        now += ns
        elsewhere.cpu_ns += ns
        return False

    turns = EngineTurns(lambda: {elsewhere, asking}, lambda _: None, lambda _: None, wait, lambda: here, lambda: now)
    turns.rest(asking)
    turns.go_on()
    assert elsewhere.dormant
    before, here = now, 1
    turns.rest(asking)
    turns.go_on()
    assert now == before + PATIENCE
    assert not elsewhere.dormant


def test_who_is_alone_never_rests():
    asking = Guest(cost_ns=2_600_000, think_ns=1000)
    cpu = Cpu(asking)
    cpu.run(1_000_000_000)
    assert asking.served_ns >= 0.99 * cpu.now
    assert not asking.is_resting


def test_debts_are_bounded():
    """After a call of one second the guest is served again when others have had 30 ms, not a second."""
    dear, cheap = Guest(cost_ns=1_000_000_000, think_ns=1000, asks=2), Guest(cost_ns=10_000, think_ns=5_000)
    cpu = Cpu(dear, cheap)
    cpu.run(1_200_000_000)
    assert dear.asks == 0


def test_a_short_wait_ends_when_there_is_something():
    reading, writing = os.pipe()
    began = time.monotonic()
    assert not wait_readable(reading, 1000)
    os.write(writing, b"x")
    assert wait_readable(reading, 10**12)
    os.close(reading)
    os.close(writing)
    assert time.monotonic() - began < 100
