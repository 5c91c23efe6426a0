"""Checks of the fields of a policy: converters from short forms, and validators for the converted values.

Rules: a converter gets only the value, and raises PolicyError with an empty key; a validator is one for attrs. For any
value, both raise only PolicyError: policies come from files and from requests.
"""

from __future__ import annotations

import keyword
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeVar

import attrs

from proxybox.policies.errors import PolicyError, Problem, nearest, shown

T = TypeVar("T")

NAME_MAX: Final = 255
MOST_PATTERNS: Final = 64
PATH_MAX: Final = 4096
_ARGUMENT_MAX: Final = 128 * 1024
#: The most bytes of all variables together, with the bytes that execve(2) needs for each: its limit is 2 MiB, arguments
#: included.
_VARIABLES_MAX: Final = 1 << 20
_FOR_EACH: Final = len("=\0") + 8  # and a pointer
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
LOADER_VARIABLES: Final = (
    "LD_",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "LOCPATH",
    "MALLOC_",
    "PROXYBOX_",
)


# The values that a field accepts, in the words of errors, documentation and schema.
FLAG: Final = "true or false"
PATH: Final = 'an absolute path inside the box, such as "/data"'
VARIABLES: Final = "a table of names and texts"
STATEMENTS: Final = "Python statements as a text, such as \"import json; json.loads('[]')\""
MIME_TYPES: Final = 'a list of MIME types, such as ["text/plain", "image/png"]'
MODULES: Final = 'a list of module names, such as ["json", "xml.dom"]'
PATTERNS: Final = f'a list of 1 to {MOST_PATTERNS} patterns of names, such as ["job-*.csv"]'

_NOTHING: Final = object()


def refusal(
    message: str, value: object = _NOTHING, *, key: str = "", meant: str = "", allowed: str = ""
) -> PolicyError:
    """Returns the PolicyError of one problem."""
    given = "" if value is _NOTHING else shown(value)
    return PolicyError(Problem(key=key, message=message, given=given, meant=meant, allowed=allowed))


# --- validators -----------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class NumberRange:
    """A validator for None (no limit) or a number from `low` to `high`; see `between`."""

    low: float
    high: float
    words: str
    why: str
    above: bool
    besides: str

    def __call__(self, _instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        """Raises PolicyError for a value that is not in the range."""
        if value is None or (self.besides and value == self.besides):
            return
        if self.low < value <= self.high or (value == self.low and not self.above):
            return
        reason = f": {self.why}" if self.why else ""
        raise refusal(f"want {self.words}{reason}", value, key=field.name)


def between(
    low: float, high: float, words: str, why: str = "", *, above: bool = False, besides: str = ""
) -> NumberRange:
    """Returns a validator for None (no limit) or a number from `low` to `high`.

    words: that range in words. why: the reason for it. above: the number must be greater than `low`. besides: a word
    that is also accepted.
    """
    return NumberRange(low, high, words, why, above, besides)


@attrs.frozen(eq=False)
class OneOfWords:
    """A validator for one of a few words."""

    choices: tuple[str, ...]

    @property
    def words(self) -> str:
        """The choices, in quotes."""
        return ", ".join(f'"{choice}"' for choice in self.choices)

    def __call__(self, _instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        """Raises PolicyError for another value, with the word that was probably meant."""
        if isinstance(value, str) and value in self.choices:
            return
        meant = nearest(value, self.choices) if isinstance(value, str) else ""
        meant = f'"{meant}"' if meant else ""
        raise refusal("not one of the choices", value, key=field.name, meant=meant, allowed=self.words)


def one_of(*choices: str) -> OneOfWords:
    """Returns a validator for one of a few words."""
    return OneOfWords(choices)


@attrs.frozen(eq=False)
class TextPattern:
    """A validator for a text; see `matches`."""

    pattern: re.Pattern[str]
    words: str
    maximum: int

    def __call__(self, _instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        """Raises PolicyError for a value that the pattern does not match."""
        if not isinstance(value, str) or len(value) > self.maximum or not self.pattern.fullmatch(value):
            raise refusal(f"want {self.words}", value, key=field.name)


def matches(pattern: re.Pattern[str], words: str, maximum: int) -> TextPattern:
    """Returns a validator for a text of at most `maximum` characters that the pattern matches as a whole."""
    return TextPattern(pattern, words, maximum)


# --- converters -----------------------------------------------------------------------------------


def to_count(value: int | str | None) -> int | None:
    """Returns a whole number, or None (no limit) for None, "none" and "unlimited"."""
    if value is None or (isinstance(value, str) and value.strip().lower() in ("none", "unlimited")):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise refusal('want a whole number, or "none"', value)


def limited(convert: Callable[[Any], T | None], value: Any, words: str) -> T:
    """Returns the converted `value`, for a field that must have a limit.

    words: the accepted values.
    """
    try:
        converted = convert(value)
    except PolicyError:
        converted = None
    if converted is None:
        raise refusal(f"want {words}", value)
    return converted


def to_whole(value: int) -> int:
    """Returns a whole number. Booleans and texts are refused."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise refusal("want a whole number", value)


def to_flag(value: bool) -> bool:
    """Returns true or false. Other values are refused."""
    if isinstance(value, bool):
        return value
    raise refusal(f"want {FLAG}", value)


def to_virtual_path(value: str) -> str:
    """Returns an absolute path inside the box, normalised: "/data//x/" becomes "/data/x". `..` is refused."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise refusal(f"want {PATH}", value)
    names = [name for name in value.split("/") if name not in ("", ".")]
    if ".." in names:
        raise refusal('want a path without ".."', value)
    path = "/" + "/".join(names)
    _encodable(path)
    longest = max((len(name.encode()) for name in names), default=0)
    if "\0" in path or longest > NAME_MAX or len(path.encode()) >= PATH_MAX:
        words = f"want names of at most {NAME_MAX} bytes, less than {PATH_MAX} in all, without NUL"
        raise refusal(words, value)
    return path


def to_host_path(value: str) -> str:
    """Returns a path on the host, made absolute; "~" is the home folder. The path is not looked up here."""
    _encodable(value, errors="surrogateescape")
    if not value or "\0" in value:
        raise refusal("want a path on the host: not empty, without NUL", value)
    path = os.path.expanduser(value)
    if not os.path.isabs(path):
        try:
            path = os.path.join(os.getcwd(), path)
        except OSError as error:
            raise refusal(f"there is no current folder for it to start from ({error.strerror})", value) from None
    # What `..` means depends on symbolic links, which are not read here.
    return path if ".." in path.split("/") else os.path.normpath(path)


def _encodable(text: str, errors: str = "strict") -> None:
    try:
        text.encode("utf-8", errors)
    except UnicodeEncodeError:
        raise refusal("want text that can be written as UTF-8", text) from None


class FrozenDict(dict[str, T]):
    """A dict that cannot change, so that policies can be shared, hashed and used as defaults."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("a policy cannot be changed; make another with proxybox.policies.evolve")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


def to_variables(value: Mapping[str, str]) -> FrozenDict[str]:
    """Returns environment variables. Variables that the dynamic linker obeys are refused.

    No error shows a value: it may be a secret, and errors go to logs.
    """
    if not isinstance(value, Mapping):
        raise refusal(f"want {VARIABLES}", value)
    problems: list[Problem] = []
    for name, text in value.items():
        try:
            _check_variable(name, text)
        except PolicyError as error:
            problems += error.under(name if isinstance(name, str) and name.isidentifier() else "").problems
    if problems:
        raise PolicyError(*problems)
    if sum(_FOR_EACH + len(_bytes(name)) + len(_bytes(text)) for name, text in value.items()) > _VARIABLES_MAX:
        raise refusal(f"want at most {_VARIABLES_MAX >> 20} MiB of names and texts in all: give the program a file")
    return FrozenDict(value)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _check_variable(name: object, text: object) -> None:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise refusal("want a name that is not empty, without = or NUL", name)
    if name.startswith(LOADER_VARIABLES):
        raise refusal(
            "may not be set, since the C library or the stub obeys it before the box is sealed",
            name,
        )
    if not isinstance(text, str):
        raise refusal("want a text; put it in quotes", text)
    _encodable(name, errors="surrogateescape")
    try:
        size = len(_bytes(name)) + len(_bytes(text))
    except UnicodeEncodeError:
        raise refusal("want text that can be written as UTF-8") from None
    if "\0" in text or size >= _ARGUMENT_MAX - 1:
        raise refusal("want a text without NUL, name and text shorter than 128 KiB")


def to_statements(value: str) -> str:
    """Returns Python statements. Only the guest checks their syntax, because it may have another version."""
    if not isinstance(value, str):
        raise refusal(f"want {STATEMENTS}", value)
    _encodable(value)
    if "\0" in value or len(value.encode()) >= _ARGUMENT_MAX:
        raise refusal("want a text without NUL, shorter than 128 KiB", value)
    return value


MIME_TYPE: Final = re.compile(r"[a-z]{1,32}/[a-z0-9][a-z0-9.+_-]{0,126}", re.ASCII)


def to_mime_types(value: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Returns MIME types, each once, in the order given."""
    if isinstance(value, str):
        likely = MIME_TYPE.fullmatch(value)
        raise refusal(f"want {MIME_TYPES}", value, meant=f'["{value}"]' if likely else "")
    if not isinstance(value, list | tuple):
        raise refusal(f"want {MIME_TYPES}", value)
    problems: list[Problem] = []
    for at, name in enumerate(value):
        if not isinstance(name, str) or not MIME_TYPE.fullmatch(name):
            words = 'want a MIME type in lower case without parameters, such as "text/html"'
            problems += refusal(words, name, key=f"[{at}]").problems
    if problems:
        raise PolicyError(*problems)
    return tuple(dict.fromkeys(value))


_HINT_MAX: Final = 100
_MODULE: Final = 'want the dotted name of a module, such as "xml.dom": identifiers that are no keywords'


def to_patterns(value: list[str] | tuple[str, ...] | str | None) -> tuple[str, ...] | None:
    """Returns patterns of file names for fnmatch, each once; None, which means all names, is returned unchanged."""
    if value is None or value == "none":
        return None
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST_PATTERNS:
        meant = f'["{value}"]' if _is_pattern(value) else ""
        raise refusal(f"want {PATTERNS}", value, meant=meant)
    problems: list[Problem] = []
    for at, pattern in enumerate(value):
        if not _is_pattern(pattern):
            words = f"want a pattern of a name: * ? [...], no slash and no NUL, at most {NAME_MAX} bytes"
            problems += refusal(words, pattern, key=f"[{at}]").problems
    if problems:
        raise PolicyError(*problems)
    return tuple(dict.fromkeys(value))


def _is_pattern(pattern: object) -> bool:
    if not isinstance(pattern, str) or not pattern or {"/", "\0"} & set(pattern):
        return False
    return len(pattern.encode("utf-8", "surrogateescape")) <= NAME_MAX


def to_modules(value: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Returns dotted names of modules, each once, in the order in which they are to be imported."""
    if isinstance(value, str):
        names = value[:_HINT_MAX].replace(",", " ").split()
        quoted = ", ".join(f'"{name}"' for name in names)
        likely = names and len(value) <= _HINT_MAX and all(map(_is_module, names))
        raise refusal(f"want {MODULES}", value, meant=f"[{quoted}]" if likely else "")
    if not isinstance(value, list | tuple):  # the order of a set would differ between runs
        raise refusal(f"want {MODULES}", value)
    problems: list[Problem] = []
    for at, name in enumerate(value):
        if not _is_module(name):
            problems += refusal(_MODULE, name, key=f"[{at}]", meant=_module_meant(name)).problems
    if problems:
        raise PolicyError(*problems)
    return tuple(dict.fromkeys(value))


def _is_module(name: object) -> bool:
    return isinstance(name, str) and all(
        part.isidentifier() and not keyword.iskeyword(part) for part in name.split(".")
    )


def _module_meant(name: object) -> str:
    """Returns the module that was meant by the name of its file or distribution; "" when there is none."""
    if not isinstance(name, str) or len(name) > _HINT_MAX:
        return ""
    likely = name.strip().removesuffix(".py").replace("/", ".").replace("-", "_")
    return likely if _is_module(likely) else ""


def as_bytes(name: str, content: object) -> bytes:
    """Returns text as UTF-8, and a bytes-like object as bytes; unlike bytes(), it takes no number.

    name: names the argument in errors. Raises TypeError for anything else, and PolicyError for text that cannot be
    encoded.
    """
    if isinstance(content, str):
        try:
            return content.encode()
        except UnicodeEncodeError:
            raise PolicyError(f"{name}: want text that can be written as UTF-8, got {shown(content)}") from None
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    raise TypeError(f"{name}: want text or bytes, got {shown(content)}")
