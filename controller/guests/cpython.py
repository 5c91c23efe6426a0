"""A CPython: the distribution's, one that was built for its folder, or a relocatable build."""

import os
import re
import struct
from collections.abc import Mapping
from typing import ClassVar

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests import programs
from proxybox.controller.guests.guest import Guest

#: Versions of the Python language that are known to run in a box.
VERSIONS = tuple((3, minor) for minor in range(9, 15))
_SHARED = re.compile(rb"libpython(3\.\d+)([a-z]*)\.so")
_NAMED = re.compile(r"python(3\.\d+)([a-z]*)")
#: A function that every CPython exports that can be embedded, in its program or in its library.
_MARK = b"\0Py_BytesMain\0"
_BUILDS = {"t": "a free-threaded build", "d": "a debug build", "td": "a free-threaded debug build"}


class CPython(Guest):
    """Its program is static, or needs libpython3.*.so."""

    __slots__ = ()

    title = "CPython"
    stem = "python"
    cache_stem = "cpython-"
    homes = ("/usr/lib/python", "/opt/python", "/python")
    pools: ClassVar[Mapping[str, str]] = {
        **Guest.pools,
        "RAYON_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
        # joblib counts cores with lscpu, and warns where it cannot, unless this says that there are fewer than CPUs
        "LOKY_MAX_CPU_COUNT": "0",
        # joblib computes in this process: its child processes would be refused
        "JOBLIB_MULTIPROCESSING": "0",
        # an arena of pyarrow's allocator (mimalloc), in KiB: of the 1 GiB that is usual, it could use more than the box
        # has, without a MemoryError
        "MIMALLOC_ARENA_RESERVE": "65536",
        # the allocators of pyarrow and polars (jemalloc) start no thread when they are loaded: no guest with such a
        # thread could be copied
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "_RJEM_MALLOC_CONF": "background_thread:false",
    }


def cpython_version(found: str, executable: str, head: bytes) -> tuple[int, int] | None:
    """Returns the version of a CPython; None for another kind of program.

    found: the path that was named. executable: the same without symbolic links. head: the first bytes of that file.

    Raises SandboxStartError for a CPython that cannot be a guest.
    """
    needed = _SHARED.search(head)
    if needed is None and _MARK not in head:
        return None
    try:
        is_dynamic = programs.is_dynamic(head)
    except struct.error as error:
        raise SandboxStartError(f"{found}: not a program that the kernel could start (elf(5)): {error}") from None
    if not is_dynamic:
        raise SandboxStartError(
            f"{found}: a statically linked CPython: it could not be sealed before its `main`. Name a dynamic build"
        )
    version, build = _version(found, executable, needed)
    if build:
        kind = _BUILDS.get(build, "a build of another kind")
        raise SandboxStartError(f"{found}: {kind} of CPython, none of which is known to run in a box")
    if version not in VERSIONS:
        first, last = VERSIONS[0], VERSIONS[-1]
        raise SandboxStartError(
            f"{found}: CPython {version[0]}.{version[1]}; a box needs {first[0]}.{first[1]} to {last[0]}.{last[1]}"
        )
    return version


def _version(found: str, executable: str, needed: re.Match[bytes] | None) -> tuple[tuple[int, int], str]:
    """Returns the version, and the letters of a special build (PEP 3149), as the program is named."""
    if needed is not None:
        spoken, build = needed[1].decode(), needed[2].decode()
    else:
        named = _NAMED.fullmatch(os.path.basename(executable))
        if named is None:
            raise SandboxStartError(
                f"{found}: a CPython whose name does not tell its version: name it by its own name, such as python3.13"
            )
        spoken, build = named[1], named[2]
    major, minor = map(int, spoken.split("."))
    return (major, minor), build
