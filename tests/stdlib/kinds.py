"""The standard library's tests of each kind of interpreter: a class for each."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs

from proxybox.controller import Guest, find_guest

WRITTEN = tomllib.loads(Path(__file__).with_name("reasons.toml").read_text())
#: Packages that are run module by module: one module that a box cannot import would otherwise fail all of them.
SPLIT = ("test_asyncio", "test_concurrent_futures")
TWENTY = (
    "test_json", "test_io", "test_fileio", "test_os", "test_posix", "test_tempfile", "test_shutil", "test_pathlib",
    "test_glob", "test_zipfile", "test_datetime", "test_decimal", "test_random", "test_time", "test_threading",
    "test_select", "test_signal", "test_mmap", "test_import", "test_hashlib",
)  # fmt: skip
FORTY_MORE = (
    "test_struct", "test_array", "test_bytes", "test_str", "test_list", "test_dict", "test_set", "test_int",
    "test_float", "test_math", "test_statistics", "test_fractions", "test_re", "test_string", "test_textwrap",
    "test_difflib", "test_collections", "test_heapq", "test_itertools", "test_functools", "test_contextlib",
    "test_generators", "test_dataclasses", "test_enum", "test_typing", "test_ast", "test_csv", "test_configparser",
    "test_tomllib", "test_sqlite3", "test_zlib", "test_gzip", "test_lzma", "test_tarfile", "test_pickle",
    "test_weakref", "test_queue", "test_logging", "test_argparse", "test_codecs",
)  # fmt: skip


@attrs.frozen
class Tests:
    """The standard library's tests of an interpreter."""

    guest: Guest

    #: The name of its part in reasons.toml, and of its places in the documentation.
    name: ClassVar[str]
    #: Debian's package of these tests.
    package: ClassVar[str]
    #: The modules that are compared by default.
    modules: ClassVar[tuple[str, ...]]
    #: Files beside the tests, bare and boxed.
    files: ClassVar[Mapping[str, str]] = {}
    #: Memory limits of modules that need more than the others.
    memory: ClassVar[Mapping[str, str]] = {}

    @property
    def folder(self) -> Path:
        return Path(self.guest.library, "test")

    @property
    def lack(self) -> str:
        """Why the tests cannot be run; "" when they can.

        Debian has the folder and its runner also without the tests.
        """
        has_tests = (self.folder / "test_os.py").is_file() and (self.folder / "libregrtest").is_dir()
        name = self.package.format(*self.guest.version)
        return "" if has_tests else f"{self.guest.executable} is here without its tests: apt install {name}"

    @property
    def left_out(self) -> list[str]:
        return list(self._own.get("left_out", []))

    @property
    def reasons(self) -> dict[str, str]:
        """Patterns of methods, with the reason of the difference; those of this kind come first."""
        own = self._own.get("reasons", {})
        return {**own, **WRITTEN["reasons"], **own}

    @property
    def _own(self) -> Mapping[str, Any]:
        return dict(WRITTEN.get(self.name, {}))

    def every_module(self) -> list[str]:
        """Returns all modules and packages of tests; for the packages in SPLIT, their modules."""
        files = [path for path in self.folder.glob("test_*.py") if path.stem not in SPLIT]
        files += [path for package in SPLIT for path in self.folder.glob(f"{package}/test_*.py")]
        names = {".".join(path.relative_to(self.folder).with_suffix("").parts) for path in files}
        return sorted(names | {path.parent.name for path in self.folder.glob("test_*/__init__.py")} - set(SPLIT))


class OfPyPy(Tests):
    """PyPy has no _testcapi; its test package has a module of this name, which would compile it."""

    __slots__ = ()

    name = "pypy"
    package = "pypy3-lib-testsuite"
    modules = TWENTY
    files: ClassVar[Mapping[str, str]] = {"_testcapi.py": "raise ImportError('PyPy has no _testcapi')\n"}
    #: It keeps 7 MB of address space for each bz2 compressor until its next collection: bare, this comes to 2.7 GB.
    memory: ClassVar[Mapping[str, str]] = {"test_zipfile": "4G"}


class OfCPython(Tests):
    """_testcapi and related modules are used where they are installed."""

    __slots__ = ()

    name = "cpython"
    package = "libpython{}.{}-testsuite"
    modules = (*TWENTY, *FORTY_MORE)


def tests_of(name: str) -> Tests:
    """Returns the tests of a guest. Raises SandboxStartError when there is no such guest."""
    guest = find_guest(name)
    return {"pypy": OfPyPy, "python": OfCPython}[guest.stem](guest)
