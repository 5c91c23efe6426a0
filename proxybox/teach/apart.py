"""Whether a submission stands apart from what pytest itself reads and imports, which it does on this side.

By hand, pytest collects what its arguments or the current folder hold, and looks for settings and a conftest.py there
and above. None of it may be the submission's.
"""

import inspect
import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

#: What pytest imports by itself, of the folders that tests lie in.
_IMPORTED = ("conftest.py", "__init__.py")


def check_apart(config: pytest.Config, submission: str) -> None:
    """Raises UsageError where pytest would run the submission's code, or has read its settings."""
    place = real_path(config, submission)
    for why in _reasons(config, place):
        raise pytest.UsageError(
            f"--submission {submission}: {why}, and what pytest finds there is run outside of any box. Name the tests, "
            "in a folder of their own: pytest --submission=PATH tests/. Or: proxybox exercise test EXERCISE SUBMISSION"
        )


def real_path(config: pytest.Config, path: str | os.PathLike[str]) -> Path:
    """Where it stands, seen from where pytest was started."""
    return Path(os.path.realpath(config.invocation_params.dir / path))


def is_part(path: Path, of: Path) -> bool:
    """Whether it is that file or folder, or lies in it."""
    return path == of or of in path.parents


def _reasons(config: pytest.Config, place: Path) -> Iterator[str]:
    options = config.known_args_namespace
    here = real_path(config, ".")
    collected = [real_path(config, each.partition("::")[0]) for each in options.file_or_dir] or [here]
    modules = [real_path(config, entry) for entry in sys.path]
    settings = [real_path(config, config.inipath)] if config.inipath else []
    for what, paths in (
        ("what is to be collected", collected),
        ("the current folder", [here]),
        ("pytest's rootdir", [real_path(config, config.rootpath)]),
        ("pytest's file of settings", settings),
        ("--confcutdir", [real_path(config, options.confcutdir)] if options.confcutdir else []),
        ("a folder of modules (sys.path)", modules),
    ):
        if any(is_part(path, place) for path in paths):
            yield f"{what} is the submission, or lies in it"
    if place.is_dir() and any(is_part(place, folder) for folder in collected):
        yield "it lies in what is to be collected"
    if any(each.parent == place.parent and not any(is_part(path, each.parent) for path in collected)
           for each in settings):  # fmt: skip
        yield "pytest's file of settings lies beside it, and not where the tests are"
    if place.name in _IMPORTED:
        yield "pytest imports files of that name by itself"
    beside = [path if path.is_dir() else path.parent for path in collected]  # they become folders of modules
    if place.parent in modules or any(is_part(place, folder) for folder in beside):
        name = place.name if place.is_dir() else inspect.getmodulename(place)
        if name is not None and _is_module(name, place):
            yield f"where it lies, it is imported instead of the module {name}"
    if place.is_file() and any(place.parent in path.parents for path in collected):
        for imported in _IMPORTED:
            if os.path.lexists(place.parent / imported):
                yield f"{imported} lies beside it, above what is to be collected"


def _is_module(name: str, place: Path) -> bool:
    """Whether there is another module of that name."""
    others = [entry for entry in sys.path if os.path.realpath(entry) != str(place.parent)]
    return name in sys.stdlib_module_names or name in sys.modules or PathFinder.find_spec(name, others) is not None
