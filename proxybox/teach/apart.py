"""Checks that a submission is separate from the files that pytest itself reads and imports, outside of any box.

In a run by hand, pytest collects the paths in its arguments, its settings or the current folder, and looks for settings
and a conftest.py there and above. None of these may be the submission's. Paths are checked both as they are written,
which is how pytest walks them, and with symbolic links resolved.
"""

import glob
import inspect
import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

#: The files that pytest imports by itself from the folders that contain tests.
_IMPORTED = ("conftest.py", "__init__.py")


def check_apart(config: pytest.Config, submission: str) -> None:
    """Checks the submission. Raises UsageError if pytest would run its code, or has read its settings."""
    for place in _ways(config, [submission]):
        for why in _reasons(config, place):
            raise pytest.UsageError(
                f"--submission {submission}: {why}, and what pytest finds there is run outside of any box. Name the "
                "tests, in a folder of their own: pytest --submission=PATH tests/. Or: proxybox exercise test EXERCISE "
                "SUBMISSION"
            )


def real_path(config: pytest.Config, path: str | os.PathLike[str]) -> Path:
    """The real path of a file, relative to the folder where pytest was started."""
    return Path(os.path.realpath(config.invocation_params.dir / path))


def is_part(path: Path, of: Path) -> bool:
    """Whether a path is that file or folder, or is in it."""
    return path == of or of in path.parents


def _ways(config: pytest.Config, paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The paths as they are written, fully resolved, and with the links of each folder above resolved."""
    paths = list(paths)
    written = [Path(os.path.abspath(config.invocation_params.dir / path)) for path in paths]
    between = [real_path(config, above) / path.relative_to(above) for path in written for above in path.parents]
    # handles "link/../x", too
    return list(dict.fromkeys((*written, *between, *(real_path(config, path) for path in paths))))


def _reasons(config: pytest.Config, place: Path) -> Iterator[str]:
    options = config.known_args_namespace
    targets = [each.partition("::")[0] for each in options.file_or_dir] or _by_themselves(config)
    collected = _ways(config, targets)
    modules = _ways(config, [*sys.path, *(folder for path in collected for folder in _bases(path))])
    settings = _ways(config, [config.inipath] if config.inipath else [])
    for what, paths in (
        ("what is to be collected", collected),
        ("the current folder", _ways(config, ["."])),
        ("pytest's rootdir", _ways(config, [config.rootpath])),
        ("pytest's file of settings", settings),
        ("--confcutdir", _ways(config, [options.confcutdir] if options.confcutdir else [])),
        ("a folder of modules (sys.path)", modules),
    ):
        if any(is_part(path, place) for path in paths):
            yield f"{what} is the submission, or lies in it"
    if place.is_dir() and any(is_part(place, folder) for folder in collected):
        yield "it lies in what is to be collected"
    if place.name in _IMPORTED:
        yield "pytest imports files of that name by itself"
    is_above = any(place.parent in path.parents for path in collected)
    if any(each.parent == place.parent for each in settings) and not is_above and place.parent not in collected:
        yield "pytest's file of settings lies beside it, and not where the tests are"
    yield from _of_modules(place, modules, [path if path.is_dir() else path.parent for path in collected])
    if is_above:
        for imported in _IMPORTED:
            if os.path.lexists(place.parent / imported):
                yield f"{imported} lies beside it, above what is to be collected"


def _of_modules(place: Path, modules: list[Path], folders: list[Path]) -> Iterator[str]:
    """Yields reasons: the submission, or a file beside it, would be imported in place of another module.

    folders: where tests are; they become folders of modules.
    """
    is_beside_tests = any(is_part(place, folder) for folder in folders)
    if place.parent in modules or is_beside_tests:
        name = place.name if place.is_dir() else inspect.getmodulename(place)
        if name is not None and (name in sys.modules or _is_module(name, place)):
            yield f"where it lies, it is imported instead of the module {name}"
    if place.parent in modules and not is_beside_tests:
        for each in _listed(place.parent):
            is_package = any(path.name.startswith("__init__.") for path in _listed(each))
            name = each.name if is_package else inspect.getmodulename(each)
            if name is not None and not any(is_part(folder, each) for folder in folders) and _is_module(name, each):
                yield f"{each.name} lies beside it, and is imported instead of the module {name}"


def _listed(folder: Path) -> list[Path]:
    """The content of a folder.

    It is empty for a file, and for a folder that cannot be read: Python finds no module there either.
    """
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _by_themselves(config: pytest.Config) -> list[str]:
    """The paths that pytest collects without arguments."""
    named = [path for each in config.getini("testpaths") for path in glob.glob(each, recursive=True)]
    return named or ["."]


def _bases(path: Path) -> Iterator[Path]:
    """The folders from which pytest may import a test's modules.

    They are the first parent folder that is not a package, and packages whose name is no module name.
    """
    folder = path if path.is_dir() else path.parent
    while os.path.isfile(folder / "__init__.py"):
        if not folder.name.isidentifier():
            yield folder
        folder = folder.parent
    yield folder


def _is_module(name: str, place: Path) -> bool:
    """Whether there is another module of that name outside of the folder of `place`."""
    if not name.isidentifier():
        return False
    others = [entry for entry in sys.path if os.path.realpath(entry) != str(place.parent)]
    return name in sys.stdlib_module_names or PathFinder.find_spec(name, others) is not None
