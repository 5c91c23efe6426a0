"""Checks of what callers pass: source, arguments, files, callbacks, standard input, sizes.

The checks are the same for all ways of running a program. Rule: an argument that makes no sense is refused before
anything starts, with one error that names the parameter, what is wanted and what was given. It is TypeError for a value
of the wrong type, and PolicyError (a ValueError) for a value of the right type that makes no sense.
"""

import codecs
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Set
from typing import IO, Any, NoReturn, TypeAlias

import attrs

from proxybox.controller.guests.finding import absolute_guest
from proxybox.controller.world.stdin import Source, Terminal
from proxybox.controller.world.streams import NO_STREAMS, StandardStreams
from proxybox.policies import Limits, Policy, PolicyError
from proxybox.policies.checks import NAME_MAX, PATH_MAX, to_variables
from proxybox.policies.checks import as_bytes as as_bytes
from proxybox.policies.errors import NO_SUCH_KEY, nearest, shown
from proxybox.policies.sizes import spoken_size, to_size

Input: TypeAlias = str | bytes | IO[Any] | Callable[[int], bytes | str] | Terminal | None
Content: TypeAlias = Mapping[str, str | bytes]

#: The most bytes of source. A larger program can be a script, or a file beside a script.
MOST_CODE = 64 << 20
#: The most variables that one expression can get.
MOST_NAMES = 10_000
#: Bytes of one argument with its NUL, and of all arguments with their pointers: the limits of execve(2).
_LONGEST_ARGUMENT, _MOST_ARGUMENTS = 128 << 10, 3 << 19
_SCRIPT = "source text (str), or the path of a script (os.PathLike)"
SOURCE = "source text (str)"


def wrong_kind(name: str, wanted: str, value: object, hint: str = "") -> NoReturn:
    """Raises TypeError for a value of the wrong type."""
    raise TypeError(_words(name, wanted, value, hint))


def no_sense(name: str, wanted: str, value: object, hint: str = "") -> NoReturn:
    """Raises PolicyError for a value of the right type that makes no sense."""
    raise PolicyError(_words(name, wanted, value, hint))


def _words(name: str, wanted: str, value: object, hint: str) -> str:
    return f"{name}: want {wanted}, got {shown(value)}{hint and f': {hint}'}"


# --- texts, numbers, functions ----------------------------------------------------------------------------------------


def text(name: str, value: object, wanted: str = "text (str)") -> str:
    """Returns a str."""
    if not isinstance(value, str):
        wrong_kind(name, wanted, value)
    return value


def path(name: str, value: object) -> str:
    """Returns a path on the host."""
    found = box_path(name, value)
    if "\0" in found:
        no_sense(name, "a path without NUL", found)
    return found


def box_path(name: str, value: object) -> str:
    """Returns a path in a box. A NUL in it is not refused here: it leads to an OSError later, as any bad path does."""
    found = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(found, str):
        wrong_kind(name, "a path (str or os.PathLike)", value)
    return found


def folder(name: str, value: object) -> str:
    """Returns the path of a folder on the host."""
    found = path(name, value)
    if not os.path.isdir(found):
        no_sense(name, "a folder of the host that is there", found)
    return found


def count(name: str, value: object, least: int) -> int:
    """Returns a whole number of at least `least`."""
    wanted = f"a whole number of {least} or more"
    if not isinstance(value, int) or isinstance(value, bool):
        wrong_kind(name, wanted, value)
    if value < least:
        no_sense(name, wanted, value)
    return value


def flag(name: str, value: object) -> bool:
    """Returns True or False."""
    if not isinstance(value, bool):
        wrong_kind(name, "True or False", value)
    return value


def function(name: str, value: Any) -> Any:
    """Returns a function, or None."""
    if value is not None and not callable(value):
        wrong_kind(name, "a function or None", value)
    return value


def several(name: str, value: Any, wanted: str) -> tuple[Any, ...]:
    """Returns the items of a list, in order. A text is refused, although Python could iterate over it."""
    if type(value) in (list, tuple):  # the usual case: it skips the checks below, which take some microseconds
        return tuple(value)
    if isinstance(value, str | bytes | bytearray | os.PathLike | Mapping | Set) or not isinstance(value, Iterable):
        hint = f"write [{shown(value)}]" if isinstance(value, str | bytes | os.PathLike) else ""
        wrong_kind(name, f"a list of {wanted}", value, hint)
    return tuple(value)


def size(name: str, value: Any) -> int | None:
    """Returns a size in bytes; None for no limit."""
    try:
        found = to_size(value)
    except PolicyError as error:
        raise error.under(name) from None
    if found is not None and found < 0:
        no_sense(name, "a size of 0 bytes or more", value)
    return found


def duration(name: str, value: Any) -> float | None:
    """Returns seconds for `limits.wall_time`: None for the policy's own limit, infinity for "none" (no limit)."""
    if value is None:
        return None
    try:
        seconds = Limits(wall_time=value).wall_time
    except PolicyError as error:
        raise PolicyError(*(attrs.evolve(problem, key=name) for problem in error.problems)) from None
    return math.inf if seconds is None else seconds


# --- programs ---------------------------------------------------------------------------------------------------------


def source(value: object, most: int = MOST_CODE, wanted: str = SOURCE, limit: str = "", name: str = "code") -> str:
    """Returns source text of at most `most` bytes. limit: the policy's key for this size, for the error message."""
    code = text(name, value, wanted)
    if len(code) > most or (4 * len(code) > most and len(code.encode("utf-8", "surrogatepass")) > most):
        words = f"at most {spoken_size(most)}{f' ({limit})' if limit else ''}"
        raise PolicyError(f"{name}: want {words}, got a text of {len(code):,} characters")
    return code


def names(value: Any) -> Mapping[str, Any]:
    """Returns the variables of an expression. Whether their values can be sent is only checked when they are sent."""
    if not isinstance(value, Mapping):
        wrong_kind("names", "a mapping of names to values", value, 'write {"name": value}')
    if len(value) > MOST_NAMES:
        raise PolicyError(f"names: want at most {MOST_NAMES:,} names, got {len(value):,}")
    for name in value:
        if not isinstance(name, str):
            wrong_kind("names", "names that are text (str)", name)
        if not name.isidentifier():
            no_sense("names", "names that an expression can have (identifiers)", name)
    return value


def word_of_code(value: object) -> str:
    """Returns source text for `-c`, which must fit into one argument of the interpreter."""
    code = source(value, _LONGEST_ARGUMENT - 1)
    if "\0" in code:
        no_sense("code", "source text without NUL", code)
    return code


def program(value: Any) -> Any:
    """Returns source text, or the path of a script."""
    if isinstance(value, str):
        return source(value)
    if isinstance(value, bytes | bytearray):
        wrong_kind("code", _SCRIPT, value, "decode it first")
    if not isinstance(value, os.PathLike):
        wrong_kind("code", _SCRIPT, value)
    return value


def arguments(value: Any) -> tuple[str, ...]:
    """Returns the arguments of a program."""
    words = several("args", value, "texts (str)")
    size = 0
    for at, word in enumerate(words):
        if not isinstance(word, str):
            wrong_kind(f"args[{at}]", "text (str)", word)
        if "\0" in word:
            no_sense(f"args[{at}]", "text without NUL", word)
        try:
            length = len(os.fsencode(word)) + 1
        except UnicodeEncodeError:
            no_sense(f"args[{at}]", "text that can be written as UTF-8", word)
        if length > _LONGEST_ARGUMENT:
            raise PolicyError(f"args[{at}]: want less than {spoken_size(_LONGEST_ARGUMENT)}, got {length - 1:,} bytes")
        size += length + 8
    if size > _MOST_ARGUMENTS:
        raise PolicyError(f"args: want at most {spoken_size(_MOST_ARGUMENTS)} in all, got {size:,} bytes")
    return words


def files(value: Content | None) -> dict[str, bytes]:
    """Returns names below /box, with their content."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        wrong_kind("files", "a mapping of names to text or bytes", value)
    found = {_name(name): _content(name, content) for name, content in value.items()}
    for name in found:
        above, slash, _ = name.rpartition("/")
        while slash:
            if above in found:
                raise PolicyError(f"files: {above!r} cannot be a file and the folder of {name!r}")
            above, slash, _ = above.rpartition("/")
    return found


def _name(name: object) -> str:
    if not isinstance(name, str):
        wrong_kind("files", "names that are text (str)", name)
    parts = name.split("/")
    wrong = name.startswith("/") or not all(parts) or ".." in parts or "." in parts or "\0" in name
    try:
        lengths = [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:
        wrong, lengths = True, []
    if wrong or max(lengths) > NAME_MAX or sum(lengths) + len(lengths) + len("/box") >= PATH_MAX:
        raise PolicyError(f"files: {shown(name)} is no path below /box: want a relative path such as 'data/in.txt'")
    return name


def _content(name: str, content: object) -> bytes:
    if isinstance(content, os.PathLike):
        wrong_kind(f"files[{shown(name)}]", "text or bytes", content, "give its content (read_bytes), or mount it")
    return as_bytes(f"files[{shown(name)}]", content)


# --- standard input and output ----------------------------------------------------------------------------------------


def stdin(value: Any) -> None:
    """Raises TypeError or PolicyError for a value that cannot be a source of standard input. It reads nothing."""
    if value is None or isinstance(value, str | bytes | Terminal) or callable(value):
        return
    if not hasattr(value, "fileno") and not hasattr(value, "read"):
        wrong_kind("stdin", "text, bytes, a file object, a function, a Terminal or None", value)
    if getattr(value, "closed", False):
        no_sense("stdin", "a file object that is open", value)


def as_source(value: Input) -> Source | None:
    """Returns a source that the controller can read. A file object without a descriptor is read to its end."""
    stdin(value)
    if value is None or isinstance(value, bytes | Terminal):
        return value
    if isinstance(value, str):
        return as_bytes("stdin", value)
    if hasattr(value, "fileno"):
        try:
            descriptor = int(value.fileno())
        except (OSError, io.UnsupportedOperation):
            pass
        else:
            _check_open(value, descriptor)
            return descriptor
    if hasattr(value, "read"):
        return as_bytes("stdin", value.read())
    return value


def _check_open(value: object, descriptor: int) -> None:
    """Raises PolicyError for a file object whose descriptor is not open.

    A descriptor that is open but cannot be read is allowed, as for any program: nohup(1) can make standard input such
    a descriptor.
    """
    try:
        os.fstat(descriptor)
    except (OSError, OverflowError):
        no_sense("stdin", "a file object that is open", value)


def streams(
    value: Input, on_stdout: Callable[[str], object] | None, on_stderr: Callable[[str], object] | None
) -> StandardStreams:
    """Returns the standard input of a program, and the callbacks for its output. Raises TypeError or PolicyError."""
    if value is None and on_stdout is None and on_stderr is None:
        return NO_STREAMS
    return StandardStreams(
        stdout=as_text_callback("on_stdout", on_stdout),
        stderr=as_text_callback("on_stderr", on_stderr),
        stdin=as_source(value),
    )


def as_text_callback(name: str, callback: Callable[[str], object] | None) -> Callable[[bytes], object] | None:
    """Makes a callback for bytes from a callback for text, which gets whole characters only."""
    if function(name, callback) is None:
        return None
    give_text: Callable[[str], object] = callback  # type: ignore[assignment]
    decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode

    def give(data: bytes) -> None:
        text = decode(data)
        if text:
            give_text(text)

    return give


# --- sandboxes --------------------------------------------------------------------------------------------------------


def guest(value: Any) -> str | None:
    """Returns an interpreter: a name to search for on PATH, or an absolute path.

    A relative path is made absolute, so that it means the same file when the current folder changes.
    """
    if value is None:
        return None
    path("guest", value)
    return absolute_guest(value)


def functions(value: Any) -> Mapping[str, Any]:
    """Returns the functions that programs can call. HostFunctions checks each of them."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        wrong_kind("functions", "a mapping of names to functions", value, 'write {"name": function}')
    return value


def meant(error: PolicyError, *functions: Callable[..., Any]) -> PolicyError:
    """Returns an error about a misspelt policy field, which can also suggest a parameter of `functions`."""
    import inspect  # only errors need it

    names = {name for each in functions for name in inspect.signature(each).parameters if name != "policy_fields"}
    names |= {field.name for field in attrs.fields(Policy)}
    problems = [
        attrs.evolve(each, meant=nearest(each.key, names) or each.meant)
        if each.message == NO_SUCH_KEY and "." not in each.key + each.meant
        else each
        for each in error.problems
    ]
    return PolicyError(*problems)


def env(value: Any) -> Mapping[str, str]:
    """Returns environment variables of one run. Raises TypeError or PolicyError."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        wrong_kind("env", "a mapping of names to texts", value, 'write {"NAME": "value"}')
    try:
        return to_variables(value)
    except PolicyError as error:
        raise error.under("env") from None


def packages(value: Any) -> tuple[str, ...]:
    """Returns folders and files as absolute paths, which mean the same when the current folder changes."""
    found = [path(f"packages[{at}]", folder) for at, folder in enumerate(several("packages", value, "paths"))]
    for at, folder in enumerate(found):
        if not os.path.isdir(folder) and not os.path.isfile(folder):
            no_sense(f"packages[{at}]", "a folder, a requirements file or a script of the host that is there", folder)
    return tuple(os.path.abspath(folder) for folder in found)


def interceptors(value: Any) -> tuple[Any, ...]:
    """Returns the functions that see each OS call."""
    if callable(value):
        wrong_kind("interceptors", "a list of functions", value, "put it in a list")
    found = several("interceptors", value, "functions")
    for at, each in enumerate(found):
        if not callable(each):
            wrong_kind(f"interceptors[{at}]", "a function", each)
    return found


def modules(value: Any) -> tuple[Any, ...]:
    """Returns names of modules for `preload`; a str is one name. The policy checks the names themselves."""
    return (value,) if isinstance(value, str) else several("preload", value, "names of modules")
