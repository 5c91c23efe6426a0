"""The form of a question: the question without values that a program derives from clocks and random numbers.

A program may sleep for a time that it has computed, write down when it began, or make a file with a made-up name. Even
equal runs differ in such values, so calls are aligned by their forms. After that, the questions themselves are
compared.
"""

import functools
import os
import re
from collections.abc import Mapping
from typing import Any, Final

from proxybox.controller.calleffects import CallEffect
from proxybox.controller.oscalls.rows import names_of, row_of
from proxybox.controller.roles import Meaning
from proxybox.madeup import MADE_UP
from proxybox.records.record import RecordedCall

#: Meanings of arguments that a program may derive from a clock, or make up.
_DERIVED: Final = (Meaning.TIME, Meaning.PATH, Meaning.TEXT)
#: Calls that write, and the descriptors that print.
_WRITING: Final = names_of(CallEffect.WRITES, but_not=CallEffect.READS)
_DIRECTORIES: Final = names_of(CallEffect.MAKES) & names_of(CallEffect.DIRECTORY)
_PRINTING: Final = frozenset({1, 2})
#: Numbers in printed text.
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
#: The flags and the mode with which Python's tempfile makes files and folders, and how many of their names are stored.
_OF_TEMPORARY_FILES: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_OF_TEMPORARY_FOLDERS: Final = 0o700
_MOST_NAMES: Final = 10_000
#: The most bytes of printed text, and of a path, that belong to the form.
_MOST: Final = 1 << 10


@functools.lru_cache(1024)
def _derived(call: str) -> Mapping[str, Meaning]:
    """Returns the arguments of a call that a program may derive or make up, with their meanings."""
    row = row_of(call)
    return {} if row is None else {name: each for name, each in row.meanings.items() if each in _DERIVED}


def _text(value: bytes) -> str:
    return value[:_MOST].decode("latin-1")


def _printed(value: bytes) -> str:
    return _NUMBER.sub("#", MADE_UP.sub("#", _text(value)))


class Forms:
    """The forms of one run's questions. It stores which names the program has made up, as tempfile does."""

    def __init__(self) -> None:
        self._made: set[bytes] = set()

    def of(self, call: RecordedCall) -> Mapping[str, Any]:
        """Returns the arguments of a question that belong to its form."""
        asked: Mapping[str, Any] = call.asked
        if call.name in _WRITING:
            fd = asked.get("fd")
            passed = [each for each in asked.values() if isinstance(each, bytes) and fd in _PRINTING]
            return {"fd": fd, "text": tuple(map(_printed, passed))}
        derived = _derived(call.name)
        if not derived:
            return asked
        self._note(call)
        return {name: self._formed(derived.get(name), value) for name, value in asked.items()}

    def _formed(self, meaning: Meaning | None, value: Any) -> Any:
        """Returns the part of a value that belongs to the form: for a time, only whether it is there."""
        if meaning is Meaning.TIME:
            return bool(value)
        return value if meaning is None or not isinstance(value, bytes) else self._path(value)

    def _note(self, call: RecordedCall) -> None:
        path, mode, flags = (call.asked.get(name) for name in ("path", "mode", "flags"))
        is_folder = call.name in _DIRECTORIES and mode == _OF_TEMPORARY_FOLDERS
        is_file = isinstance(flags, int) and flags & _OF_TEMPORARY_FILES == _OF_TEMPORARY_FILES
        if isinstance(path, bytes) and (is_folder or is_file) and len(self._made) < _MOST_NAMES:
            self._made.add(path.rpartition(b"/")[2])

    def _path(self, path: bytes) -> str:
        if self._made:
            path = b"/".join(b"#" if each in self._made else each for each in path[:_MOST].split(b"/"))
        return MADE_UP.sub("#", _text(path))
