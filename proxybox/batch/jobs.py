"""The jobs of `proxybox batch`: a file of lines, each of which is a JSON object.

    {"id": "ada", "code": "print(input())", "stdin": "3\\n"}
    {"file": "submissions/bob.py", "stdin": {"file": "inputs/1.txt"}, "timeout": 2}

Rules: no code of a job is imported or run in this process. Files are read below the folder of the jobs alone, never
through a symbolic link or another filesystem, and only regular ones. All lines are checked before the first one runs.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO, Final

import attrs

from proxybox import argumentchecks
from proxybox.batch.mapping import ItemWork
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.vfs.host.boundary import HostRoot
from proxybox.policies import Policy
from proxybox.policies.errors import ProxyboxError, shown
from proxybox.policies.sizes import spoken_size

KEYS: Final = ("id", "code", "file", "stdin", "args", "files", "timeout")
#: Bytes of a line, and of a file that a job names.
_MOST_LINE, _MOST_FILE = 16 << 20, 64 << 20
_MOST_ID: Final = 256
#: How many faulty lines are reported.
_MOST_TOLD: Final = 20


class JobsError(ProxyboxError):
    """Jobs cannot be run; the text names the faulty lines, and the fault of each."""


@attrs.frozen
class Job:
    """One job.

    id: its own, or the number of its line with its digest. digest: of all its content. keywords: the item for `map`.
    is_named: whether the id is its own.
    """

    id: str
    digest: str
    keywords: dict[str, Any]
    is_named: bool


class JobFile:
    """The jobs of a file that can be read more than once.

    file: has the lines. folder: the folder of the jobs' files. policy: its limit of wall time bounds that of each job.
    """

    def __init__(self, file: BinaryIO, folder: str, policy: Policy) -> None:
        self._file = file
        self._folder = folder
        self._closing = ExitStack()
        self._root: HostRoot | None = None
        self._work = ItemWork.of(None, policy, None)
        self._most = policy.limits.wall_time

    def close(self) -> None:
        """Closes the folder."""
        self._closing.close()

    def check(self) -> int:
        """Returns the number of jobs. Raises JobsError with the faulty lines, or the first of them."""
        problems: list[str] = []
        seen: dict[bytes, int] = {}
        count = wrong = 0
        for number, line in self._lines():
            count += 1
            try:
                job = self._job(number, line, is_read=False)
                if job.is_named and (before := seen.setdefault(_short(job.id), number)) != number:
                    raise ValueError(f"id: {shown(job.id)} is that of line {before}, too")
            except (ValueError, TypeError, OSError, SandboxStartError) as error:
                wrong += 1
                if wrong <= _MOST_TOLD:
                    problems.append(f"line {number}: {_told(error)}")
        if wrong > _MOST_TOLD:
            problems.append(f"and {wrong - _MOST_TOLD:,} more lines")
        if problems:
            raise JobsError("\n".join(problems))
        return count

    def read(self) -> Iterator[Job]:
        """Yields the jobs, with the content of their files. Raises JobsError if something has changed since `check`."""
        for number, line in self._lines():
            try:
                job = self._job(number, line, is_read=True)
            except (ValueError, TypeError, OSError, SandboxStartError) as error:
                raise JobsError(f"line {number}: {_told(error)}") from None
            yield job

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Yields the lines that are not empty, with their numbers.

        Of a line that is too long, only the beginning is read.
        """
        self._file.seek(0)
        number = 0
        while line := self._file.readline(_MOST_LINE + 1):
            number += 1
            rest = line
            while not rest.endswith(b"\n") and (rest := self._file.readline(_MOST_LINE + 1)):
                pass
            if line.strip():
                yield number, line

    # --- one line -----------------------------------------------------------------------------------------------------

    def _job(self, number: int, line: bytes, *, is_read: bool) -> Job:
        """Reads a line. is_read: whether its files are read; otherwise, it is only checked that they can be."""
        if len(line) > _MOST_LINE:
            raise ValueError(f"want at most {spoken_size(_MOST_LINE)} in a line: a longer text can stand in a file")
        try:
            found = json.loads(line)
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        except ValueError as error:
            raise ValueError(f"it is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise TypeError(f"want a JSON object, got {shown(found)}")
        if unknown := [key for key in found if key not in KEYS]:
            raise ValueError(f"{shown(unknown[0])} is no key of a job (allowed: {', '.join(KEYS)})")
        ident = found.pop("id", None)
        keywords = self._keywords(found, is_read=is_read)
        self._work.item(keywords)
        identity = {**keywords, "timeout": found.get("timeout")}  # as in the line, without the policy
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=_digest_of_bytes).encode()).hexdigest()[
            :16
        ]
        return Job(f"{number}-{digest}" if ident is None else _ident(ident), digest, keywords, ident is not None)

    def _keywords(self, found: dict[str, Any], *, is_read: bool) -> dict[str, Any]:
        """Returns the item for `map`, without the id."""
        if ("code" in found) == ("file" in found):
            raise ValueError("want either code, which is a text, or file, which is a path")
        if "file" in found:
            code = self._content("file", {"file": found["file"]}, is_read=is_read)
        else:
            code = argumentchecks.source(found["code"])
        keywords: dict[str, Any] = {"code": code}
        if found.get("stdin") is not None:
            keywords["stdin"] = self._content("stdin", found["stdin"], is_read=is_read)
        if found.get("args") is not None:
            keywords["args"] = list(argumentchecks.arguments(found["args"]))
        if found.get("files") is not None:
            files = found["files"]
            if not isinstance(files, dict):
                argumentchecks.wrong_kind("files", "an object of names and their content", files)
            keywords["files"] = {
                name: self._content(f"files[{shown(name)}]", value, is_read=is_read) for name, value in files.items()
            }
        seconds = argumentchecks.duration("timeout", found.get("timeout"))
        if seconds is not None:
            seconds = seconds if self._most is None else min(seconds, self._most)
            keywords["timeout"] = "none" if seconds == float("inf") else seconds
        return keywords

    def _content(self, key: str, value: object, *, is_read: bool) -> str | bytes:
        """Returns a text, or the content of a file."""
        if isinstance(value, str):
            return value
        if not isinstance(value, dict) or list(value) != ["file"]:
            argumentchecks.wrong_kind(key, 'a text or {"file": PATH}', value)
        path = argumentchecks.text("file", value["file"])
        if path.startswith("/") or not path or {"", ".", ".."} & set(path.split("/")) or "\0" in path:
            argumentchecks.no_sense("file", "a relative path below the folder of the jobs", path)
        if self._root is None:
            self._root = HostRoot(self._folder)
            self._closing.callback(self._root.close)
        try:
            fd = self._root.open_file(os.fsencode(path), os.O_RDONLY)
        except UnicodeEncodeError:
            argumentchecks.no_sense("file", "a path that can be written as UTF-8", path)
        except OSError as error:
            hint = "" if error.errno == errno.ENOENT else "; want a regular file, reached without symbolic links"
            raise OSError(error.errno, f"{os.strerror(error.errno or 0)}: {shown(path)}{hint}") from None
        with open(fd, "rb") as file:
            size = os.fstat(fd).st_size
            content = file.read(_MOST_FILE + 1) if is_read else b""
        if max(size, len(content)) > _MOST_FILE:
            raise ValueError(f"file: want at most {spoken_size(_MOST_FILE)}, got {size:,} bytes in {shown(path)}")
        return content


def _ident(value: object) -> str:
    """Returns an id as text; a number becomes its digits."""
    ident = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(ident, str):
        argumentchecks.wrong_kind("id", "a text or a whole number", value)
    if not 0 < len(ident) <= _MOST_ID:
        raise ValueError(f"id: want 1 to {_MOST_ID} characters, got {shown(ident)}")
    return ident


def _digest_of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _short(ident: str) -> bytes:
    return hashlib.blake2b(ident.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _told(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
