"""How a program has ended, in words that a model can act on: what was refused, why, and what is possible instead.

They are made from the result as JSON (results.py) and the policy. Names that a program chose stand in them on one line
and cut.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxybox.policies import Policy
from proxybox.policies.sizes import spoken_duration, spoken_size
from proxybox.terminal.harmless import on_one_line

#: The most characters of a name, and the most lines.
_NAME, _LINES = 200, 12
_TMP: Final = "/tmp"  # noqa: S108 - the box's own
#: The errors of a file as Python words them (OSError.__str__): the number, and the path.
_OF_A_FILE: Final = re.compile(r"\[Errno (\d+)\] [^:\n]{1,100}: '([^'\n]{1,4096})'")
_NOT_THERE, _NOT_ALLOWED = (2, 20), (1, 13, 30)
#: What those words of an exception tell that the policy's own refusals do not.
_NO_NAMES: Final = re.compile(r"Name or service not known|Temporary failure in name resolution|getaddrinfo failed")
_NO_MODULE: Final = re.compile(r"No module named '([\w.]{1,200})'")
_NETWORK: Final = "this box has no network: work with what you have, or ask for the data to be put in as files"
_NO_THREADS: Final = "no more threads can be started in this box: use fewer, or none"
_NO_PROGRAMS: Final = "no other program can be started in this box (no subprocess, no os.system): do it in Python"


def writable(policy: Policy) -> tuple[str, ...]:
    """Returns the places that a program may write to, but for its home, which is empty."""
    filesystem = policy.filesystem
    places = [] if filesystem.box == "ro" else ["/box"]
    places += [mount.target for mount in filesystem.mounts if mount.mode != "ro"]
    return *places, _TMP


def _readable(policy: Policy) -> tuple[str, ...]:
    return "/box", *(mount.target for mount in policy.filesystem.mounts), _TMP, policy.environment.home


def told(result: Mapping[str, Any], policy: Policy, timeout: float | None) -> list[str]:
    """Returns what a model has to know of a result besides the output, in lines. timeout: that of the call."""
    return list(dict.fromkeys(_lines(result, policy, timeout)))[:_LINES]


def _lines(result: Mapping[str, Any], policy: Policy, timeout: float | None) -> Iterator[str]:
    yield from _ended(result, policy, timeout)
    error = result["error"] or {"type": "", "message": ""}
    printed = f"{error['message']}\n{result['stderr'][-4096:]}"
    for denial in result["denials"]:
        yield refused(denial)
    if _NO_NAMES.search(printed):
        yield _NETWORK
    for number, path in _OF_A_FILE.findall(printed)[:3]:
        yield from _of_a_file(int(number), path, policy)
    if missing := _NO_MODULE.search(printed):
        yield f"{missing[1]} is not in this box and cannot be installed: use what is there, or the standard library"
    elif result.get("hint"):
        yield result["hint"]
    if result["truncated"]:
        yield f"the output was cut ({_output(policy)}): print less"
    if result.get("alive") is False:
        yield "this box has ended, its variables and files are gone: the next execute starts a new one"


def refused(denial: Mapping[str, Any]) -> str:
    """Returns why a call was refused. denial: as in `Result.denials`."""
    if denial["reason"].startswith("network"):
        return _NETWORK
    if denial["reason"] == "limits.threads":
        return _NO_THREADS
    if denial["call"] in ("clone", "clone3", "fork", "vfork", "execve", "execveat"):
        return _NO_PROGRAMS
    return f"{denial['call']} was refused with {denial['errno']}: {on_one_line(denial['reason'])[:_NAME]}"


def _ended(result: Mapping[str, Any], policy: Policy, timeout: float | None) -> Iterator[str]:
    """What a limit or the controller has to say of the end."""
    status, why, limits = result["status"], on_one_line(result["why"])[:_NAME], policy.limits
    if status == "time_limit":
        key = "cpu_time" if "cpu_time" in why else "wall_time"
        seconds = limits.cpu_time if key == "cpu_time" else timeout or limits.wall_time
        kind = "CPU time limit" if key == "cpu_time" else "time limit"
        most = "" if seconds is None else f" of {spoken_duration(seconds)}"
        yield f"{kind}{most} reached: do less at a time"
    elif status == "memory_limit":
        most = "" if limits.memory is None else f" of {spoken_size(limits.memory)}"
        yield f"memory limit{most} reached: work on less at a time"
    elif status == "output_limit":
        yield f"the program was ended for too much output ({_output(policy)}): print less"
    elif status == "disk_limit":
        yield "the box has no more room for files: write less, or delete some"
    elif status == "call_limit":
        yield "the program made too many calls of the operating system: read and write in larger pieces"
    elif status not in ("ok", "error", "syntax_error"):
        yield f"{status.replace('_', ' ')}: {why or 'the program was ended'}"


def _output(policy: Policy) -> str:
    output = policy.output
    told = [] if output.limit is None else [f"at most {spoken_size(output.limit)} for each stream"]
    return ", ".join([*told, *([] if output.lines is None else [f"{output.lines:,} lines"])]) or "its limit"


def _of_a_file(number: int, path: str, policy: Policy) -> Iterator[str]:
    """What there is in the place of a file that a program could not use."""
    shown, choice, readable = on_one_line(path[:_NAME]), ", ".join(writable(policy)), _readable(policy)
    is_outside = path.startswith("/") and not any(f"{path}/".startswith(f"{place}/") for place in readable)
    if number in _NOT_ALLOWED and is_outside:
        yield f"/{shown.split('/')[1]} is not part of this box; writable: {choice}"
    elif number in _NOT_ALLOWED:
        yield f"{shown} may not be used like that; writable: {choice}"
    elif number in _NOT_THERE and is_outside:
        yield f"{shown} is not in this box, which has {', '.join(readable)} and the interpreter's library"
    elif number in _NOT_THERE:
        yield f"there is no {shown} in this box: files come into it with `files` or from the code itself"
