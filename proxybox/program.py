"""A program to run: the arguments that follow `python`, and the folder that they refer to."""

import os
import stat
from collections.abc import Mapping, Sequence

import attrs

from proxybox import argumentchecks
from proxybox.controller.boxes.worldbuilding import BOX as BOX
from proxybox.controller.boxes.worldbuilding import BoxFolder
from proxybox.policies import PolicyError
from proxybox.policies.errors import shown

#: The file name that `run(str)` gives to its code, so that tracebacks can show its lines.
MAIN = "main.py"


@attrs.frozen(kw_only=True)
class Program(BoxFolder):
    """A program, its arguments, and the content of /box. Use the constructors.

    words: the interpreter's arguments.
    """

    words: tuple[str, ...]

    @classmethod
    def source(cls, text: str, arguments: Sequence[str] = ()) -> "Program":
        """Makes a program from source text, which becomes the file main.py in an empty folder."""
        return cls.content(argumentchecks.source(text).encode("utf-8", "surrogatepass"), arguments)

    @classmethod
    def content(cls, data: bytes, arguments: Sequence[str] = ()) -> "Program":
        """Makes a program from the content of a script, which becomes the file main.py in an empty folder."""
        return cls(words=(f"{BOX}/{MAIN}", *argumentchecks.arguments(arguments)), files={MAIN: data})

    @classmethod
    def of_files(cls, files: Mapping[str, bytes], entry: str, arguments: Sequence[str] = ()) -> "Program":
        """Makes a program from files, by their paths below /box; `entry` is the one to run."""
        if entry not in files:
            raise PolicyError(f"entry: want one of the files, got {shown(entry)}")
        return cls(words=(f"{BOX}/{entry}", *argumentchecks.arguments(arguments)), files=argumentchecks.files(files))

    @classmethod
    def code(cls, text: str, arguments: Sequence[str] = ()) -> "Program":
        """Makes a program from source text for -c; the working folder is at /box."""
        words = ("-c", argumentchecks.word_of_code(text), *argumentchecks.arguments(arguments))
        return cls(words=words, folder=_working_folder(), holds_program=False)

    @classmethod
    def module(cls, name: str, arguments: Sequence[str] = ()) -> "Program":
        """Makes a program from a module for -m, of the standard library or the working folder, which is at /box."""
        return cls(
            words=("-m", argumentchecks.text("module", name), *argumentchecks.arguments(arguments)),
            folder=_working_folder(),
        )

    @classmethod
    def stdin(cls, arguments: Sequence[str] = ()) -> "Program":
        """Makes a program that is read from standard input; the working folder is at /box."""
        return cls(words=("-", *argumentchecks.arguments(arguments)), folder=_working_folder(), holds_program=False)

    @classmethod
    def file(cls, path: str | os.PathLike[str], arguments: Sequence[str] = ()) -> "Program":
        """Makes a program from a script, or from a folder or an archive with a __main__.py.

        The folder of the script is at /box, unless it is a home folder or /: then only the script is there. Any other
        readable file, such as a pipe, is read, and becomes main.py in an empty folder. Raises OSError when there is
        nothing to read.
        """
        name = argumentchecks.path("code", path)
        if not stat.S_ISREG(mode := os.stat(name).st_mode) and not stat.S_ISDIR(mode):
            return cls.content(_read_whole(name), arguments)
        place = os.path.realpath(name)
        folder, name = (place, "") if os.path.isdir(place) else os.path.split(place)
        words = (f"{BOX}/{name}" if name else BOX, *argumentchecks.arguments(arguments))
        if name and _is_private(folder):
            return cls(words=words, folder=folder, single=name)
        return cls(words=words, folder=folder)


def _read_whole(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read(argumentchecks.MOST_CODE + 1)
    if len(content) > argumentchecks.MOST_CODE:
        raise PolicyError(f"code: {path!r} has more than 64 MiB: want a program that is smaller, or a file")
    return content


def _working_folder() -> str | None:
    folder = os.path.realpath(os.getcwd())
    return None if _is_private(folder) else folder


def _is_private(folder: str) -> bool:
    """Whether a folder holds far more than a program: a home folder, or /."""
    homes = {os.path.realpath(os.path.expanduser("~")), os.path.realpath(os.environ.get("HOME") or "/")}
    return folder == "/" or folder in homes
