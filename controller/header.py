"""The numbers that both sides of the wire agree on. Each stands in proxybox/guest/wire.h under the same name, and says
there what it is for; a test compares the two (tests/wire/test_header.py)."""

import enum
import struct
from typing import Final

# --- descriptors and channels -----------------------------------------------------------------------------------------

CONTROL_FD: Final = 2
FIRST_CHANNEL_FD: Final = 3
STUB_FD: Final = 5

# --- frames -----------------------------------------------------------------------------------------------------------

#: Bytes that an argument may bring, or an answer store, and those of a path with its NUL.
MAX_PAYLOAD: Final = 1 << 20
MAX_PATH: Final = 4096
#: In place of a length: the argument was NULL, its memory is not readable, its string has no end in bounds.
ABSENT: Final = 0xFFFFFFFF
FAULT: Final = 0xFFFFFFFE
TOO_LONG: Final = 0xFFFFFFFD
#: Call numbers that are the stub's own: ready to be sealed; could not be sealed; about to die of a fault; sealed;
#: copied.
CALL_HELLO: Final = 0x50420001
CALL_FAILED: Final = 0x50420002
CALL_FAULTED: Final = 0x50420003
CALL_SEALED: Final = 0x50420004
CALL_BORN: Final = 0x50420005
#: The answer to CALL_SEALED.
SEALED_ANSWER: Final = 0x5EA1
#: The answer to a call on a file that is mapped to be written: this, less the mapping's number.
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


#: How wide the argument is that counts.
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

LAUNCH_REPORT: Final = struct.Struct("<Iiiiiii")
CONFIG: Final = struct.Struct("<IIIIIIIIQQ")

# --- the seal, threads and copies -------------------------------------------------------------------------------------

#: In a register that the kernel ignores: the stub has told the controller already. Hostile code can set it as well.
ROUTE: Final = 0x70626F78
#: Shared mappings of virtual files lie in the 16 TiB from here: a box never comes to their end, though its stub uses no
#: address twice.
SHARED_BASE: Final = 0x100000000000
#: What pthread_create(3) passes to clone(2), what fork(3) does, and what the stub makes of that.
THREAD_FLAGS: Final = 0x3D0F00
FORK_ASKED: Final = 0x1200011
FORK_FLAGS: Final = 0x8000
#: In the answer to a fork that is granted, beside the child's process id << 16.
FORK_AGAIN: Final = 1

NEWBORN: Final = struct.Struct("<QQq")
