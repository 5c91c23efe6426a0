"""Folders that Python may import modules from. The current folder is not one: it may have files of other people.

`-c`, `-m`, an interactive prompt, and empty entries of PYTHONPATH put the current folder on sys.path, in front of
Python's own library. A submission called selectors.py would then run with the rights of the person who grades it.
"""

import contextlib
import os
import site
import sys
from collections.abc import Iterator


def trusted_path() -> list[str]:
    """Returns the absolute entries of sys.path, without the current folder unless the user has named it.

    It was named when it is the folder of the running script, has its absolute path in PYTHONPATH, or holds Python's own
    library or installed packages.
    """
    here = _identity(".")
    found = [entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)]
    elsewhere = [entry for entry in found if _identity(entry) != here]
    return elsewhere if elsewhere == found or here not in _named() | _installed() else found


def relative_entries(variable: str) -> list[str]:
    """Returns the relative entries of a variable such as PATH. An empty entry means the current folder."""
    entries = os.environ.get(variable, "").split(os.pathsep)
    return [entry for entry in entries if not os.path.isabs(entry)] if entries != [""] else []


@contextlib.contextmanager
def programs_of_absolute_folders() -> Iterator[None]:
    """Removes relative entries from PATH within the block, so that no pager or editor of the current folder is run."""
    path = os.environ.get("PATH")
    absolute = filter(os.path.isabs, (path or "").split(os.pathsep))
    os.environ["PATH"] = os.pathsep.join(absolute) or os.defpath  # an empty PATH would mean the current folder
    try:
        yield
    finally:
        os.environ.pop("PATH") if path is None else os.environ.update(PATH=path)


def forget_the_current_folder() -> None:
    """Sets sys.path to `trusted_path` when a command starts: later imports do not come from the current folder."""
    sys.path[:] = trusted_path()


def is_led_by_the_current_folder() -> bool:
    """Whether this process was started with `-c`, `-m` or as a prompt, and without -P.

    Modules of the current folder were found before all others while such a process started.
    """
    main = sys.modules.get("__main__")
    by_module = getattr(main, "__spec__", None) is not None
    return not sys.flags.safe_path and (by_module or not _script_folder())


def _script_folder() -> str:
    """Returns the folder of the running script; "" when there is none."""
    main = sys.modules.get("__main__")
    file: str | None = getattr(main, "__file__", None)
    if not file or getattr(main, "__spec__", None) is not None:
        return ""
    return os.path.dirname(os.path.realpath(file))


def _named() -> set[tuple[int, int] | None]:
    """Returns the folders that the user has chosen."""
    entries = (_script_folder(), *os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {_identity(entry) for entry in entries if os.path.isabs(entry)}


def _installed() -> set[tuple[int, int] | None]:
    """Returns the folders of Python's own library and of installed packages.

    sysconfig is not used: it would import modules from sys.path, which includes the current folder.
    """
    own = os.path.dirname(os.__file__)
    prefixes = sys.prefix, sys.exec_prefix, sys.base_exec_prefix
    libraries = [own, *(os.path.join(each, sys.platlibdir, os.path.basename(own)) for each in prefixes)]
    folders = [*libraries, *(os.path.join(each, "lib-dynload") for each in libraries), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return {_identity(folder) for folder in folders if folder}


def _identity(path: str) -> tuple[int, int] | None:
    """Returns the device and inode of a folder, which are the same for each path to it; None when it cannot be read."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
