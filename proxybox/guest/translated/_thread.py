"""Threads, where there is only one: locks work, and no other thread can be started."""

import time as _time

error = RuntimeError
TIMEOUT_MAX = 9223372036.0
_MAIN = 1


def get_ident():
    return _MAIN


def start_new_thread(function, args, kwargs=None):
    raise error("can't start new thread: this interpreter has one")


start_new = start_new_thread


def _count():
    return 0


def stack_size(size=0):
    if size:
        raise ValueError("size not valid: there is one thread")
    return 0


def interrupt_main():
    raise KeyboardInterrupt


def exit():
    raise SystemExit


exit_thread = exit


def _wait_in_vain(blocking, timeout):
    """Waits as acquire() does for a held lock, which no other thread can release."""
    if not blocking:
        if timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return False
    if timeout == -1:
        raise error("deadlock: there is one thread, and it waits for a lock that it holds")
    if timeout < 0:
        raise ValueError("timeout value must be positive")
    if timeout > TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")
    _time.sleep(timeout)
    return False


class LockType:
    """A lock."""

    __slots__ = ("_held", "__weakref__")

    def __init__(self):
        self._held = False

    def acquire(self, blocking=True, timeout=-1):
        if self._held:
            return _wait_in_vain(blocking, timeout)
        self._held = True
        return True

    def release(self):
        if not self._held:
            raise error("release unlocked lock")
        self._held = False

    def locked(self):
        return self._held

    __enter__ = acquire_lock = acquire
    release_lock, locked_lock = release, locked

    def __exit__(self, *args):
        self.release()

    def __repr__(self):
        return "<%s _thread.lock at 0x%x>" % ("locked" if self._held else "unlocked", id(self))


def allocate_lock():
    return LockType()


allocate = _set_sentinel = allocate_lock


class RLock:
    """A lock that its thread can acquire again."""

    __slots__ = ("_depth", "__weakref__")

    def __init__(self):
        self._depth = 0

    def acquire(self, blocking=True, timeout=-1):
        self._depth += 1
        return True

    def release(self):
        if not self._depth:
            raise error("cannot release un-acquired lock")
        self._depth -= 1

    __enter__ = acquire

    def __exit__(self, *args):
        self.release()

    def _is_owned(self):
        return self._depth > 0

    def _release_save(self):
        if not self._depth:
            raise error("cannot release un-acquired lock")
        depth, self._depth = self._depth, 0
        return depth, _MAIN

    def _acquire_restore(self, state):
        self._depth = state[0]

    def __repr__(self):
        return "<%s _thread.RLock owner=%d count=%d at 0x%x>" % (
            "locked" if self._depth else "unlocked",
            _MAIN if self._depth else 0,
            self._depth,
            id(self),
        )


class _local:
    """Attributes of a thread: an ordinary object, because there is only one thread."""

    def __new__(cls, *args, **kwargs):
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError("Initialization arguments are not supported")
        return object.__new__(cls)
