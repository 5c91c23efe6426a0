"""python -m benchmarks.data_stack ENVIRONMENT [NAME...]: the needs of a virtual environment's packages in a box.

Prints a row of a Markdown table for each program of programs/data_stack whose package the environment has: the smallest
limits.memory and limits.threads with which it succeeds, the OS calls of the import, and whether a warm box can load it
in advance. No times are measured.
"""

import argparse
import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from proxybox import Result, Sandbox
from proxybox.controller import find_guest
from proxybox.controller.warm import zygotepool

PROGRAMS = Path(__file__).resolve().parent / "programs" / "data_stack"
MEMORY = ("64M", "128M", "256M", "512M", "1G", "2G")
THREADS = (1, 2, 3, 4, 5, 6, 8, 16)
#: Distributions whose name is not that of the program's library.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "pil": "pillow"}
#: The modules that a warm box loads, if it is not the package.
MODULES = {
    "cryptography": "cryptography.fernet", "lxml": "lxml.etree", "matplotlib": "matplotlib.pyplot", "pil": "PIL.Image",
    "pyarrow": "pyarrow.parquet", "scipy": "scipy.optimize", "sklearn": "sklearn.ensemble",
}  # fmt: skip
HEADINGS = ("package", "memory", "threads", "calls of the import", "loaded in warm boxes", "calls of the program there")
_TIME = {"wall_time": 30, "cpu_time": 30}


@attrs.frozen
class Measured:
    """A program with one package, in boxes with a CPython."""

    name: str
    environment: Path

    @property
    def module(self) -> str:
        """The module that the program imports."""
        return MODULES.get(self.name, self.name)

    def row(self) -> tuple[str, ...]:
        """Returns a row of the table."""
        source = (PROGRAMS / f"with_{self.name}.py").read_text(encoding="utf-8")
        memory = _first(MEMORY, lambda size: self._run(source, memory=size).ok)
        threads = _first(THREADS, lambda count: self._run(source, memory="2G", threads=count).ok)
        imports = self._run(f"import {self.module}").usage.calls - self._run("").usage.calls
        return self._title(), memory, threads, f"{imports:,}", *self._warm(source)

    def _title(self) -> str:
        name = DISTRIBUTIONS.get(self.name, self.name)
        for site in self.environment.glob("lib/python3.*/site-packages"):
            for found in importlib.metadata.distributions(name=name, path=[str(site)]):
                return f"{name} {found.version}"
        return name

    def _warm(self, source: str) -> tuple[str, str]:
        """Returns whether a warm box can load the module, or why not, and the calls of the program there."""
        with self._sandbox(preload=[self.module], warm=True) as box, warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            box.run("")
            calls = box.run(source, check=True).usage.calls
        zygotepool.close()
        return ("no", "-") if seen else ("yes", f"{calls:,}")

    def _run(self, source: str, **limits: Any) -> Result:
        with self._sandbox(warm=False, limits={**_TIME, **limits}) as box:
            return box.run(source)

    def _sandbox(self, **fields: Any) -> Sandbox:
        return Sandbox(guest="cpython", packages=[self.environment], **{"limits": _TIME, **fields})


def _first(values: tuple[Any, ...], holds: Callable[[Any], bool]) -> str:
    return next((str(value) for value in values if holds(value)), "more")


def _names(environment: Path) -> Iterator[str]:
    """Returns the programs whose package exists."""
    for path in sorted(PROGRAMS.glob("with_*.py")):
        name = path.stem.removeprefix("with_")
        top = MODULES.get(name, name).partition(".")[0]
        inside = *environment.glob("lib/python3.*/site-packages"), Path(find_guest("cpython").library)
        if any((folder / top).is_dir() for folder in inside):
            yield name


def main() -> int:
    """Prints the table, a row at a time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data_stack", description=__doc__)
    parser.add_argument("environment", metavar="ENVIRONMENT", type=Path, help="a virtual environment of a CPython")
    parser.add_argument("names", metavar="NAME", nargs="*", help="those programs alone, such as numpy")
    options = parser.parse_args()
    print(f"| {' | '.join(HEADINGS)} |\n|{' --- |' * len(HEADINGS)}", flush=True)
    for name in options.names or _names(options.environment):
        print(f"| {' | '.join(Measured(name, options.environment).row())} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
