"""Reads folders that a TOML file describes: those of exercises and of courses.

Rule: a fault is a `Problem`. All faults are collected and reported together. No path leads out of the folder.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import attrs

from proxybox.policies import Problem, toml
from proxybox.policies.checks import refusal
from proxybox.policies.errors import PolicyError, ProxyboxError, nearest, shown, unknown_key
from proxybox.policies.overrides import find_key

T = TypeVar("T")

SKIPPED: Final = (".", "__")
"""Names that begin so are not part of an exercise: .DS_Store, __pycache__."""
MOST_SETTINGS: Final = 1 << 20


class ExerciseError(ProxyboxError, ValueError):
    """An exercise with faults. `problems` contains every fault, and the text names each."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__(*problems)

    @classmethod
    def of(cls, key: str, message: str, file: object) -> ExerciseError:
        """An error with one fault."""
        return cls(Problem(key=key, message=message, file=str(file)))

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        return f"{len(self.problems)} problems:\n" + "\n".join(f"  {problem}" for problem in self.problems)


# --- the values of keys -----------------------------------------------------------------------------------------------


def to_title(value: str) -> str:
    """Returns a title. Raises PolicyError for anything but one line."""
    if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= 200:
        return value.strip()
    raise refusal("want a title: one line of at most 200 characters", value)


def to_markdown(value: str) -> str:
    """Returns a text, or the path of a file with the text: one line that ends in .md is a path."""
    if isinstance(value, str) and value.strip():
        return to_path(value) if _is_markdown_file(value) else value
    raise refusal('want the name of a Markdown file, such as "text.md", or the text itself', value)


def _is_markdown_file(value: str) -> bool:
    return "\n" not in value and value.endswith(".md")


def to_path(value: str) -> str:
    """Returns a relative path that stays in the folder. Raises PolicyError for any other."""
    if not isinstance(value, str) or not value or "\0" in value or "\\" in value or len(value) > 80:
        raise refusal("want a path in the folder: at most 80 characters, with / in between", value)
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise refusal("want a path in the folder, neither absolute nor with ..", value)
    return str(path)


def each_of(values: Sequence[Any], convert: Callable[[Any], T]) -> tuple[T, ...]:
    """Returns all values converted. Raises PolicyError with the faults of all of them, each under its index."""
    problems: list[Problem] = []
    found = [collect(problems, functools.partial(convert, value), f"[{at}]") for at, value in enumerate(values)]
    if problems:
        raise PolicyError(*problems)
    return tuple(found)


# --- the file ---------------------------------------------------------------------------------------------------------


def parsed(path: Path) -> dict[str, Any]:
    """Returns the content of a TOML file. Raises ExerciseError."""
    raw = read(path, MOST_SETTINGS)
    try:
        return toml.loads(raw.decode())
    except ValueError as error:  # also UnicodeDecodeError: bytes that are not UTF-8
        raise ExerciseError.of("", f"not TOML: {error}", path) from None


def read(path: Path, most: int) -> bytes:
    """Returns the content of a file of at most `most` bytes. Raises ExerciseError."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(most + 1)
    except OSError as error:
        raise ExerciseError.of("", f"cannot be read: {error.strerror}", path) from None
    if len(raw) > most:
        raise ExerciseError.of("", f"larger than {most >> 20} MiB", path)
    return raw


def unknown_keys(
    data: Mapping[str, Any], names: Collection[str], rules: type[attrs.AttrsInstance] | None = None
) -> list[Problem]:
    """Returns a problem for each unknown key; it may suggest a key of `rules`, or of a policy's sections."""
    problems = [unknown_key(key, names) for key in data if key not in names]
    inner = {} if rules is None else {field.name: f"rules.{field.name}" for field in attrs.fields(rules)}
    return [attrs.evolve(each, meant=inner.get(each.key) or find_key(each.key) or each.meant) for each in problems]


def collect(problems: list[Problem], make: Callable[[], Any], under: str = "") -> Any:
    """Returns the result of `make`. If it fails, returns None and adds its faults to the problems."""
    try:
        return make()
    except PolicyError as error:
        problems += (error.under(under) if under else error).problems
    except ExerciseError as error:
        problems += error.problems
    return None


def in_file(problems: Iterable[Problem], path: Path) -> list[Problem]:
    """Returns the problems, each with a file: `path` if it has none."""
    return [each if each.file else attrs.evolve(each, file=str(path)) for each in problems]


def in_order(name: str) -> list[tuple[int, str]]:
    """Returns a sort key for natural order: 10 comes after 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def copy_into(folder: Path, source: Path) -> None:
    """Makes a folder as a copy of another. Raises FileExistsError if something exists there already, OSError."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(17, "there is something already", str(folder))
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


# --- other files ------------------------------------------------------------------------------------------------------


class Beside:
    """Finds the files and folders that the settings name, and adds the missing ones to the problems.

    Invalid values are skipped here: they are reported with the settings. root: the folder. settings: the attrs class of
    the keys. data: the file's content.
    """

    def __init__(
        self, root: Path, settings: type[attrs.AttrsInstance], data: Mapping[str, Any], problems: list[Problem]
    ) -> None:
        self.root = root
        self.data = data
        self.problems = problems
        self._fields = attrs.fields(settings)

    def value(self, key: str) -> Any:
        """A key's value, or its default; None if it is not valid."""
        field = getattr(self._fields, key)
        try:
            return field.converter(self.data[key]) if key in self.data else field.default
        except PolicyError:
            return None

    def existing(self, key: str, name: str) -> Path | None:
        """The path of a file or folder that must exist; None if it does not."""
        path = self.root / name
        if path.exists():
            return path
        try:
            names = [each.name for each in path.parent.iterdir() if not each.name.startswith(SKIPPED)]
        except OSError:
            names = []
        meant = nearest(path.name, names)
        self.tell(key, "there is no such file or folder", given=shown(name), meant=f'"{meant}"' if meant else "")
        return None

    def folder(self, key: str) -> Path | None:
        """The path of a folder; a folder that the file does not name need not exist."""
        name = self.value(key)
        if name is None or (key not in self.data and not (self.root / name).exists()):
            return None
        path = self.existing(key, name)
        if path is not None and not path.is_dir():
            self.tell(key, "want a folder, and this is a file", given=shown(name))
            return None
        return path

    def markdown(self, key: str, *, needed: bool) -> str:
        """A text, from its file or inline; needed: whether the file of the key's default must exist."""
        value: str | None = self.value(key)
        if value is None or not _is_markdown_file(value):
            return value or ""
        path = self.root / value
        if key not in self.data and not path.exists():
            if needed:
                self.tell(key, f"this key is needed, or a file {value}")
            return ""
        if self.existing(key, value) is None:
            return ""
        try:
            return read(path, MOST_SETTINGS).decode()
        except ExerciseError as error:
            self.problems += error.problems
        except UnicodeDecodeError as error:
            self.tell(key, f"{value} is no text in UTF-8 (byte {error.start})")
        return ""

    def tell(self, key: str, message: str, **more: str) -> None:
        """Adds a problem."""
        self.problems.append(Problem(key=key, message=message, **more))
