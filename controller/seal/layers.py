"""The layers around the seal: which of them boxes use, and what came of each.

A layer is a second wall for the day on which the seal, the kernel or the controller has a hole. Each is used where the
host gives it; where it does not, the box starts all the same and says so in `Result.layers`, unless its policy requires
the layer. Who carries them out: launcher.c (namespaces, speculation, core scheduling) and stub_layers.c (the empty
root, Landlock) before anything untrusted runs, cgroups.py from outside.
"""

import ctypes
import errno
import os
from collections.abc import Iterable, Mapping

import attrs

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.header import (
    LAUNCH_CORE_SCHEDULING,
    LAUNCH_NAMESPACES,
    LAUNCH_REPORT,
    LAUNCH_SPECULATION,
    NOT_ASKED,
    REPORT_MAGIC,
)
from proxybox.policies.models import LAYERS

#: The layers that boxes of this process use. Tests and benchmarks take some out.
USED: set[str] = set(LAYERS)

#: What `Result.layers` says of a layer that is not there begins with this; the reason follows.
MISSING = "missing: "

_LAUNCHED = {
    "namespaces": LAUNCH_NAMESPACES, "speculation": LAUNCH_SPECULATION, "core-scheduling": LAUNCH_CORE_SCHEDULING,
}  # fmt: skip

_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
_PR_SCHED_CORE, _PR_SCHED_CORE_GET, _THREAD = 62, 0, 0

_REASONS = {
    "namespaces": "this host refuses unprivileged user namespaces (unshare(2): {})",
    "root": "the host's root could not be left (pivot_root(2): {})",
    "landlock": "this kernel has no Landlock or has it turned off ({})",
    "speculation": "the kernel does not let a process turn speculation off (PR_SET_SPECULATION_CTRL: {})",
    "core-scheduling": "this kernel or machine has no core scheduling (PR_SCHED_CORE: {})",
    "same addresses": "a filter around this process refuses personality(2): addresses differ from run to run ({})",
}


def missing(layer: str, reason: int | str) -> str:
    """What is told of a layer that is not there: an errno or words."""
    if isinstance(reason, str):
        return MISSING + reason
    return MISSING + _REASONS[layer].format(os.strerror(reason))


def is_missing(told: str) -> bool:
    """Whether this is what `missing` says."""
    return told.startswith(MISSING)


def require(layers: Iterable[str], told: Mapping[str, str]) -> None:
    """Raises SandboxStartError unless all `layers` stand around a box."""
    lacking = {layer: told.get(layer, MISSING + "turned off") for layer in layers}
    lacking = {layer: text.removeprefix(MISSING) for layer, text in lacking.items() if is_missing(text)}
    if lacking:
        listed = "; ".join(f"{layer}: {text}" for layer, text in lacking.items())
        raise SandboxStartError(
            f"the policy requires layers that are not there (require_layers): {listed}. "
            "`proxybox doctor` tells what this host gives"
        )


@attrs.frozen
class LaunchReport:
    """What the launcher did: pids of the host (0 where it became the guest itself), and an errno for each layer."""

    guest: int
    init: int
    same_addresses: int
    namespaces: int
    speculation: int
    core_scheduling: int

    @staticmethod
    def unpack(data: bytes) -> "LaunchReport | None":
        """The report, or None when these bytes are something else: words of a launcher that failed."""
        if len(data) != LAUNCH_REPORT.size or int.from_bytes(data[:4], "little") != REPORT_MAGIC:
            return None
        return LaunchReport(*LAUNCH_REPORT.unpack(data)[1:])


def launch_flags(used: Iterable[str]) -> int:
    """The bits of wire.h for the launcher."""
    return sum(_LAUNCHED.get(layer, 0) for layer in used)


def look_from_outside(pid: int, report: LaunchReport, root_errno: int, landlock_errno: int | None) -> dict[str, str]:
    """What stands around the guest `pid`, which waits for its seal and can still be looked at.

    What /proc shows is read there; Landlock shows nothing, so there the word of the stub counts, which nobody but us
    has had in hand by then. landlock_errno: None when it was not asked for.
    """
    told: dict[str, str] = {}
    if report.namespaces != NOT_ASKED:
        told["namespaces"] = _namespaces(pid, report.namespaces, root_errno)
    if landlock_errno is not None:
        told["landlock"] = missing("landlock", landlock_errno) if landlock_errno else "a domain without any right"
    if report.speculation != NOT_ASKED:
        told["speculation"] = _speculation(pid, report.speculation)
    if report.core_scheduling != NOT_ASKED:
        told["core-scheduling"] = _core_scheduling(pid, report.core_scheduling)
    if report.same_addresses != NOT_ASKED:
        refused = report.same_addresses
        told["same addresses"] = missing("same addresses", refused) if refused else "no address randomisation"
    return told


def _namespaces(pid: int, refused: int, root_errno: int) -> str:
    if refused:
        return missing("namespaces", refused)
    if root_errno:
        return missing("root", root_errno)
    try:
        shared = [
            name
            for name in _NAMESPACES
            if os.readlink(f"/proc/{pid}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")
        ]
        left = os.listdir(f"/proc/{pid}/root")
    except OSError as error:
        return missing("namespaces", f"they cannot be looked at from outside ({error.strerror})")
    if shared or left:
        return missing(
            "namespaces", f"the guest shares {', '.join(shared) or 'a root that is not empty'} with the host"
        )
    return f"{', '.join(_NAMESPACES)} of its own, and an empty root"


def _speculation(pid: int, refused: int) -> str:
    """proc_pid_status(5) tells the state of the mitigation, whoever has set it."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            state = file.read().partition("SpeculationIndirectBranch:")[2].partition("\n")[0].strip()
    except OSError as error:
        return missing("speculation", f"it cannot be looked at from outside ({error.strerror})")
    if "disabled" in state or state == "not affected":
        return f"of indirect branches: {state}"
    if refused:
        return missing("speculation", refused)
    return missing("speculation", f"of indirect branches: {state or 'unknown'}")


def _core_scheduling(pid: int, refused: int) -> str:
    if refused:
        return missing("core-scheduling", refused)
    cookie = ctypes.c_ulong()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SCHED_CORE, _PR_SCHED_CORE_GET, pid, _THREAD, ctypes.byref(cookie)) < 0:
        return missing("core-scheduling", ctypes.get_errno())
    return "a core of its own while it runs" if cookie.value else missing("core-scheduling", errno.ENODATA)
