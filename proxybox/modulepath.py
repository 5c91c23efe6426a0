"""Where modules come from: never from the folder that somebody merely stands in, where other people's files may lie.

`-c`, `-m`, a prompt, and empty entries of PYTHONPATH put the current folder on sys.path, in front of Python's own
library: a submission called selectors.py would be run, as whoever grades it.
"""

import contextlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterator


def trusted_path() -> list[str]:
    """The absolute entries of sys.path; among them the current folder only where it was named, as that of the script
    which runs, in PYTHONPATH by its absolute path, or as Python's own library or what is installed."""
    here = _identity(".")
    found = [entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)]
    elsewhere = [entry for entry in found if _identity(entry) != here]
    return elsewhere if elsewhere == found or here not in _named() | _installed() else found


def relative_entries(variable: str) -> list[str]:
    """The entries of a variable such as PATH that name another place in each folder; an empty one is the folder."""
    entries = os.environ.get(variable, "").split(os.pathsep)
    return [entry for entry in entries if not os.path.isabs(entry)] if entries != [""] else []


@contextlib.contextmanager
def programs_of_absolute_folders() -> Iterator[None]:
    """Within it the name of a pager or an editor is looked for in no folder that somebody merely stands in."""
    path = os.environ.get("PATH")
    absolute = filter(os.path.isabs, (path or "").split(os.pathsep))
    os.environ["PATH"] = os.pathsep.join(absolute) or os.defpath  # an empty one is that folder again
    try:
        yield
    finally:
        os.environ.pop("PATH") if path is None else os.environ.update(PATH=path)


def forget_the_current_folder() -> None:
    """For a command at its start: what has not been imported yet will not come from there."""
    sys.path[:] = trusted_path()


def is_led_by_the_current_folder() -> bool:
    """Whether this process was started by `-c`, `-m` or as a prompt, without -P: modules of the current folder went
    before all others while it started."""
    main = sys.modules.get("__main__")
    by_module = getattr(main, "__spec__", None) is not None
    return not sys.flags.safe_path and (by_module or not _script_folder())


def _script_folder() -> str:
    """That of a script which runs; "" where none does."""
    main = sys.modules.get("__main__")
    file: str | None = getattr(main, "__file__", None)
    if not file or getattr(main, "__spec__", None) is not None:
        return ""
    return os.path.dirname(os.path.realpath(file))


def _named() -> set[tuple[int, int] | None]:
    """The folders that somebody chose."""
    entries = (_script_folder(), *os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {_identity(entry) for entry in entries if os.path.isabs(entry)}


def _installed() -> set[tuple[int, int] | None]:
    """Where Python's own library and what is installed lie, whoever stands there."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [sysconfig.get_config_var("DESTSHARED"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return {_identity(folder) for folder in folders if folder}


def _identity(path: str) -> tuple[int, int] | None:
    """Which folder it is, whatever it is called."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
