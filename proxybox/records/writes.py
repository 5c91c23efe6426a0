"""The contents that a recorded program has written to its files, found from its calls alone.

The content of a file is known after the program has made or emptied it, as long as it is written by calls that contain
the data. Earlier content, data from a mapping or from another file, and files behind a symbolic link are not known:
then the file is not compared.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

import attrs

from proxybox.controller import abi
from proxybox.controller.calleffects import OF_NO_FILE, CallEffect
from proxybox.controller.oscalls.rows import by_effect
from proxybox.records.openfiles import LONGEST_PATH, OpenFiles, closed, data, duplicates, number, succeeded
from proxybox.records.record import RecordedCall
from proxybox.result import Change

#: The most bytes of all files together; the most files, names and descriptors; the most names that are compared for
#: calls that move folders or close ranges.
_MOST_BYTES, _MOST_FILES, _MOST_STEPS = 256 << 20, 100_000, 20_000_000
_SHARED: Final = 3  # MAP_SHARED, MAP_SHARED_VALIDATE
_PROT_WRITE: Final = 2
#: The box's own folders, whose files are not reported as changes.
_KEPT_BY_BOX: Final = ("/tmp/", "/dev/", "/proc/", "/run/", "/var/tmp/")  # noqa: S108 - of the box


@attrs.define(eq=False)
class _File:
    """A file. content: its content; None if it is not known."""

    content: bytearray | None = None


@attrs.define(eq=False)
class _Open:
    """An open file, which descriptors can share."""

    file: _File
    appends: bool = False
    offset: int = 0


class Writes:
    """The files that a program has written. Pass its calls to `follow`, in the order of their answers."""

    def __init__(self, cwd: str) -> None:
        self._paths = OpenFiles(cwd)
        self._open: dict[int, _Open] = {}
        self._names: dict[str, _File] = {}
        self._folders: set[str] = set()  # that the program has made
        self._above: set[str] = set()  # folders that have had files or folders of these
        self._gone: dict[str, bool] = {}  # names that were removed, with whether the program had made them
        self._bytes = self._steps = 0
        self._is_sure = True  # whether each name means its own file, and no call was left out

    def follow(self, call: RecordedCall) -> None:
        """Processes one call. When the files can no longer be known, all stored data is dropped."""
        if not self._is_sure:
            self._open, self._names, self._gone, self._folders, self._above = {}, {}, {}, set(), set()
            return
        if call.name == "openat" and "place" in call.arguments:  # the stub has closed this descriptor before
            self._open.pop((number(call, "mode") or 0) // (1 << 32) - 1, None)
        act = _ACTS.get(call.name)
        if act is not None and succeeded(call) and (call.result or 0) >= 0:
            act(self, call, call.result or 0)
        self._paths.follow(call)
        known = len(self._names) + len(self._gone) + len(self._folders) + len(self._above) + len(self._open)
        if known > _MOST_FILES or self._steps > _MOST_STEPS:
            self._is_sure = False

    def differs(self, changes: Collection[Change]) -> str:
        """Returns how changes differ from the written data; "" if no difference is known."""
        if not self._is_sure:
            return ""
        paths = set(map(_path_of, changes))
        touched = {*self._names, *(path for path, was_made in self._gone.items() if not was_made)}
        has_strays = any(path not in paths and not path.startswith(_KEPT_BY_BOX) for path in touched)
        return next((difference for each in changes if (difference := self._differs(each, has_strays=has_strays))), "")

    def unsure_of(self, changes: Iterable[Change]) -> Iterator[str]:
        """Yields the names of changed files whose content is not known from the calls."""
        for change in changes:
            file = self._names.get(_path_of(change))
            if change.content is not None and not (self._is_sure and file is not None and file.content is not None):
                yield change.name

    def _differs(self, change: Change, *, has_strays: bool) -> str:
        """Returns how a change differs. has_strays: whether links of the host may lead names elsewhere."""
        path = _path_of(change)
        if change.kind == "deleted":
            is_gone = has_strays or any(f"{path}/".startswith(f"{each}/") for each in self._gone)
            return "" if is_gone else f"{change.name} was not removed"
        if change.content is None:
            return ""
        file = self._names.get(path)
        if file is None:
            return "" if has_strays else f"{change.name} was not written"
        if file.content is not None and file.content != change.content:
            return f"something else was written to {change.name}"
        return ""

    # --- calls --------------------------------------------------------------------------------------------------------

    def _path(self, call: RecordedCall, argument: str = "path") -> str:
        path = self._paths.path(call, argument) or ""
        if "/.." in path or not path.startswith("/"):
            self._is_sure = False  # it may be any file
        return path

    def _opened(self, call: RecordedCall, fd: int) -> None:
        flags = number(call, "flags") or 0
        if call.name == "creat":
            flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
        elif call.name == "openat2":
            flags = int.from_bytes((data(call, "how") or b"")[:8], "little")
        path, access = self._path(call), flags & os.O_ACCMODE
        is_emptied = bool(flags & os.O_TRUNC and access)
        is_made = is_emptied or bool(flags & os.O_CREAT and flags & os.O_EXCL)
        if flags & abi.O_TMPFILE == abi.O_TMPFILE:
            self._open[fd] = _Open(_File())
            return
        file = self._names.get(path)
        if file is None:
            file = _File(bytearray() if is_made else None)
        elif is_emptied:
            self._set(file, bytearray())
        if access or flags & os.O_CREAT:
            self._name(path, file)
        self._open[fd] = _Open(file, bool(flags & os.O_APPEND))

    def _name(self, path: str, file: _File) -> None:
        self._names[path] = file
        self._place(path)

    def _known(self, path: str, file: _File | None = None) -> _File:
        """Returns the file of a name; adds it if the name is new. file: the file for a new name; None to make one."""
        if path not in self._names:
            self._name(path, _File() if file is None else file)
        return self._names[path]

    def _make(self, folder: str) -> None:
        self._folders.add(folder)
        self._place(folder)

    def _place(self, path: str) -> None:
        """Stores a path's folders. A path that was cut may be any path."""
        self._is_sure = self._is_sure and len(path) < LONGEST_PATH
        while (path := path.rpartition("/")[0]) and path not in self._above:
            self._above.add(path)

    def _has_room(self, file: _File, size: int) -> bool:
        """Whether a file of this size can be stored."""
        return self._bytes + size - len(file.content or b"") <= _MOST_BYTES

    def _set(self, file: _File, content: bytearray | None) -> None:
        self._bytes += len(content or b"") - len(file.content or b"")
        file.content = content

    def _written(self, call: RecordedCall, count: int) -> None:
        opened = self._open.get(number(call, "fd") or 0)
        if opened is None:
            return
        offset = number(call, "offset")
        passed = data(call, "buf")
        passed = data(call, "iov") if passed is None else passed
        content = opened.file.content
        if content is None or passed is None:
            self._set(opened.file, None)
            opened.offset += count if offset is None else 0
            return
        at = len(content) if opened.appends else opened.offset if offset is None or offset < 0 else offset
        size = len(content)
        if self._has_room(opened.file, max(size, at + count)):
            content.extend(bytes(max(at - size, 0)))
            content[at : at + count] = passed[:count]
            self._bytes += len(content) - size
        else:
            self._set(opened.file, None)
        if offset is None or offset < 0:
            opened.offset = at + count

    def _moved_on(self, call: RecordedCall, count: int) -> None:
        offset = number(call, "offset")
        opened = self._open.get(number(call, "fd") or 0)
        if opened is not None and (offset is None or offset < 0):
            opened.offset += count

    def _sought(self, call: RecordedCall, offset: int) -> None:
        if (opened := self._open.get(number(call, "fd") or 0)) is not None:
            opened.offset = offset

    def _cut(self, call: RecordedCall, _: int) -> None:
        opened = self._open.get(number(call, "fd") or 0)
        if call.name == "truncate":
            file = self._known(self._path(call))
        elif opened is None:
            return
        else:
            file = opened.file
        length = number(call, "length") or 0
        if length == 0 and call.name != "fallocate":
            self._set(file, bytearray())
        elif file.content is not None and call.name != "fallocate" and self._has_room(file, length):
            self._set(file, file.content[:length].ljust(length, b"\0"))
        else:
            self._set(file, None)

    def _closed(self, call: RecordedCall, _: int) -> None:
        first, last = closed(call)
        if first == last:
            self._open.pop(first, None)
            return
        self._steps += len(self._open)
        for fd in [fd for fd in self._open if first <= fd <= last]:
            del self._open[fd]

    def _copied(self, call: RecordedCall, fd: int) -> None:
        opened = self._open.get(number(call, "fd") or 0)
        if not duplicates(call):
            self._controlled(call, opened)
        elif opened is None:
            self._open.pop(fd, None)
        else:
            self._open[fd] = opened

    def _controlled(self, call: RecordedCall, opened: _Open | None) -> None:
        if opened is not None and number(call, "cmd") == abi.F_SETFL:
            argument = call.arguments.get("arg")
            flags = argument[0] if isinstance(argument, tuple) else 0
            opened.appends = bool(flags & os.O_APPEND)

    def _mapped(self, call: RecordedCall, result: int) -> None:
        opened = self._open.get(number(call, "fd") or 0)
        is_shared = (number(call, "flags") or 0) & _SHARED in (1, 3)
        if opened is not None and is_shared and (number(call, "prot") or 0) & _PROT_WRITE:
            self._set(opened.file, None)

    def _filled(self, call: RecordedCall, _: int) -> None:
        """Marks the content as unknown: data from another file, pipe or socket is not in the call."""
        for name in ("out_fd", "fd_out"):
            if (opened := self._open.get(number(call, name) or 0)) is not None:
                self._set(opened.file, None)

    def _removed(self, call: RecordedCall, _: int) -> None:
        path = self._path(call)
        was_made = self._names.pop(path, None) is not None or path in self._folders
        self._folders.discard(path)
        self._gone[path] = was_made

    def _renamed(self, call: RecordedCall, _: int) -> None:
        old, new = self._path(call, "old"), self._path(call, "new")
        if (number(call, "flags") or 0) & 2:  # RENAME_EXCHANGE
            self._is_sure = False
        moved = self._below(self._names, old)
        for path in self._below(self._names, new):
            del self._names[path]
        for path, file in moved.items():
            self._names.pop(path, None)
            self._name(new + path[len(old) :], file)
        if old not in moved and old not in self._folders:  # an older file, or a folder of such files
            self._name(new, _File())
            self._is_sure = False
        for folder in self._below(dict.fromkeys(self._folders), old):
            self._folders.discard(folder)
            self._make(new + folder[len(old) :])
        self._gone[old], self._gone[new] = True, True

    def _below(self, names: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Returns the items for a path, and for all paths below it."""
        if path not in self._above:  # the usual case: programs move files
            return {path: names[path]} if path in names else {}
        self._steps += len(names)
        return {name: what for name, what in names.items() if f"{name}/".startswith(f"{path}/")}

    def _linked(self, call: RecordedCall, _: int) -> None:
        self._name(self._path(call, "new"), self._known(self._path(call, "old")))

    def _made(self, call: RecordedCall, _: int) -> None:
        self._name(self._path(call), _File(bytearray()))

    def _made_link(self, call: RecordedCall, _: int) -> None:
        self._is_sure = False

    def _made_folder(self, call: RecordedCall, _: int) -> None:
        self._make(self._path(call))

    def _altered(self, call: RecordedCall, _: int) -> None:
        """Adds a file whose mode, owner or attributes were changed: this is a change, too."""
        fd = number(call, "fd")
        opened = None if fd is None else self._open.get(fd)
        path = self._path(call) if fd is None else self._paths.name(fd)
        self._known(path, None if opened is None else opened.file)


def _path_of(change: Change) -> str:
    name = change.name
    return name if name.startswith("/") else f"/box/{name}"


_ACTS: Final = by_effect(
    {
        CallEffect.OPENS: Writes._opened,
        CallEffect.WRITES: Writes._written,
        CallEffect.READS: Writes._moved_on,
        CallEffect.READS | CallEffect.WRITES: Writes._filled,
        CallEffect.SEEKS: Writes._sought,
        CallEffect.RESIZES: Writes._cut,
        CallEffect.ALTERS: Writes._altered,
        CallEffect.MAKES: Writes._made,
        CallEffect.MAKES | CallEffect.DIRECTORY: Writes._made_folder,
        CallEffect.MAKES | CallEffect.SYMLINK: Writes._made_link,
        CallEffect.REMOVES: Writes._removed,
        CallEffect.RENAMES: Writes._renamed,
        CallEffect.LINKS: Writes._linked,
        CallEffect.DUPLICATES: Writes._copied,
        CallEffect.CLOSES: Writes._closed,
        CallEffect.MAPS: Writes._mapped,
    },
    nothing=OF_NO_FILE | CallEffect.DIRECTORY | CallEffect.SYMLINK | CallEffect.LISTS | CallEffect.LOOKS
    | CallEffect.STATUS | CallEffect.CREATES | CallEffect.ENTERS,
)  # fmt: skip
