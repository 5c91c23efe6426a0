"""Clones that are not granted: they are refused at once while they are few, and then at a limited rate."""

import types

import pytest

from proxybox.controller.process import listener as listening
from proxybox.controller.process.listener import (
    REFUSED_AT_ONCE,
    REFUSED_EVERY_NS,
    GuestListener,
    Listener,
    Notification,
)


class Counting(Listener):
    """A listener without notifications that stores the refused ones."""

    def __init__(self):
        super().__init__(-1)
        self.refused = []

    def refuse(self, notification):
        self.refused.append(notification.identifier)


@pytest.fixture
def now(monkeypatch):
    """The host's time, which a test sets."""
    clock = types.SimpleNamespace(ns=10**15)
    monkeypatch.setattr(listening, "time", types.SimpleNamespace(monotonic_ns=lambda: clock.ns))
    return clock


@pytest.fixture
def guest_listener():
    return GuestListener(Counting(), 1, 4)


def notifications(first, last):
    return [Notification(number, 100 + number % 4, False, False) for number in range(first, last)]


def test_a_few_are_refused_at_once_and_the_rest_at_a_rate(now, guest_listener):
    refused = guest_listener.listener.refused
    for each in notifications(0, REFUSED_AT_ONCE):
        guest_listener.refuse(each)
    assert refused == list(range(REFUSED_AT_ONCE))
    assert guest_listener.late_ns is None
    for each in notifications(16, 19):
        guest_listener.refuse(each)
    assert len(refused) == REFUSED_AT_ONCE
    for turn in range(1, 4):
        assert guest_listener.late_ns == now.ns + REFUSED_EVERY_NS
        now.ns += REFUSED_EVERY_NS - 1
        guest_listener.refuse_late()
        assert len(refused) == REFUSED_AT_ONCE + turn - 1
        now.ns += 1
        guest_listener.refuse_late()
        assert len(refused) == REFUSED_AT_ONCE + turn
    assert refused == list(range(19))
    assert guest_listener.late_ns is None


def test_a_guest_that_was_quiet_is_answered_at_once_again(now, guest_listener):
    for each in notifications(0, 16):
        guest_listener.refuse(each)
    now.ns += 4 * REFUSED_EVERY_NS
    for each in notifications(16, 21):
        guest_listener.refuse(each)
    assert guest_listener.listener.refused == list(range(20))
    now.ns += 10**12
    for each in notifications(21, 60):
        guest_listener.refuse(each)
        guest_listener.refuse_late()
    assert len([each for each in guest_listener.listener.refused if each >= 21]) >= REFUSED_AT_ONCE - 1


def test_no_more_are_kept_than_can_stand_there(now, guest_listener):
    """A signal calls a thread away, which then clones again; other threads end, and new ones come."""
    for each in notifications(0, 1000):
        guest_listener.refuse(each)
    assert guest_listener.listener.refused == list(range(REFUSED_AT_ONCE))
    assert [each.identifier for each in guest_listener._unwelcome.values()] == [996, 997, 998, 999]
    for number in range(1000, 2000):
        guest_listener.refuse(Notification(number, number, False, False))
        assert len(guest_listener._unwelcome) <= 4
