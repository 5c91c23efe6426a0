"""Serves a guest from a record."""

import select
import time
from typing import Any

from proxybox.controller.drivers.blocking import BlockingDriver
from proxybox.controller.drivers.serving import GuestPhase
from proxybox.controller.record.replayer import Replayer


class ReplayDriver(BlockingDriver):
    """Serves a guest from a record. Unlike other drivers, it sends the signals that came while the guest computed."""

    replayer: Replayer

    def follow(self, replayer: Replayer) -> None:
        """Sets the replayer that answers the guest."""
        self.replayer, self._due, replayer.wake = replayer, replayer.due, self.wake

    def waits(self) -> tuple[dict[int, int], list[int], int | None]:
        """As `Serving.waits`, with the time of the next signal."""
        fds, callers, due = super().waits()
        self.replayer.has_deadline = due is not None
        return fds, callers, min((each for each in (due, *self._due) if each is not None), default=None)

    def serve_alone(self, *, once: bool = False) -> bool:
        """As `Serving.serve_alone`. It also reacts to `wake`, which `Replayer` calls where no call comes."""
        poll, main = select.poll(), self._main
        self.replayer.has_deadline = False
        for fd in (self.main_fd, self._wake):
            poll.register(fd, select.POLLIN)
        while self.is_alone and not self.is_over:
            ready = dict(poll.poll())
            if ready.keys() != {self.main_fd}:
                self.step(ready)
                continue
            frame = main.channel.receive()
            if frame == b"":
                self._phase = GuestPhase.GONE
            elif frame is not None:
                self._answer(main, frame)
            self.replayer.rounds += 1
            if once:
                break
        return self.is_alone

    def step(self, ready: Any) -> None:
        """As `Serving.step`, and sends a signal whose time has come."""
        super().step(ready)
        if not self.is_over:
            self.replayer.look(time.monotonic_ns())
            self._after()
        self.replayer.rounds += 1
