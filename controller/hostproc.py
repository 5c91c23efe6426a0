"""Reads the host's /proc about a process: all reads of the controller, except the checks of a seal.

The checks of the seal (seal/inspection.py, seal/layers.py) read /proc themselves.

Each function raises OSError where the process has ended or /proc cannot be read, and ValueError where a fact is
missing.
"""

import contextlib
import functools
import os
import resource
from collections.abc import Iterator

_PAGE = resource.getpagesize()

#: The number of the field num_threads in proc_pid_stat(5).
_NUM_THREADS = 20


def _read(pid: int | str, name: str) -> bytes:
    # A KeyboardInterrupt may come after any call: an unassigned file object is still closed.
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.read(8192)


def _word(status: bytes, key: str) -> bytes:
    """Returns the first word after a key of proc_pid_status(5); b"" where there is none."""
    words = status.partition(b"\n%s:" % key.encode())[2].split(None, 1)
    return words[0] if words else b""


def status(pid: int | str, key: str, base: int = 10) -> int:
    """Returns a number from proc_pid_status(5), by its key.

    pid: a process id, a thread id, or "self".
    """
    word = _word(_read(pid, "status"), key)
    if not word:
        raise ValueError(f"no {key} in /proc/{pid}/status")
    return int(word, base)


def stat(pid: int, *fields: int) -> tuple[int, ...]:
    """Returns fields of proc_pid_stat(5), by their numbers in the man page.

    Only the fields after the name can be read. The name may hold any bytes.
    """
    words = _read(pid, "stat").rpartition(b")")[2].split()
    if len(words) + 2 < max(fields):
        raise ValueError(f"/proc/{pid}/stat ends too soon")
    return tuple(int(words[number - 3]) for number in fields)


def thread_count(pid: int) -> int:
    """Returns how many threads the kernel counts in a process."""
    return stat(pid, _NUM_THREADS)[0]


def running_threads(pid: int) -> int:
    """Returns how many threads of a process have not ended.

    The kernel also counts a main thread that has ended (pthread_exit(3)), as a zombie, until the others have ended.
    """
    return thread_count(pid) - (state(pid) == "Z")


def state(pid: int) -> str:
    """Returns the state of a process or a thread, such as "R", "S" or "T" (proc_pid_stat(5))."""
    words = _read(pid, "stat").rpartition(b")")[2].split()
    if not words:
        raise ValueError(f"/proc/{pid}/stat is empty")
    return words[0].decode("latin-1")


def threads(pid: int) -> list[int]:
    """Returns the ids of a process's threads."""
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def _of_memory(pid: int, name: str) -> Iterator[bytes]:
    """Yields the texts of a file about a process: if one text does not show its memory, the next one does.

    The kernel reads the memory through a thread. The first thread may have ended before the others (pthread_exit(3)).
    """
    yield _read(pid, name)
    for tid in threads(pid):
        if tid != pid:
            with contextlib.suppress(OSError):  # this thread has ended meanwhile
                yield _read(f"{pid}/task/{tid}", name)


def memory(pid: int) -> tuple[int, int]:
    """Returns the bytes of address space, and how many are resident (proc_pid_statm(5)); 0 where it has ended."""
    for text in _of_memory(pid, "statm"):
        words = text.split()
        if len(words) < 2:
            raise ValueError(f"/proc/{pid}/statm is empty")
        if int(words[0]):
            return int(words[0]) * _PAGE, int(words[1]) * _PAGE
    return 0, 0


def space_and_use(pid: int) -> tuple[int, int]:
    """Returns the bytes of address space, and how many a process uses, of memory and swap (proc_pid_status(5)).

    Pages of files do not count as used, because the kernel can read them again; page tables do. Pages that a process
    shares with its parent since fork(2) count, and so do its copies of them: once.
    """
    for text in _of_memory(pid, "status"):
        words = [_word(text, key) for key in ("VmSize", "RssAnon", "RssShmem", "VmSwap", "VmPTE")]
        if all(map(bytes.isdigit, words)):
            space, *used = map(int, words)
            return space * 1024, sum(used) * 1024
    raise ValueError(f"/proc/{pid}/status does not tell what memory is used for")


def peaks(pid: int) -> dict[str, int]:
    """Returns the most bytes that a living process has used, as far as /proc shows it.

    The keys are VmPeak (address space) and VmHWM (in memory) of proc_pid_status(5).
    """
    for text in _of_memory(pid, "status"):
        words = {key: _word(text, key) for key in ("VmPeak", "VmHWM")}
        if found := {key: int(word) * 1024 for key, word in words.items() if word.isdigit()}:
            return found
    return {}


@functools.cache
def gives_huge_pages() -> bool:
    """Whether this kernel gives transparent huge pages on request (madvise(2), MADV_HUGEPAGE)."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled", "rb") as file:
            return b"[never]" not in file.read(100)
    except OSError:
        return False
