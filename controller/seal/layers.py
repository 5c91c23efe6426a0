"""The layers around the seal: which layers boxes use, and whether each layer is in force.

A layer is a second defence, in case the seal, the kernel or the controller has a hole. Each is used where the host
allows it. Where it does not, the box starts without the layer and says so in `Result.layers`, unless its policy
requires the layer. launcher.c (namespaces, speculation, core scheduling) and stub_layers.c (the empty root, Landlock)
set them up before anything untrusted runs; cgroups.py works from outside.
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
    STEP_GID_MAP,
    STEP_OTHERS,
    STEP_SETGROUPS,
    STEP_UID_MAP,
    STEP_USER,
)
from proxybox.policies.models import LAYERS

#: The layers that boxes of this process use. Tests and benchmarks remove some of them.
USED: set[str] = set(LAYERS)

_LAUNCHED = {
    "namespaces": LAUNCH_NAMESPACES, "speculation": LAUNCH_SPECULATION, "core-scheduling": LAUNCH_CORE_SCHEDULING,
}  # fmt: skip

_NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
_PR_SCHED_CORE, _PR_SCHED_CORE_GET, _THREAD = 62, 0, 0

_REASONS = {
    "namespaces": "this host refuses namespaces to ordinary users ({})",
    "root": "the host's root could not be left (pivot_root(2): {})",
    "landlock": "this kernel has no Landlock or has it turned off ({})",
    "speculation": "the kernel does not let a process turn speculation off (PR_SET_SPECULATION_CTRL: {})",
    "core-scheduling": "this kernel or machine has no core scheduling (PR_SCHED_CORE: {})",
    "kernel limits": "the kernel refuses to limit message queues, locked memory or pending signals (setrlimit(2): {})",
    "same addresses": "a filter around this process refuses personality(2): addresses differ from run to run ({})",
}


_STEPS = {
    STEP_USER: "unshare(2) with CLONE_NEWUSER", STEP_UID_MAP: "writing /proc/self/uid_map",
    STEP_SETGROUPS: "writing /proc/self/setgroups", STEP_GID_MAP: "writing /proc/self/gid_map",
    STEP_OTHERS: "unshare(2) with CLONE_NEWNS and others",
}  # fmt: skip


#: In `Result.layers` the text about a missing layer begins with this; the reason follows.
MISSING = "missing: "


@attrs.frozen(kw_only=True)
class Layer:
    """A defence: whether a box has it, and what to do where it does not.

    available: whether the box has it. mandatory: whether no box starts without it. detail: its state, or why it is
    missing. advice: how to get it, where it is missing.
    """

    name: str
    available: bool
    mandatory: bool = False
    detail: str = ""
    advice: str = ""

    @property
    def text(self) -> str:
        """The text of the layer in `Result.layers`."""
        return self.detail if self.available else MISSING + self.detail


#: Reported like a layer for boxes with a seed. It makes a run repeatable, and is no defence.
SAME_ADDRESSES = "same addresses"

#: Every kind of layer, by name, as a missing layer, with its description or advice.
KINDS = {
    layer.name: layer
    for layer in (
        Layer(name="seal", available=False, mandatory=True,
              detail="a seccomp filter that leaves the guest its own memory and pipe ends"),
        Layer(name="privileges", available=False, mandatory=True,
              detail="no capabilities, no new privileges, a user id that is not root's, not dumpable"),
        Layer(name="descriptors", available=False, mandatory=True, detail="nothing open but the ends of its channel"),
        Layer(name="priority", available=False, mandatory=True, detail="lower than the controller's"),
        Layer(name="kernel limits", available=False,
              detail="of the stack, descriptors, core dumps, locked memory, message queues and pending signals"),
        Layer(name="thread count", available=False,
              advice="needs Linux 5.9 with seccomp user notifications; without, boxes have one thread"),
        Layer(name="namespaces", available=False,
              advice="needs user namespaces for ordinary users (user.max_user_namespaces; on Ubuntu also "
              "kernel.apparmor_restrict_unprivileged_userns=0; in a container, a profile that allows unshare)"),
        Layer(name="landlock", available=False,
              advice="needs Linux 5.13 with `landlock` among the LSMs (CONFIG_LSM, or lsm= at boot)"),
        Layer(name="cgroup", available=False,
              advice="needs a delegated cgroup v2: systemd-run --user --scope -p Delegate=yes, or so in a service"),
        Layer(name="speculation", available=False,
              advice="is a matter of the kernel's spectre_v2_user= setting: prctl lets each process choose"),
        Layer(name="core-scheduling", available=False,
              advice="needs Linux 5.14 with CONFIG_SCHED_CORE on a machine with hyperthreads"),
        Layer(name=SAME_ADDRESSES, available=False),
    )
}  # fmt: skip


def stands(name: str, detail: str = "") -> Layer:
    """Returns a layer that is in force. detail: its state; the default is the description of the layer."""
    return attrs.evolve(KINDS[name], available=True, detail=detail or KINDS[name].detail)


def missing(name: str, reason: int | str) -> Layer:
    """Returns a layer that is missing. reason: an errno, or a text."""
    return attrs.evolve(KINDS[name], detail=reason if isinstance(reason, str) else _because(name, reason))


def _because(what: str, number: int) -> str:
    return _REASONS[what].format(os.strerror(number))


def _failed_step(step: int, error: int) -> str:
    """Returns the step into namespaces that failed in the launcher, and why."""
    return f"{_STEPS.get(step, f'step {step}')}: {os.strerror(error)}"


def is_missing(text: str) -> bool:
    """Whether a text of `Result.layers` is about a missing layer."""
    return text.startswith(MISSING)


def read(text: Mapping[str, str]) -> tuple[Layer, ...]:
    """Returns every kind of layer, from the `Result.layers` of a box."""
    return tuple(
        attrs.evolve(
            kind,
            available=name in text and not is_missing(text[name]),
            detail=text.get(name, kind.detail).removeprefix(MISSING),
        )
        for name, kind in KINDS.items()
        if name != SAME_ADDRESSES
    )


def require(names: Iterable[str], around: Mapping[str, Layer]) -> None:
    """Raises SandboxStartError unless a box has all layers of these names. around: the layers of the box, by name."""
    required = [around[name] if name in around else missing(name, "turned off") for name in names]
    if lacking := [layer for layer in required if not layer.available]:
        listed = "; ".join(f"{layer.name}: {layer.detail}" for layer in lacking)
        raise SandboxStartError(
            f"the policy requires layers that are not there (require_layers): {listed}. "
            "`proxybox doctor` tells what this host gives"
        )


@attrs.frozen
class LaunchReport:
    """The launcher's report: pids on the host (0 where the launcher itself became the guest), an errno for each layer.

    The errno is 0 for a layer that was set up, and NOT_ASKED for a layer that was not requested. namespace_step: the
    step into namespaces that has failed.
    """

    guest: int
    init: int
    limits: int
    same_addresses: int
    namespaces: int
    namespace_step: int
    speculation: int
    core_scheduling: int

    @staticmethod
    def unpack(data: bytes) -> "LaunchReport | None":
        """Returns the report; None when the bytes are the message of a launcher that has failed."""
        if len(data) != LAUNCH_REPORT.size or int.from_bytes(data[:4], "little") != REPORT_MAGIC:
            return None
        return LaunchReport(*LAUNCH_REPORT.unpack(data)[1:])


def launch_flags(used: Iterable[str]) -> int:
    """Returns the launcher's flags (wire.h) that request these layers."""
    return sum(_LAUNCHED.get(layer, 0) for layer in used)


def look_from_outside(pid: int, report: LaunchReport, root_errno: int, landlock_errno: int | None) -> list[Layer]:
    """Returns the layers of the guest `pid`, which waits for its seal, so that /proc still shows them.

    /proc does not show Landlock, so the stub's report is used: nothing untrusted has run in the guest by then.
    root_errno: of leaving the host's root. landlock_errno: None when Landlock was not requested.
    """
    seen = [_unless(report.limits, "kernel limits", KINDS["kernel limits"].detail)]
    if report.namespaces != NOT_ASKED:
        seen.append(_namespaces(pid, report, root_errno))
    if landlock_errno is not None:
        seen.append(_unless(landlock_errno, "landlock", "a domain without any right"))
    if report.speculation != NOT_ASKED:
        seen.append(_speculation(pid, report.speculation))
    if report.core_scheduling != NOT_ASKED:
        seen.append(_core_scheduling(pid, report.core_scheduling))
    if report.same_addresses != NOT_ASKED:
        seen.append(_unless(report.same_addresses, SAME_ADDRESSES, "no address randomisation"))
    return seen


def _unless(refused: int, name: str, detail: str) -> Layer:
    return missing(name, refused) if refused else stands(name, detail)


def _namespaces(pid: int, report: LaunchReport, root_errno: int) -> Layer:
    if report.namespaces:
        why = _failed_step(report.namespace_step, report.namespaces)
        return missing("namespaces", _REASONS["namespaces"].format(why))
    if root_errno:
        return missing("namespaces", _because("root", root_errno))
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
    return stands("namespaces", f"{', '.join(_NAMESPACES)} of its own, and an empty root")


def _speculation(pid: int, refused: int) -> Layer:
    """Returns the state of the mitigation in proc_pid_status(5), whether or not the launcher has set it."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            state = file.read().partition("SpeculationIndirectBranch:")[2].partition("\n")[0].strip()
    except OSError as error:
        return missing("speculation", f"it cannot be looked at from outside ({error.strerror})")
    if "disabled" in state or state == "not affected":
        return stands("speculation", f"of indirect branches: {state}")
    if refused:
        return missing("speculation", refused)
    return missing("speculation", f"of indirect branches: {state or 'unknown'}")


def _core_scheduling(pid: int, refused: int) -> Layer:
    if refused:
        return missing("core-scheduling", refused)
    cookie = ctypes.c_ulong()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SCHED_CORE, _PR_SCHED_CORE_GET, pid, _THREAD, ctypes.byref(cookie)) < 0:
        return missing("core-scheduling", ctypes.get_errno())
    return _unless(0 if cookie.value else errno.ENODATA, "core-scheduling", "a core of its own while it runs")
