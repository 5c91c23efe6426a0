"""Reads the requirements of a requirements file (pip's format) or of a script's inline metadata (PEP 723).

Only requirements that lead to wheels are accepted: paths, version control and editable installs would build, and so
run, foreign code here. The input is bounded, and read in linear time.
"""

import importlib.util
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from proxybox.controller.errors import PackagesError
from proxybox.packages.indexes import Indexes, folder
from proxybox.packages.parsing import Wish, address, wish

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest

#: Options of a requirements file, with their meanings; those of the last row have no value.
_OPTIONS = {
    "-i": "index", "--index-url": "index", "--extra-index-url": "extra", "-f": "folder", "--find-links": "folder",
    "-r": "file", "--requirement": "file",
    "--no-index": "none", "--pre": "pre", "--require-hashes": "hashes",
}  # fmt: skip
_FLAGS = ("none", "pre", "hashes")
#: The hashes that a requirement may have, with their number of hexadecimal digits.
_HASHES = {"sha256": 64, "sha384": 96, "sha512": 128}
#: The libraries of the extra `packages`.
_LIBRARIES = ("installer", "packaging", "uv")
_MOST, _DEEPEST, _MOST_FILES = 1 << 20, 8, 100
#: The most lines of all files together, and the most indexes and folders of wheels.
_MOST_LINES, _MOST_INDEXES = 20_000, 50
#: Suffixes of files that another file may name.
_ENDINGS = (".txt", ".in")


@attrs.frozen(kw_only=True)
class Wanted:
    """All requirements. pre: whether pre-releases are allowed. hashes: whether each package must have a hash."""

    wishes: tuple[Wish, ...] = ()
    indexes: Indexes = attrs.field(factory=Indexes)
    pre: bool = False
    hashes: bool = False

    def lines(self) -> list[str]:
        """Returns the lines of an equivalent requirements file, without passwords."""
        flags = (("--pre",) if self.pre else ()) + (("--require-hashes",) if self.hashes else ())
        return [*self.indexes.lines(), *flags, *map(str, self.wishes)]


def wanted(path: str, guest: "Guest") -> Wanted:
    """Returns the requirements of a file or a script.

    Raises PackagesError for a file that cannot be read, is invalid, or requires a build.
    """
    for name in _LIBRARIES:
        if importlib.util.find_spec(name) is None:
            raise PackagesError(f"requirements need `{name}` here: pip install 'proxybox[packages]'")
    if path.endswith(".py"):
        from proxybox.packages.inline import dependencies

        text = dependencies(path, read(path), guest)
        return Wanted(wishes=tuple(wish(f"{path}: # /// script", each, is_script=True) for each in text))
    reading = _Reading(os.path.dirname(os.path.realpath(path)))
    reading.read(path, 0)
    return Wanted(
        wishes=tuple(reading.wishes), indexes=reading.indexes, pre="pre" in reading.flags,
        hashes="hashes" in reading.flags or any(each.hashes for each in reading.wishes),
    )  # fmt: skip


def read(path: str) -> str:
    """Returns the text of a file of the caller's. Raises PackagesError."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_MOST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise PackagesError(f"{path}: cannot be read: {error}") from error
    if len(text) > _MOST:
        raise PackagesError(f"{path}: more than 1 MiB is no requirements file")
    return text


@attrs.define
class _Reading:
    """A requirements file that is being read, with those that it names. top: the folder of the first one."""

    top: str
    wishes: list[Wish] = attrs.field(factory=list)
    indexes: Indexes = attrs.field(factory=Indexes)
    flags: set[str] = attrs.field(factory=set)
    files: int = 0
    lines: int = 0

    def read(self, path: str, depth: int) -> None:
        self.files += 1
        if depth > _DEEPEST or self.files > _MOST_FILES:
            raise PackagesError(f"{path}: files that name each other {_DEEPEST} levels deep, or {_MOST_FILES} of them")
        for number, line in _lines(read(path)):
            where = f"{path}, line {number}"
            self.lines += 1
            if self.lines > _MOST_LINES:
                raise PackagesError(f"{where}: more than {_MOST_LINES:,} requirements and options")
            if line.startswith("-"):
                self._option(where, path, line, depth)
            else:
                text, *options = line.split(" --")
                self.wishes.append(wish(where, text, frozenset(_hash(where, each) for each in options)))

    def _option(self, where: str, path: str, line: str, depth: int) -> None:
        """Reads one option, alone on its line, with one value or none."""
        name, value = _split(line)
        meaning = _OPTIONS.get(name)
        if meaning is None:
            raise PackagesError(f"{where}: {name}: want a requirement, or one of {', '.join(_OPTIONS)}")
        if any(word.startswith("-") for word in value.split()):
            raise PackagesError(f"{where}: {line}: want one option on a line")
        if (meaning in _FLAGS) == bool(value):
            raise PackagesError(f"{where}: {line}: want {name} {'alone' if value else 'with a value'}")
        base = os.path.dirname(os.path.abspath(path))
        if len(self.indexes.extra) + len(self.indexes.folders) > _MOST_INDEXES:
            raise PackagesError(f"{where}: more than {_MOST_INDEXES} indexes and folders of wheels")
        if meaning == "file":
            self.read(self._beside(where, os.path.join(base, value)), depth + 1)
        elif meaning == "folder":
            self.indexes = self.indexes.over(Indexes(folders=(folder(where, value, base),)))
        elif meaning == "none":
            self.indexes = self.indexes.over(Indexes(is_none=True))
        elif meaning in _FLAGS:
            self.flags.add(meaning)
        else:
            address(where, value)
            # of several, pip takes the last one
            index = Indexes(default=value) if meaning == "index" else Indexes(extra=(value,))
            self.indexes = index.over(self.indexes)

    def _beside(self, where: str, path: str) -> str:
        """Returns the path of a file that another file names; other people may have written that file.

        The content of a file is sent to the index as names of packages, and the other file can also choose the index.
        So it must not name any file of the caller, such as a file with a password.
        """
        real = os.path.realpath(path) if path.isprintable() else ""
        is_below = real.startswith(f"{self.top.rstrip('/')}/")
        is_else = os.path.exists(real) and not os.path.isfile(real)
        if not (is_below and real.endswith(_ENDINGS)) or is_else:
            raise PackagesError(
                f"{where}: {path!r}: want a file that ends with {' or '.join(_ENDINGS)}, below {self.top}"
            )
        return real


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not empty, with their numbers: continued lines as one, without comments."""
    begun, joined = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        begun = begun or number
        if line.endswith("\\"):
            joined += f"{line[:-1]} "
            continue
        words = " ".join(_without_comment(joined + line).split())
        if words:
            yield begun, words
        begun, joined = 0, ""
    if words := " ".join(_without_comment(joined).split()):
        yield begun, words


def _without_comment(line: str) -> str:
    """Removes a comment, which begins with # at the beginning of a line or after white space."""
    at = line.find("#")
    while at > 0 and not line[at - 1].isspace():
        at = line.find("#", at + 1)
    return line if at < 0 else line[:at]


def _split(line: str) -> tuple[str, str]:
    """Splits an option from its value: --name value, --name=value, -n value, or -nvalue."""
    word, _, rest = line.partition(" ")
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, f"{value} {rest}".strip() if equals else rest
    return word[:2], f"{word[2:]} {rest}".strip()


def _hash(where: str, option: str) -> str:
    name, _, value = option.replace("=", " ", 1).partition(" ")
    if name != "hash":
        raise PackagesError(f"{where}: --{option}: want a requirement, with --hash alone after it")
    kind, _, digits = value.lower().partition(":")
    if len(digits) != _HASHES.get(kind) or set(digits) - set("0123456789abcdef"):
        raise PackagesError(f"{where}: --{option}: want --hash={'|'.join(_HASHES)}:DIGITS, in hexadecimal")
    return f"{kind}:{digits}"
