"""Copies of a session made by hand: what the stub does at a fork, step by step, so that each can be left out."""

import posix

import raw

#: The clone that a fork becomes, and the first call of its child.
CLONE = 56, 0x8000, 0, 0, 0, 0, raw.ROUTE
KNOCK = 157, 1, 9, 0, 0, 0, raw.ROUTE
ASKED, BORN = 0x1200011, 0x50420005


def clone():
    """The native clone alone; 0 in the child."""
    made = raw.words([CLONE])
    raw.batch(made)
    return raw.signed(made[7])


def knock():
    return raw.syscall(*KNOCK)


def be_born():
    """What an honest child does."""
    raw.check(knock())
    return raw.ask(BORN, (0, 0, 0))[0]


def granted():
    """Waits until the caller wants a copy; its process id in the box."""
    return raw.check(raw.ask(56, (ASKED,))[0]) >> 16


def instead(child, parent=lambda pid: None):
    """The next fork of the session runs `child` in the child behind its clone, and `parent` before the clone."""

    def fork():
        pid = granted()
        parent(pid)
        if clone() == 0:
            child()
            return 0
        return pid

    posix.fork = fork
