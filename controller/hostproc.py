"""What the host's own /proc says of a process: all that the controller asks it, but for what proves a seal
(seal/inspection.py, which believes nothing that it has not read itself).

Each raises OSError where the process has gone, or /proc is not to be had, and ValueError where a fact is not told.
"""

import resource

_PAGE = resource.getpagesize()


def _read(pid: int | str, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.read(8192)


def status(pid: int | str, key: str, base: int = 10) -> int:
    """A number of proc_pid_status(5), by its key. pid: or a thread's id, or "self"."""
    words = _read(pid, "status").partition(b"\n%s:" % key.encode())[2].split(None, 1)
    if not words:
        raise ValueError(f"no {key} in /proc/{pid}/status")
    return int(words[0], base)


def stat(pid: int, *fields: int) -> tuple[int, ...]:
    """Fields of proc_pid_stat(5), by their numbers there: those behind the name, which may hold anything."""
    words = _read(pid, "stat").rpartition(b")")[2].split()
    if len(words) + 2 < max(fields):
        raise ValueError(f"/proc/{pid}/stat ends too soon")
    return tuple(int(words[number - 3]) for number in fields)


def memory(pid: int) -> tuple[int, int]:
    """Bytes of address space, and of those that are in memory (proc_pid_statm(5))."""
    words = _read(pid, "statm").split()
    if len(words) < 2:
        raise ValueError(f"/proc/{pid}/statm is empty")
    return int(words[0]) * _PAGE, int(words[1]) * _PAGE


def peaks(pid: int) -> dict[str, int]:
    """The most bytes that a living process has used: VmPeak (address space) and VmHWM (in memory) of
    proc_pid_status(5), as far as they are told."""
    text, found = _read(pid, "status"), {}
    for key in ("VmPeak", "VmHWM"):
        words = text.partition(b"\n%s:" % key.encode())[2].split(None, 1)
        if words and words[0].isdigit():
            found[key] = int(words[0]) * 1024
    return found
