"""The numbers that both sides of the wire agree on.

Each is in proxybox/guest/wire.h under the same name, with its purpose. A test compares the two files
(tests/wire/test_header.py).
"""

import enum
import struct
from typing import Final

# --- descriptors and channels -----------------------------------------------------------------------------------------

CONTROL_FD: Final = 2
FIRST_CHANNEL_FD: Final = 3
STUB_FD: Final = 5
MAX_CHANNELS: Final = 257
#: The descriptor of a file that the thread of channel k is about to map is this number + k.
FIRST_LIBRARY_FD: Final = FIRST_CHANNEL_FD + 2 * MAX_CHANNELS

# --- frames -----------------------------------------------------------------------------------------------------------

#: The most bytes that an argument may have or an answer may store, and the most bytes of a path with its NUL.
MAX_PAYLOAD: Final = 1 << 20
MAX_PATH: Final = 4096
#: Markers in place of a length: the argument is NULL; its memory is not readable; its string is longer than allowed.
ABSENT: Final = 0xFFFFFFFF
FAULT: Final = 0xFFFFFFFE
TOO_LONG: Final = 0xFFFFFFFD
#: The range of the numbers of the stub's own calls. None of them has the bit of x32.
OWN_CALLS: Final = 0x20420000
OWN_CALLS_END: Final = OWN_CALLS + 256
#: The stub's own calls. It is ready to be sealed; it could not be sealed; it is about to die of a fault; it is sealed;
#: it is a new copy.
CALL_HELLO: Final = OWN_CALLS + 1
CALL_FAILED: Final = OWN_CALLS + 2
CALL_FAULTED: Final = OWN_CALLS + 3
CALL_SEALED: Final = OWN_CALLS + 4
CALL_BORN: Final = OWN_CALLS + 5
#: openat(2), for a stub that gets the whole file if it never changes and has at most WHOLE_FILE bytes; and the argument
#: in place of a descriptor to be closed, if there is none.
CALL_OPEN: Final = 510
WHOLE_FILE: Final = 256 << 10
NO_DESCRIPTOR: Final = -1
#: epoll_wait(2) without a wait, for a stub that remembers that nothing was ready.
CALL_LOOK: Final = 514
#: The answer to CALL_LOOK where nothing is ready unless the guest makes a call: more than there can be events.
LASTS: Final = 1 << 32
#: stat(2) and lstat(2), for a stub that remembers a status that does not change.
CALL_STAT: Final = 513
#: mmap(2), for a stub that can map a file by itself, and the answer if it has to do so.
CALL_MAP: Final = 512
LIBRARY: Final = 1 << 41
#: Sends readings of clocks, where there are too many to wait for the thread's next call; and the bit of a request's
#: number that says that readings follow its memory.
CALL_CLOCKS: Final = 509
WITH_CLOCKS: Final = 0x80000000
#: A thread that clone(2) was granted was not made.
CALL_NO_THREAD: Final = 508
#: An allocation has failed for lack of address space; the most bytes by which RLIMIT_AS is raised in all; and the kinds
#: of allocations.
CALL_ROOM: Final = 507
MOST_ROOM: Final = 8 << 30
FOR_USE: Final = 0
RESERVED: Final = 1
A_FILE: Final = 2
CODE: Final = 3
#: The answer to CALL_SEALED.
SEALED_ANSWER: Final = 0x5EA1
#: The answer to a call on a file with a writable shared mapping is this number less the mapping's number.
WRITE_BACK: Final = -(1 << 40)

REQUEST: Final = struct.Struct("<II6Q")
REPLY: Final = struct.Struct("<IIq")
REPLY_WRITE: Final = struct.Struct("<QI")

# --- what the stub fetches --------------------------------------------------------------------------------------------


class Fetch(enum.IntEnum):
    """How an argument is fetched from guest memory."""

    STRING = 1
    BUFFER = 2
    STRUCT = 3
    SOFT = 4
    GATHER = 5
    BITS = 6


#: The width of the argument that counts the elements.
LENGTH_LONG: Final = 0
LENGTH_INT: Final = 1
LENGTH_UNSIGNED: Final = 2

ROLE: Final = struct.Struct("<BBBBI")
#: The head of a row of the stub's table; six roles follow.
CALL_ROLES: Final = struct.Struct("<HH")

# --- starting ---------------------------------------------------------------------------------------------------------

REPORT_MAGIC: Final = 0x4C584250
NOT_ASKED: Final = -1
LAUNCH_SAME_ADDRESSES: Final = 1
LAUNCH_NAMESPACES: Final = 2
LAUNCH_SPECULATION: Final = 4
LAUNCH_CORE_SCHEDULING: Final = 8
CONFIG_MAGIC: Final = 0x32584250
CONFIG_REAL_TIME: Final = 1
CONFIG_EMPTY_ROOT: Final = 2
CONFIG_LANDLOCK: Final = 4
CONFIG_SEAL_ONLY: Final = 8
CONFIG_HOST_CLOCKS: Final = 16
CONFIG_HUGE_PAGES: Final = 32
CONFIG_HUGE_NURSERY: Final = 64
CONFIG_RECORDED: Final = 128
CONFIG_SERIAL: Final = 256
CONFIG_ASKS_FOR_ROOM: Final = 512

#: The steps into namespaces. The launcher reports which one has failed, and its errno.
STEP_USER: Final = 0
STEP_UID_MAP: Final = 1
STEP_SETGROUPS: Final = 2
STEP_GID_MAP: Final = 3
STEP_OTHERS: Final = 4
LAUNCH_REPORT: Final = struct.Struct("<Iiiiiiiii")
CONFIG: Final = struct.Struct("<IIIIIIIIIQQ")

# --- the seal, threads and copies -------------------------------------------------------------------------------------

#: In a register that the kernel ignores, this says that the stub has already notified the controller. Hostile code can
#: set it as well.
ROUTE: Final = 0x70626F78
#: Shared mappings of virtual files lie in the 16 TiB from here. A box never uses them up, though its stub uses no
#: address twice.
SHARED_BASE: Final = 0x100000000000
#: The flags that pthread_create(3) passes to clone(2), those that fork(3) passes, and those that the stub uses instead
#: of fork's.
THREAD_FLAGS: Final = 0x3D0F00
FORK_ASKED: Final = 0x1200011
FORK_FLAGS: Final = 0x8000
#: A flag in the answer to a granted fork, beside the child's process id << 16: the parent has to fork again at once.
FORK_AGAIN: Final = 1
#: An answer in a replay: the process has to make a copy of itself for an inspection, and to wait for the answer.
INSPECT: Final = -(1 << 43)
#: The value of the SIGCONT that continues a stopped guest, and that its program does not see.
WOKEN: Final = 0x3A9E

NEWBORN: Final = struct.Struct("<QQQq")

# --- settings of a guest ----------------------------------------------------------------------------------------------

#: Of a stub: the number that it adds to the host's CLOCK_MONOTONIC; whether its calls are not observed, so that it may
#: answer some itself; and how it treats readings of clocks: a recorded guest sends them, a replayed guest gets the
#: recorded ones.
SETTINGS: Final = struct.Struct("<qII")
NOT_RECORDED: Final = 0
RECORDED: Final = 1
REPLAYED: Final = 2
#: The most readings of one thread between two of its requests; and their layout: how many were made, how many are in a
#: replay, the clock of each; then the time of each in nanoseconds.
RING: Final = 256
CLOCK_RING: Final = struct.Struct(f"<II{RING}s")
#: Instead of a clock of clock_gettime(2): the reading was made by gettimeofday(2), or by time(2).
TIME_OF_DAY: Final = 200
SECONDS: Final = 201
