"""Doors of other systems, shims and adapters for agents' libraries: each can be deleted, and all else still works.

Each imports only public names, and nothing imports it. A copy of the sources without it (links to the folders, and the
metadata without its line) must start, serve and answer.
"""

import functools
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from proxybox.serve.opening import GROUP, OWN
from tools import imports, publicnames

ROOT = imports.ROOT
ENTRY_POINTS: dict[str, dict[str, str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "entry-points"
]
#: Modules that adapters or doors share are not removed with them.
SHARED = {"__init__", "interface", "samplefolder", "tool"}
INTERFACES = ("proxybox.serve.interface", "proxybox.agents.interface")


def _removable() -> Iterator[str]:
    """Yields modules and packages that can be deleted."""
    for folder, kept in (("serve/doors", {"__init__", *OWN}), ("shims", SHARED), ("agents", SHARED)):
        for path in sorted((ROOT / "proxybox" / folder).iterdir()):
            if path.stem not in kept and (path.suffix == ".py" or (path / "__init__.py").exists()):
                yield ".".join(("proxybox", *folder.split("/"), path.stem))


REMOVABLE = list(_removable())
assert REMOVABLE, "what can be deleted is no longer looked for where it is"


@functools.cache
def graph() -> imports.Graph:
    return imports.arrows()


def _is_of(module: str, removed: str) -> bool:
    return f"{module}.".startswith(f"{removed}.")


def test_every_door_of_another_system_has_an_entry_point() -> None:
    entries = [value.partition(":")[0] for value in ENTRY_POINTS[GROUP].values()]
    missing = [each for each in REMOVABLE if ".doors." in each and each not in entries]
    assert not missing, f'give them a line in pyproject.toml, [project.entry-points."{GROUP}"]'


def test_every_entry_point_leads_to_a_module() -> None:
    modules = imports.modules()
    gone = [value for group in ENTRY_POINTS.values() for value in group.values() if value.split(":")[0] not in modules]
    assert not gone, "delete the lines in pyproject.toml of what is no longer there"


@pytest.mark.full
@pytest.mark.parametrize("removed", REMOVABLE)
def test_nothing_imports_it(removed: str) -> None:
    above = [name for name, targets in graph().items() if not _is_of(name, removed)
             for target in targets if _is_of(target, removed)]  # fmt: skip
    assert not above, f"{removed} can be deleted: what else needs of it belongs elsewhere"


@pytest.mark.parametrize("removed", REMOVABLE)
def test_it_imports_public_names_alone(removed: str) -> None:
    public = {f"{module}.{name}" for module in publicnames.MODULES for name in _exported(module)}
    wrong = [
        f"{name} imports {target}"
        for name, file in imports.modules().items()
        if _is_of(name, removed)
        for target in imports.imported(file.read_text(encoding="utf-8"))
        if _is_of(target, "proxybox") and target not in public
        and not any(_is_of(target, each) for each in (removed, *INTERFACES))
    ]  # fmt: skip
    assert not wrong, f"import it from {', '.join(publicnames.MODULES)} or {', '.join(INTERFACES)}, or add it there"


@functools.cache
def _exported(module: str) -> list[str]:
    __import__(module)
    return publicnames.public(sys.modules[module])


@pytest.mark.full
@pytest.mark.timeout(600)  # it takes a dozen seconds of CPU time
def test_the_rest_does_not_notice_that_it_is_gone(tmp_path: Path) -> None:
    alone = [removed for removed in REMOVABLE if not _is_of(removed, "proxybox.agents")]
    adapters = [removed for removed in REMOVABLE if removed not in alone]  # no module loads them
    copies = [
        _copy_without(removed, folder=tmp_path / removed[0]) for removed in (*([each] for each in alone), adapters)
    ]
    seen = subprocess.run(
        [sys.executable, "-P", ROOT / "tests" / "packaging" / "without.py", *copies],
        capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    assert (seen.returncode, seen.stdout) == (0, ""), seen.stderr


def _copy_without(removed: Sequence[str], folder: Path) -> Path:
    """Makes a copy of the package without some modules of one folder, mostly of links to the sources."""
    names = {each.rpartition(".")[2] for each in removed}
    source, copy = ROOT, folder
    folder.mkdir()
    parts = removed[0].split(".")
    for part, below in pairwise(parts):
        source, copy = source / part, copy / part
        copy.mkdir()
        missing = names if below == parts[-1] else {below}
        for path in source.iterdir():
            if path.stem not in missing and path.name != "__pycache__":
                (copy / path.name).symlink_to(path.resolve())
    entries = {name: value for name, value in ENTRY_POINTS[GROUP].items()
               if not any(_is_of(value.partition(":")[0], each) for each in removed)}  # fmt: skip
    seen = folder / "proxybox-0.1.0.dist-info"
    seen.mkdir()
    seen.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: proxybox\nVersion: 0.1.0\n")
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in entries.items())]
    seen.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")
    folder.joinpath("doors").write_text(" ".join((*OWN, *entries)))
    return folder
