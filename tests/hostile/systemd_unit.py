"""Runs a command under the system call filters of deploy/proxybox.service:
`python tests/hostile/systemd_unit.py [--unit FILE] COMMAND...`.

The lines are read from the unit file, and systemd's own code makes the filters from them: systemd calls the same
private library for a service (src/core/exec-invoke.c). Exit status 77: this system has no such library, or one with
other functions.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

UNIT = Path(__file__).resolve().parent.parent.parent / "deploy" / "proxybox.service"
#: Automake's exit status for a test that cannot run here.
CANNOT = 77
_LIBRARIES = ("/usr/lib/x86_64-linux-gnu/systemd", "/usr/lib/systemd", "/usr/lib64/systemd")
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_PERMISSIVE_ALLOW_LIST = 2 | 8  # SeccompParseFlags
_DEFAULT = -1  # no errno of its own: the filter's action for the call
#: Settings that refuse a set of calls, and the names of the sets.
_SETS = {"ProtectClock": "@clock", "ProtectKernelModules": "@module", "PrivateDevices": "@raw-io"}
#: Settings for each of which systemd has one function.
_FUNCTIONS: dict[str, tuple[str, tuple[int, ...]]] = {
    "LockPersonality": ("seccomp_lock_personality", (0,)),
    "MemoryDenyWriteExecute": ("seccomp_memory_deny_write_execute", ()),
    "ProtectHostname": ("seccomp_protect_hostname", ()),
    "ProtectKernelLogs": ("seccomp_protect_syslog", ()),
    "ProtectKernelTunables": ("seccomp_protect_sysctl", ()),
    "RestrictRealtime": ("seccomp_restrict_realtime_full", (errno.EPERM,)),
    "RestrictSUIDSGID": ("seccomp_restrict_suid_sgid", ()),
}
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


def lines(unit: Path) -> dict[str, str]:
    """The settings of [Service] by name. Values of the same name are joined with a space."""
    found: dict[str, str] = {}
    section = ""
    for line in map(str.strip, unit.read_text().splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found[name] = f"{found[name]} {value}" if name in found else value
    return found


class Systemd:
    """The functions of libsystemd-shared that make filters. Raises OSError or AttributeError where they do not
    exist.
    """

    def __init__(self) -> None:
        found = [file for folder in _LIBRARIES for file in sorted(Path(folder).glob("libsystemd-shared-*.so"))]
        if not found:
            raise OSError(errno.ENOENT, "no libsystemd-shared")
        self.library = ctypes.CDLL(str(found[-1]))
        for name in ("_hashmap_new", "_set_new", "syscall_filter_set_find"):
            self.function(name).restype = ctypes.c_void_p
        for name in [name for name, _ in _FUNCTIONS.values()] + ["seccomp_load_syscall_filter_set_raw", "set_put"]:
            self.function(name)

    def function(self, name: str) -> Callable[..., int]:
        return getattr(self.library, name)

    def must(self, name: str, *arguments: object) -> None:
        """Calls a function that returns a negative errno on failure. Raises OSError then."""
        if (result := self.function(name)(*arguments)) < 0:
            raise OSError(-result, f"{name}: {os.strerror(-result)}")

    def refuse_set(self, name: str) -> None:
        """Makes the calls of a set fail with EPERM."""
        found = ctypes.c_void_p(self.function("syscall_filter_set_find")(name.encode()))
        self.must(
            "seccomp_load_syscall_filter_set",
            ctypes.c_uint32(_ALLOW),
            found,
            ctypes.c_uint32(_ERRNO | errno.EPERM),
            False,
        )

    def families(self, words: str) -> None:
        """Applies RestrictAddressFamilies=."""
        allowed = ctypes.c_void_p(self.function("_set_new")(None))
        for word in words.split():
            self.must("set_put", allowed, ctypes.c_void_p(_FAMILIES[word]))
        self.must("seccomp_restrict_address_families", allowed, True)

    def calls(self, words: str, error: str) -> None:
        """Applies SystemCallFilter= and SystemCallErrorNumber=. Without the latter, a call that is not on the list ends
        the process.
        """
        allowed = ctypes.c_void_p(self.function("_hashmap_new")(None))
        for word in ["@default", *words.split()]:
            self.must(
                "seccomp_parse_syscall_filter", word.encode(), _DEFAULT, allowed, _PERMISSIVE_ALLOW_LIST, None, None, 0
            )
        otherwise = _ERRNO | getattr(errno, error) if error else _KILL_PROCESS
        self.must(
            "seccomp_load_syscall_filter_set_raw", ctypes.c_uint32(otherwise), allowed, ctypes.c_uint32(_ALLOW), False
        )


def steps(unit: dict[str, str], systemd: Systemd) -> Iterator[tuple[str, Callable[[], None]]]:
    """The settings of a unit that make filters, in systemd's order, each with the function that installs its filter."""
    on = {name for name, value in unit.items() if value in ("yes", "true", "on", "1")}
    if "RestrictAddressFamilies" in unit:
        yield "RestrictAddressFamilies", lambda: systemd.families(unit["RestrictAddressFamilies"])
    for name, (function, arguments) in _FUNCTIONS.items():
        if name in on:
            yield name, lambda function=function, arguments=arguments: systemd.must(function, *arguments)
    for name, calls in _SETS.items():
        if name in on:
            yield name, lambda calls=calls: systemd.refuse_set(calls)
    if unit.get("SystemCallArchitectures") == "native":
        yield "SystemCallArchitectures", lambda: systemd.must("seccomp_restrict_archs", None)
    if "SystemCallFilter" in unit:
        yield "SystemCallFilter", lambda: systemd.calls(unit["SystemCallFilter"], unit.get("SystemCallErrorNumber", ""))


def lacking() -> str:
    """Why the filters cannot be made here; empty where they can be made."""
    try:
        Systemd()
    except (OSError, AttributeError) as error:
        return f"systemd's own library cannot be used: {error}"
    return ""


def install(unit: Path = UNIT) -> list[str]:
    """Installs the filters for this process and all that it starts, and returns the settings' names. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    made = list(steps(lines(unit), Systemd()))
    for _, step in made:
        step()
    return [name for name, _ in made]


def main(words: list[str]) -> int:
    unit, command = (Path(words[1]), words[2:]) if words[:1] == ["--unit"] else (UNIT, words)
    if why := lacking():
        print(why, file=sys.stderr)
        return CANNOT
    install(unit)
    os.execv(command[0], command)
    return 1  # not reached after execve(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
