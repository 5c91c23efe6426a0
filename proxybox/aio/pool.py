"""Pools for event loops: a `Pool` that tasks wait for without threads."""

import contextlib
import os
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

from proxybox.aio.feed import loop_door  # isort: skip - says what to install

import anyio

from proxybox import argumentchecks
from proxybox.aio.sandbox import AsyncSandbox
from proxybox.aio.session import AsyncSession
from proxybox.argumentchecks import Content, Input
from proxybox.controller.boxes.box import BoxRunner, LiveBox
from proxybox.controller.drivers.blocking import Outcome
from proxybox.controller.guests.guest import require_bootstrap
from proxybox.controller.warm.ready import is_void
from proxybox.controller.warm.session import LiveSession
from proxybox.controller.world.streams import StandardStreams
from proxybox.policies import Policy
from proxybox.pool.boxes import PoolBoxes
from proxybox.pool.pool import with_preload
from proxybox.program import Program
from proxybox.sandbox import Functions


class AsyncPool(AsyncSandbox):
    """`Pool` for an event loop: boxes that are started before programs need them.

    size: how many boxes are kept ready, and how many are in use at once; further callers wait. policy, policy_fields,
    preload, warm, functions, packages, guest, record, record_limit, record_redact: as for `Pool`. interceptors, audit,
    guest_library, record_required: as for `AsyncSandbox`.
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] | None = None,
        *,
        size: int = 4,
        preload: Iterable[str] = (),
        functions: Functions | None = None,
        warm: bool = True,
        packages: Sequence[str | os.PathLike[str]] = (),
        guest: str | os.PathLike[str] | None = None,
        record: str | os.PathLike[str] | None = None,
        record_limit: int | str | None = None,
        record_redact: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.size = argumentchecks.count("size", size, 1)
        argumentchecks.flag("warm", warm)
        super().__init__(
            policy, functions=functions, warm=warm, packages=packages, guest=guest, record=record,
            record_limit=record_limit, record_redact=record_redact, **options,
        )  # fmt: skip
        self.policy = with_preload(self.policy, preload, {})
        self._slots: anyio.Semaphore | None = None
        box = self._box(None)
        require_bootstrap(box.guest)
        self._ready = PoolBoxes(box, self._functions, size, warm=warm)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncGenerator[float]:
        """Waits while `size` programs run."""
        asked = time.monotonic_ns()
        async with self._slot():
            try:
                yield (time.monotonic_ns() - asked) / 1e9
            finally:
                self._ready.refill()

    @property
    def ready(self) -> int:
        """How many boxes are ready now."""
        return self._ready.ready

    async def session(  # type: ignore[override]
        self, *, timeout: float | str | None = None, record: str | os.PathLike[str] | None = None
    ) -> AsyncSession:
        """Starts a session in a ready box; a session with a record gets a new box. record: as for `Sandbox`.

        Until it is closed, it counts as a program that runs. It begins with an empty /box, like sessions of `Pool`.
        """
        argumentchecks.duration("timeout", timeout)
        slots, door = self._slot(), loop_door()
        await slots.acquire()

        def release() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                door(slots.release)

        try:
            session = await super().session(timeout=timeout, record=record)
        except BaseException:
            slots.release()
            raise
        session._live.at_end.append(release)
        return session

    def _slot(self) -> anyio.Semaphore:
        self._check_open()
        if self._slots is None:
            self._slots = anyio.Semaphore(self.size)
        return self._slots

    def _open(self, box: BoxRunner, program: Program, streams: StandardStreams) -> LiveBox:
        if box.is_observed or self._has_own_variables(box.policy):  # such a run starts its own interpreter
            return super()._open(box, program, streams)
        return self._ready.take(box.policy).open(program.words, box, folder=program, streams=streams)

    def _is_void(self, live: LiveBox, outcome: Outcome) -> bool:
        """Whether the guest was killed from outside while its box was waiting; then another box runs the program."""
        return is_void(live, outcome)

    def _open_session(
        self, files: Content | None, folder: str | os.PathLike[str] | None, stdin: Input, policy: Policy | None = None,
        taking: Any = None,
    ) -> LiveSession:  # fmt: skip
        if taking is not None:
            return super()._open_session(files, folder, stdin, policy, taking)
        live = self._ready.take().session()
        self._ready.refill()
        self._copies.add(live.copies)
        return live

    def _settle(self) -> None:
        self._ready.close()
        super()._settle()
