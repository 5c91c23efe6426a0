"""New threads of a guest that is served: the kernel holds each clone until it is allowed here.

A clone is allowed when the handler of clone(2) has granted it, and when the guest has got the channels that it lacks.
"""

import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs

from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.drivers.threadchannels import ThreadChannel
from proxybox.controller.header import FIRST_CHANNEL_FD
from proxybox.controller.process.guestprocess import GuestProcess, open_channel
from proxybox.controller.process.installing import Installation, installers
from proxybox.controller.process.listener import GuestListener, Listener, Notification
from proxybox.controller.process.undisturbed import Undisturbed
from proxybox.controller.process.watch import Watch
from proxybox.controller.wire.channel import Channel
from proxybox.controller.world.state import GuestThread, World

#: Why a clone is refused where this process may not hold more descriptors for the guest.
_NO_DESCRIPTORS = "descriptors of the controller"

T = TypeVar("T")


@attrs.frozen(eq=False)
class LetIn:
    """A clone that was allowed. thread: the new one. stack: its stack. stops: how often the guest was stopped before.

    The kernel begins a clone again when its process is stopped in the middle of it (ERESTARTNOINTR in copy_process).
    """

    thread: GuestThread
    stack: int
    stops: int

    def is_begun_again(self, notification: Notification, watch: Watch) -> bool:
        """Whether this is the same clone, after a stop of the guest: another thread would have another stack."""
        return notification.stack == self.stack and watch.stops > self.stops


@attrs.frozen(eq=False)
class _Clone:
    """A clone that the kernel holds. thread: the new thread. is_again: whether the clone was allowed before."""

    guest_listener: GuestListener
    notification: Notification
    thread: GuestThread
    is_again: bool


class ThreadAdmission:
    """The threads that a guest makes.

    lines: the guest's channels, to which those of new threads are added. wake: wakes the driver. newborn: the threads
    that were granted, and whose clones were not allowed yet. is_blocking: whether serving may wait for the guest.
    """

    def __init__(
        self,
        process: GuestProcess,
        world: World,
        dispatcher: Dispatcher,
        lines: dict[int, ThreadChannel],
        wake: Callable[[], None],
    ) -> None:
        self._process, self._world, self._dispatcher, self._lines = process, world, dispatcher, lines
        self._wake = wake
        self.newborn: list[GuestThread] = []
        self.is_blocking = True
        self._installing: Installation[Any] | None = None  # for the first call that the kernel holds
        self._let_in: dict[int, LetIn] = {}  # the last clones, by the host's id of the calling thread

    def abandon(self) -> None:
        """Abandons an installation in the guest, which is about to end."""
        if self._installing is not None:
            self._installing.abandon()
            self._installing = None

    def note_threads(self) -> None:
        """Notes threads that a call has started or ended."""
        live = set(map(id, self._world.threads))
        self.newborn = [each for each in self.newborn if id(each) in live]
        for line in self._lines.values():
            if line.thread is not None and id(line.thread) not in live:
                line.thread = line.blocked = None
        for thread in self._world.threads:
            known = self._lines.get(thread.channel)
            if (known is None or known.thread is None) and thread not in self.newborn:
                self.newborn.append(thread)

    def answer(self, guest_listener: GuestListener) -> None:
        """Answers the calls that the kernel holds: clones, and mappings of libraries."""
        guest_listener.listener.sort()
        if self._installing is not None and self._installing.is_done:
            done, self._installing = self._installing, None
            done.finish()
        while self._installing is None and (notification := guest_listener.next_notification()) is not None:
            if notification.maps is not None:
                self._install(
                    partial(guest_listener.answer_mapping, notification, notification.maps), _nothing, _nothing
                )
            else:
                self._admit_thread(guest_listener, notification)

    def _install(self, work: Callable[[], T], then: Callable[[T], object], discard: Callable[[T], object]) -> None:
        """Calls `work`, which installs descriptors in the guest, and then `then` with its result.

        The installation waits until a thread of the guest runs. A driver that serves only this guest waits, too. The
        engine does not block: it is woken later. discard: releases a result that comes too late.
        """
        if self.is_blocking:
            with Undisturbed():  # until the channels are in _lines, so that `close` closes them
                then(work())
        else:
            self._installing = Installation(work, then, self._wake, discard)
            installers().submit(self._installing.run)

    def _admit_thread(self, guest_listener: GuestListener, notification: Notification) -> None:
        """Allows or refuses a clone that the kernel holds.

        It is allowed when the handler has granted it, the kernel's count of threads is within the limit, and the guest
        has got the channels that it lacks.
        """
        watch, before = self._process.watch, self._let_in.get(notification.tid)
        is_again = (
            before is not None and before.is_begun_again(notification, watch) and before.thread in self._world.threads
        )
        if not is_again and not self.newborn:
            guest_listener.refuse(notification)
            return
        thread = before.thread if before is not None and is_again else self.newborn[0]
        clone = _Clone(guest_listener, notification, thread, is_again)
        if not guest_listener.admits(notification.tid):
            self._refuse_thread(clone, "limits.threads")
            return
        lacking = [each.channel for each in self.newborn if each.channel not in self._lines]
        if not lacking:
            self._let_thread_in(clone)
            return
        try:
            self._world.allotment.take(2 * len(lacking))
        except OSError:
            self._refuse_thread(clone, _NO_DESCRIPTORS)
            return
        self._install(
            lambda: _opened(guest_listener.listener, notification, lacking),
            lambda opened: self._enter_channels(clone, lacking, opened),
            lambda opened: self._drop_channels(lacking, opened),
        )

    def _enter_channels(self, clone: "_Clone", lacking: list[int], opened: list[Channel]) -> None:
        """Adds the opened channels, and allows the clone if none is missing."""
        for number, channel in zip(lacking, opened, strict=False):
            self._lines[number] = ThreadChannel(channel)
        self._world.allotment.give_back(2 * (len(lacking) - len(opened)))
        if not self.is_blocking:
            for channel in opened:
                channel.set_blocking(False)
        if len(opened) == len(lacking):
            self._let_thread_in(clone)
        elif clone.guest_listener.listener.is_there(
            clone.notification
        ):  # otherwise the thread was stopped and calls again, or has ended
            self._refuse_thread(clone, _NO_DESCRIPTORS)

    def _drop_channels(self, lacking: list[int], opened: list[Channel]) -> None:
        for channel in opened:
            channel.close()
        self._world.allotment.give_back(2 * len(lacking))

    def _refuse_thread(self, clone: "_Clone", why: str) -> None:
        clone.guest_listener.listener.refuse(clone.notification)
        for each in [clone.thread] if clone.is_again else self.newborn:
            self._world.end_thread(each)
        if not clone.is_again:
            self.newborn.clear()
        self._dispatcher.refuse("clone", why, errno.EAGAIN)

    def _let_thread_in(self, clone: "_Clone") -> None:
        watch, thread, notification = self._process.watch, clone.thread, clone.notification
        if thread not in self._world.threads:  # it was ended while its channel was opened
            clone.guest_listener.listener.refuse(notification)
            return
        self._lines[thread.channel].thread = thread
        with watch.lock:
            if not clone.guest_listener.allow_thread(notification):
                return
            self._let_in[notification.tid] = LetIn(thread, notification.stack, watch.stops - watch.is_stopped)
        if not clone.is_again:
            self.newborn.remove(thread)
        if len(self._let_in) > len(self._world.threads):  # some of these threads have ended
            live = set(map(id, self._world.threads))
            self._let_in = {tid: each for tid, each in self._let_in.items() if id(each.thread) in live}


def _opened(listener: Listener, notification: Notification, numbers: Sequence[int]) -> list[Channel]:
    """Opens the channels of these numbers, and installs their far ends in the guest, until one of them fails."""
    opened: list[Channel] = []
    for number in numbers:
        channel = open_channel(listener, notification, FIRST_CHANNEL_FD + 2 * number)
        if channel is None:
            break
        opened.append(channel)
    return opened


def _nothing(_: object) -> None:
    pass
