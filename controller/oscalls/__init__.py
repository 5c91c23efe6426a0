"""The handlers of OS calls, one file per family, one function per call.

Rules: a handler takes the World and the decoded arguments. It does no I/O with the guest, never waits (it returns
`Blocked`), fails with OSError, and refuses flags that it does not know. Importing this package fills
`dispatch.TABLE`.
"""

from proxybox.controller.oscalls import (
    attributes,
    clock,
    control,
    descriptors,
    directories,
    identity,
    memory,
    paths,
    pipes,
    polling,
    process,
    randomness,
    refused,
    reserved,
    signals,
    sockets,
    transfers,
)

__all__ = [
    "attributes",
    "clock",
    "control",
    "descriptors",
    "directories",
    "identity",
    "memory",
    "paths",
    "pipes",
    "polling",
    "process",
    "randomness",
    "refused",
    "reserved",
    "signals",
    "sockets",
    "transfers",
]
