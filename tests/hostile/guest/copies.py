"""Copies of a session made by hand: the steps of the stub at a fork, each of which a test can leave out."""

import gc
import posix

import raw

#: The clone(2) that a fork makes, and the first call of its child.
CLONE = 56, 0x8000, 0, 0, 0, 0, raw.ROUTE
KNOCK = 157, 1, 9, 0, 0, 0, raw.ROUTE
ASKED, BORN = 0x1200011, raw.BORN


def clone():
    """Makes the native clone alone. Returns 0 in the child."""
    made = raw.words([CLONE])
    raw.batch(made)
    return raw.signed(made[7])


def knock():
    return raw.syscall(*KNOCK)


def be_born():
    """Does what an honest child does."""
    raw.check(knock())
    return raw.ask(BORN, (0, 0, 0))[0]


def granted():
    """Waits until the caller wants a copy. Returns the copy's process id in the box."""
    return raw.check(raw.ask(56, (ASKED,))[0]) >> 16


def instead(child, parent=lambda pid: None):
    """Replaces the next fork of the session: `parent` runs before the clone, `child` in the child after it."""

    def fork():
        pid = granted()
        parent(pid)
        if clone() == 0:
            child()
            return 0
        return pid

    replace_fork(fork)


def replace_fork(function):
    """Makes the session call `function` instead of its own fork."""
    if hasattr(gc, "unfreeze"):  # a session of CPython does not call posix.fork, but this function
        gc.unfreeze()
        (own,) = [each for each in gc.get_objects() if getattr(each, "__code__", None) and each.__module__ == "on_cpython"
                  and each.__name__ == "fork"]  # fmt: skip
        own.__globals__["replaced"] = function
        own.__code__ = (lambda calls: replaced()).__code__  # noqa: F821 - its globals are others
    else:
        posix.fork = function
