"""Which callers may use a service now.

When a caller may no longer use it, everything that runs for the caller is ended.

    Edge, doors ── caller() ──► a Caller ── using() ──► each run, call of a session, stream and WebSocket of it

The keys are checked for each request. For tasks that run, they are checked every fifth of a second: a task is ended if
its key was revoked or has expired, if its secret was replaced, or if it has no key and keys were made. It makes no
difference which process has changed the file of keys.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from proxybox.serve.callers import ANONYMOUS, ITSELF, Caller
from proxybox.serve.config import ServiceConfig
from proxybox.serve.keys import Keys, KeysError, mark
from proxybox.serve.paths import AccessTable
from proxybox.serve.problems import Refusal

#: Seconds between two checks of the tasks that run.
_RHYTHM: Final = 0.2
#: Seconds that an answer has to report to its client that it was ended, before its connection is closed.
_TO_TELL: Final = 1.0

log = logging.getLogger("proxybox.serve")


@attrs.define(eq=False)
class _Use:
    """A task that works for a caller. caller: None while it is not known.

    patience: seconds until the task is ended after `since`, the time at which its caller was first found to be no
    longer allowed.
    """

    task: "asyncio.Task[object]"
    caller: Caller | None
    patience: float = 0.0
    since: float | None = None
    ended: bool = False


class Authority:
    """Who may use one service.

    on_look: functions that are called at each check, with a function that tests a key by its id. access: which paths
    keys of each scope may use. decides: whether keys decide who may use the service; otherwise, the code that uses the
    service checks its callers.
    """

    def __init__(self, config: ServiceConfig, *, decides: bool = True) -> None:
        self._decides = decides
        self.access = AccessTable()
        self.keys = Keys(config.keys_file)
        self.on_look: list[Callable[[Callable[[str], bool]], object]] = []
        self._may_be_open = config.is_local and not config.require_keys and config.keys is None
        self._named, self._mark = config.keys is not None, config.keys_mark
        self._uses: set[_Use] = set()

    def begin(self) -> None:
        """Checks whether the keys can be read, before the first request. Raises KeysError."""
        if not self._decides:
            return
        if self._named:
            if not self.keys.path.exists():
                raise KeysError(
                    f"{self.keys.path}: there is no such file of keys, which the configuration names: "
                    "make a key first (proxybox serve keys add NAME, with the same configuration)"
                )
            try:
                os.makedirs(self._mark.parent, mode=0o700, exist_ok=True)
                mark(self._mark)
            except OSError as error:
                log.warning("cannot note that keys are needed, in case the configuration forgets: %s", error)
        if self.keys.were_made and not any(key.is_good for key in self.keys.known().values()):
            log.warning("%s: no key is good, so nobody is let in (proxybox serve keys add NAME)", self.keys.path)

    # --- who asks -----------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether no key is needed: on loopback, as long as no key was ever made. Raises KeysError."""
        return self._may_be_open and not self.keys.were_made

    def caller(self, presented: str | None, path: str, *, is_open: bool) -> Caller:
        """Returns the caller who presents a key (or None) for a path. `is_open`: no key is needed. Raises Refusal."""
        if presented is not None:
            with _or_refused():
                found = self.keys.find(presented)
            if found is not None:
                caller = Caller.of(*found)
                if not self.access.may_use(caller.scope, path):
                    raise not_in_scope()
                return caller
        elif is_open:
            return ANONYMOUS
        raise no_key()

    def may(self, caller: Caller) -> bool:
        """Returns whether a caller that was allowed before is still allowed. Raises KeysError."""
        if caller.key == ITSELF.key or not self._decides:
            return True
        if caller.key == ANONYMOUS.key:
            return self.is_open
        key = self.keys.known().get(caller.key)
        return key is not None and key.takes(caller.digest)

    def _has(self, identity: str) -> bool:
        """Returns whether a key is valid, whichever of its secrets was presented. Raises KeysError."""
        if identity == ITSELF.key or not self._decides:
            return True
        if identity == ANONYMOUS.key:
            return self.is_open
        key = self.keys.known().get(identity)
        return key is not None and key.is_good

    # --- what goes on -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def using(self, caller: Caller) -> Iterator[None]:
        """A context that is cancelled when the caller is no longer allowed, and raises Refusal then."""
        with _or_refused():
            may = self.may(caller)
        if not may:
            raise ended()
        with self._using(caller, 0.0):
            yield

    @contextlib.contextmanager
    def visiting(self) -> Iterator[Callable[[Caller], None]]:
        """As `using`, for a request whose caller a door identifies, and passes to the function that this yields.

        The request is cancelled later than the tasks within it, so that its client can receive the reason.
        """
        with self._using(None, _TO_TELL) as use:
            yield lambda caller: setattr(use, "caller", caller)

    @contextlib.contextmanager
    def _using(self, caller: Caller | None, patience: float) -> Iterator[_Use]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine asks
        use = _Use(task, caller, patience)
        self._uses.add(use)
        try:
            yield use
        except asyncio.CancelledError:
            if use.ended and task.uncancel() <= 0:
                raise ended() from None
            raise
        finally:
            self._uses.discard(use)

    async def watch(self) -> None:
        """Ends the tasks of callers that are no longer allowed, until it is cancelled."""
        said = ""
        while True:
            await asyncio.sleep(_RHYTHM)
            try:
                self._sweep(time.monotonic())
                said = ""
            except KeysError as error:  # nothing new begins; tasks that run have limits of their own
                if said != str(error):
                    said = str(error)
                    log.error("nobody is let in: %s", said)
            except Exception:  # without this task nothing would end any more
                log.exception("what goes on could not be looked at")

    def _sweep(self, now: float) -> None:
        fates: dict[tuple[str, str], bool] = {}
        for use in tuple(self._uses):
            if use.caller is None or use.ended:
                continue
            who = use.caller.key, use.caller.digest
            if who not in fates:
                fates[who] = self.may(use.caller)
            if fates[who]:
                continue
            use.since = now if use.since is None else use.since
            if now - use.since >= use.patience:
                use.ended = True
                use.task.cancel()
        for tell in self.on_look:
            tell(self._has)


@contextlib.contextmanager
def _or_refused() -> Iterator[None]:
    """A context that turns KeysError (`watch` logs it) into Refusal: nobody gets in while keys cannot be read."""
    try:
        yield
    except KeysError:
        raise unreadable() from None


def unreadable() -> Refusal:
    """Returns the answer to requests while the keys cannot be read."""
    return Refusal("not-ready", "its keys cannot be read", headers={"Retry-After": "5"})


def no_key() -> Refusal:
    """Returns the answer to a request with no key, or with one that is not valid."""
    return Refusal("unauthorized", headers={"WWW-Authenticate": "Bearer"})


def not_in_scope() -> Refusal:
    """Returns the answer to a request whose key is for other paths."""
    return Refusal("forbidden", "the scope of this key does not have this path (docs/serve.md, keys)")


def ended() -> Refusal:
    """Returns the answer of a run or a session that was ended because its key is no longer valid."""
    return Refusal("unauthorized", "the key was revoked, or has expired", headers={"WWW-Authenticate": "Bearer"})
