"""The words with which the row of an OS call says what the call does, and how far it is supported.

`@oscall(257, effect=CallEffect.OPENS)` is the only place that says so. Code that reads calls (trace, learn, explain,
diff, redaction) uses these words, through oscalls/rows.py, and never the names or numbers of calls.
"""

import enum
from typing import Final


class CallEffect(enum.Flag):
    """What a call does. A row has all the words that fit; NONE where no reader of calls needs one."""

    NONE = 0
    # Files, by a path or a descriptor.
    OPENS = enum.auto()  # a path; the result is its descriptor
    READS = enum.auto()  # bytes of a descriptor; with WRITES: into another descriptor, not into memory
    WRITES = enum.auto()  # to a descriptor, the bytes that the call carries
    LISTS = enum.auto()  # the entries of an open directory
    LOOKS = enum.auto()  # whether a path exists, and its type
    STATUS = enum.auto()  # answers with the status of a file or filesystem
    SEEKS = enum.auto()
    RESIZES = enum.auto()
    ALTERS = enum.auto()  # mode, owner, times or extended attributes
    # Names of files.
    MAKES = enum.auto()
    REMOVES = enum.auto()
    RENAMES = enum.auto()  # the path `old` to `new`
    LINKS = enum.auto()  # gives the file at `old` the further name `new`
    DIRECTORY = enum.auto()  # a directory is made or removed
    SYMLINK = enum.auto()  # a symbolic link is made
    # Descriptors, and the current directory.
    CREATES = enum.auto()  # descriptors without a path, such as pipes
    DUPLICATES = enum.auto()
    CLOSES = enum.auto()
    ENTERS = enum.auto()  # a directory, which becomes the current one
    # Time and chance.
    CLOCK = enum.auto()  # returns a time, which differs at each call
    SLEEPS = enum.auto()
    WAITS = enum.auto()  # for an event
    LOCKS = enum.auto()  # wakes another thread, or waits for one
    TIMERS = enum.auto()
    RANDOMNESS = enum.auto()
    # Processes, threads and memory.
    STARTS = enum.auto()  # a thread, a process or a program
    ENDS = enum.auto()  # the thread or the process
    IDENTITY = enum.auto()  # returns the number of a process or thread
    SENDS = enum.auto()  # a signal
    SIGNALS = enum.auto()  # how signals are handled
    MEMORY = enum.auto()
    MAPS = enum.auto()  # memory; the result is its address
    # Others.
    SOCKETS = enum.auto()
    CALLER = enum.auto()  # talks to the caller of the box
    SYSTEM = enum.auto()  # would reach the kernel's settings, mounts, namespaces or other processes


#: Effects on the names of files.
ON_NAMES: Final = (
    CallEffect.MAKES | CallEffect.REMOVES | CallEffect.RENAMES | CallEffect.LINKS | CallEffect.DIRECTORY
    | CallEffect.SYMLINK
)  # fmt: skip
#: Effects on files that were opened before, and on descriptors.
ON_DESCRIPTORS: Final = (
    CallEffect.READS | CallEffect.WRITES | CallEffect.LISTS | CallEffect.SEEKS | CallEffect.CREATES
    | CallEffect.DUPLICATES | CallEffect.CLOSES
)  # fmt: skip
#: Effects that have to do with neither files nor descriptors.
OF_NO_FILE: Final = (
    CallEffect.CLOCK | CallEffect.SLEEPS | CallEffect.WAITS | CallEffect.LOCKS | CallEffect.TIMERS
    | CallEffect.RANDOMNESS | CallEffect.STARTS | CallEffect.ENDS | CallEffect.IDENTITY | CallEffect.SENDS
    | CallEffect.SIGNALS | CallEffect.MEMORY | CallEffect.SOCKETS | CallEffect.CALLER
    | CallEffect.SYSTEM
)  # fmt: skip


class Support(enum.StrEnum):
    """How far a call is supported."""

    FULL = "full"
    PARTIAL = "partial"
    REFUSED = "refused"
