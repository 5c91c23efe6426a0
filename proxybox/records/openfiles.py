"""Finds the files of a recorded program's descriptors and paths, from its calls and their answers.

All threads of a program have one table of descriptors and one current directory. Symbolic links are not followed: a
path is the program's own text, joined to its starting directory.
"""

import posixpath
import struct
from functools import lru_cache
from typing import Final

from proxybox.controller import abi
from proxybox.controller.calleffects import OF_NO_FILE, ON_NAMES, CallEffect
from proxybox.controller.oscalls.rows import by_effect, paths_of
from proxybox.records.record import RecordedCall

#: The most descriptors that are known at a time, and characters of a path: a record can have many long paths.
MOST_DESCRIPTORS, LONGEST_PATH = 1 << 12, 1000
STANDARD: Final = {0: "<stdin>", 1: "<stdout>", 2: "<stderr>"}
#: Beyond all descriptors and mappings: mmap's answers from here on are no hidden descriptors.
_NO_DESCRIPTOR: Final = 1 << 40
_DUPLICATING: Final = frozenset({0, 1030})  # F_DUPFD, F_DUPFD_CLOEXEC


def number(call: RecordedCall, name: str) -> int | None:
    """Returns an argument that is a number; None if there is none."""
    value = call.arguments.get(name)
    return value if isinstance(value, int) else None


def data(call: RecordedCall, name: str) -> bytes | None:
    """Returns an argument that is bytes; None if there is none."""
    value = call.arguments.get(name)
    return value if isinstance(value, bytes) else None


def duplicates(call: RecordedCall) -> bool:
    """Whether a call such as fcntl(2) makes another descriptor for the same file."""
    command = number(call, "cmd")
    return command is None or command in _DUPLICATING


def closed(call: RecordedCall) -> tuple[int, int]:
    """Returns the first and the last descriptor that a call closes; the last is less if it closes none."""
    first, last = number(call, "first"), number(call, "last")
    if first is None or last is None:
        fd = number(call, "fd")
        return (0, -1) if fd is None else (fd, fd)
    return (0, -1) if (number(call, "flags") or 0) & abi.CLOSE_RANGE_CLOEXEC else (first, last)


def text_of(path: bytes) -> str:
    """Returns a path as text, with backslash escapes for bytes that are not UTF-8."""
    return _text(path[:LONGEST_PATH])


@lru_cache(1024)
def _text(path: bytes) -> str:
    """Returns a path as text. It has a cache: programs often use the same paths, and escapes take long."""
    return path.decode("utf-8", "backslashreplace")[:LONGEST_PATH]


def waited(call: RecordedCall) -> float:
    """Returns the seconds that a call waited: 0 if it was answered at once, or never, or if the record claims less."""
    return max(call.took or 0.0, 0.0)


def succeeded(call: RecordedCall) -> bool:
    """Whether a call was answered without an error."""
    return call.result is not None and call.errno is None


class OpenFiles:
    """The descriptors and the current directory of a program while its calls are read."""

    def __init__(self, cwd: str) -> None:
        self.cwd = cwd
        self._names: dict[int, str] = dict(STANDARD)

    def name(self, fd: int | None) -> str:
        """Returns the name for a descriptor: a path, or a word in angle brackets."""
        if fd is None:
            return "<unknown>"
        return self._names.get(fd) or f"<descriptor {fd}>"

    def path(self, call: RecordedCall, argument: str = "path") -> str | None:
        """Returns the path in a call's argument, absolute if its start is known; None if the call has no path."""
        path = data(call, argument)
        if path is None:
            return None
        start = number(call, paths_of(call.name).get(argument, ""))
        if not path and start is not None:  # AT_EMPTY_PATH
            return self.name(start)
        return self._from(start, text_of(path))

    def _from(self, dirfd: int | None, path: str) -> str:
        if not path.startswith("/"):
            start = self.cwd if dirfd is None or dirfd == abi.AT_FDCWD else self.name(dirfd)
            path = f"{start.rstrip('/')}/{path}"[:LONGEST_PATH]
        # ".." after a symbolic link leads elsewhere, so it stays
        return path if "/.." in path or not path.startswith("/") else posixpath.normpath(path).replace("//", "/")

    def subject(self, call: RecordedCall) -> str:
        """Returns the subject of a call: its path, or the name of its descriptor; "" for other calls."""
        for argument in ("path", "old"):
            if (path := self.path(call, argument)) is not None:
                return path
        for argument in ("fd", "in_fd", "epfd"):
            fd = number(call, argument)
            if fd is not None and not (call.name == "mmap" and fd < 0):
                return self.name(fd)
        return ""

    def follow(self, call: RecordedCall) -> None:
        """Updates the descriptors and the current directory after an answered call."""
        if call.name == "openat" and "place" in call.arguments:
            self._close((number(call, "mode") or 0) // (1 << 32) - 1)
        if not succeeded(call):
            return
        kept = _FOLLOWED.get(call.name)
        if kept is not None:
            kept(self, call, call.result or 0)

    def _enter(self, fd: int, name: str) -> None:
        if fd in self._names or len(self._names) < MOST_DESCRIPTORS:
            self._names[fd] = name

    def _close(self, fd: int | None) -> None:
        self._names.pop(-1 if fd is None else fd, None)

    def _opened(self, call: RecordedCall, fd: int) -> None:
        self._enter(fd, self.path(call) or "<unknown>")

    def _closed(self, call: RecordedCall, _: int) -> None:
        first, last = closed(call)
        if first == last:
            self._close(first)
        else:
            self._names = {fd: name for fd, name in self._names.items() if not first <= fd <= last}

    def _copied(self, call: RecordedCall, fd: int) -> None:
        if duplicates(call):
            self._enter(fd, self.name(number(call, "fd")))

    def _mapped(self, call: RecordedCall, result: int) -> None:
        file = number(call, "fd")
        if file is not None and file >= 0 and 0 < result < _NO_DESCRIPTOR:  # hidden, for reads of its pages
            self._enter(result, self.name(file))

    def _created(self, call: RecordedCall, fd: int) -> None:
        name = call.name.rstrip("0123456789").removesuffix("_create")  # pipe2, epoll_create1, memfd_create
        stored = call.stored[0].data if call.stored else None
        if stored is not None and len(stored) == 8:  # two descriptors at once
            for each in struct.unpack("<ii", stored):
                self._enter(each, "<socket pair>" if name == "socketpair" else f"<{name}>")
        elif not call.stored:
            of = data(call, "name")
            self._enter(fd, f"<{name}>" if of is None else f"<{name} {text_of(of)[:256]}>")

    def _entered(self, call: RecordedCall, _: int) -> None:
        path = self.path(call) or self.name(number(call, "fd"))
        self.cwd = path if path.startswith("/") else self.cwd


_FOLLOWED: Final = by_effect(
    {
        CallEffect.OPENS: OpenFiles._opened,
        CallEffect.CREATES: OpenFiles._created,
        CallEffect.DUPLICATES: OpenFiles._copied,
        CallEffect.CLOSES: OpenFiles._closed,
        CallEffect.MAPS: OpenFiles._mapped,
        CallEffect.ENTERS: OpenFiles._entered,
    },
    nothing=ON_NAMES | OF_NO_FILE | CallEffect.READS | CallEffect.WRITES | CallEffect.LISTS | CallEffect.LOOKS
    | CallEffect.STATUS | CallEffect.SEEKS | CallEffect.RESIZES | CallEffect.ALTERS,
)  # fmt: skip
