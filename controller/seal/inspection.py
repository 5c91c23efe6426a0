"""The inspection from outside: what the kernel reports about a guest, before and after its seal.

Promise: a box whose guest lacks a mandatory layer (layers.py) does not start. Nothing here relies on the guest or its
stub. Every fact comes from the kernel (/proc/PID, and calls such as getpriority(2)); a missing fact is a failure.
"""

import os
import re

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.seal.layers import Layer, stands

#: The content of /proc/PID/status (proc_pid_status(5)) for a sealed guest. Each thread has its own filters, so there
#: must be only one thread.
_SEALED = {
    "Seccomp": "2",
    "NoNewPrivs": "1",
    "CapInh": "0",
    "CapPrm": "0",
    "CapEff": "0",
    "CapAmb": "0",
    "Threads": "1",
}
#: Lines that some kernels (gVisor) show for no process, and that follow from others. A capability is ambient only where
#: it is permitted and inheritable (capabilities(7)); and of a process without capabilities, a kernel takes a filter
#: only when it has no_new_privs (seccomp(2)), which the launcher has set before.
_MAY_BE_UNTOLD = frozenset({"CapAmb", "NoNewPrivs"})
#: The id that user_namespaces(7) show for users without a mapping, such as root.
_OVERFLOW_USER = 65534
#: The lines of /proc/PID/status that are read here, as key and value. The kernel escapes newlines in a process's name.
_FACTS = re.compile(rf"\n({'|'.join((*_SEALED, 'Uid', 'Seccomp_filters'))}):[ \t]*(.*)").findall


def inspect_descriptors(pid: int, allowed: list[int]) -> Layer:
    """Checks, before the seal, that the guest holds exactly the descriptors `allowed`. Raises SandboxStartError."""
    try:
        held = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
    except OSError as error:
        raise _unseen(f"/proc/{pid}/fd", error) from error
    if held != allowed:
        raise SandboxStartError(f"the guest holds descriptors that are not its own: {held}, not {allowed}")
    return stands("descriptors", f"{len(held)}, the ends of its channel")


def count_filters(pid: int) -> int | None:
    """Returns how many seccomp filters a process has; None where /proc does not show it. Raises SandboxStartError."""
    count = _status(pid).get("Seccomp_filters", "")
    return int(count) if count.isdigit() else None


def inspect_seal(pid: int, uid: int, niceness: int, filters: int | None) -> list[Layer]:
    """Checks a guest that has just been sealed, before CALL_SEALED is answered, and so before `main`.

    uid: the user id of the host that it must have. niceness: the least that it must have. filters: how many seccomp
    filters it must have, the seal's included; None where the kernel does not show it. Returns the layers with their
    states. Raises SandboxStartError.
    """
    status = _status(pid)
    if filters is not None and status.get("Seccomp_filters") != str(filters):
        raise SandboxStartError(
            f"the guest is not sealed: it has {status.get('Seccomp_filters')} seccomp filters, not {filters}"
        )
    for key, wanted in _SEALED.items():
        if key not in status and key in _MAY_BE_UNTOLD and key not in _status("self"):
            continue
        if key not in status:
            raise SandboxStartError(
                f"this kernel does not tell whether a process is sealed: no {key} in /proc/PID/status"
            )
        if (status[key].lstrip("0") or "0") != wanted:
            raise SandboxStartError(f"the guest is not sealed: {key} is {status[key]}, not {wanted}")
    if set(status.get("Uid", "").split()) != {str(uid)}:
        raise SandboxStartError(f"the guest runs under the user ids {status.get('Uid')}, not {uid}")
    try:
        owner, seen = os.stat(f"/proc/{pid}/mem").st_uid, os.getpriority(os.PRIO_PROCESS, pid)
        scheduler = os.sched_getscheduler(pid)
    except OSError as error:
        raise _unseen(f"/proc/{pid}", error) from error
    if owner == uid:  # root owns the /proc files of a process that is not dumpable
        unsure = "; or this user namespace shows root as the same user: use one that maps root, or another user"
        raise SandboxStartError(
            f"the guest is dumpable: others could trace it{unsure if uid == _OVERFLOW_USER else ''}"
        )
    if seen < niceness or scheduler not in (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE):
        raise SandboxStartError(f"the guest runs at niceness {seen}, not {niceness}, by sched(7) policy {scheduler}")
    untold = "" if "NoNewPrivs" in status else " (this kernel does not show that; it takes no filter otherwise)"
    return [
        stands("seal"),
        stands("privileges", f"no capabilities and no new privileges{untold}, user id {uid}, not dumpable"),
        stands("priority", f"niceness {seen}"),
    ]


def _status(pid: int | str) -> dict[str, str]:
    text = b""
    try:
        fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
        try:
            while piece := os.read(fd, 1 << 14):  # long for a user with many groups
                text += piece
        finally:
            os.close(fd)
    except OSError as error:
        raise _unseen(f"/proc/{pid}/status", error) from error
    return {key: value.rstrip() for key, value in _FACTS(text.decode("ascii", "replace"))}


def _unseen(path: str, error: OSError) -> SandboxStartError:
    return SandboxStartError(
        f"the guest cannot be inspected: {path}: {error.strerror} (is /proc mounted with hidepid?)"
    )
