"""Finds programs on the host, and the files beside them, without running any."""

import functools
import os
import re
import stat
import struct
from typing import TYPE_CHECKING

from proxybox.controller.errors import SandboxStartError

if TYPE_CHECKING:
    import mmap

VARIABLE, LIBRARY_VARIABLE = "PROXYBOX_GUEST", "PROXYBOX_GUEST_LIBRARY"
#: The name of the installed translated PyPy (translated/installed.py) as a guest.
TRANSLATED = "translated"


@functools.cache
def guest_folder() -> str:
    """The folder of the programs and sources of the untrusted side."""
    above = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    installed = os.path.join(above, "guest")  # in an uninstalled checkout, controller/ is at the top of the tree
    return installed if os.path.isdir(installed) else os.path.join(above, "proxybox", "guest")


@functools.cache
def guest_program(name: str) -> str:
    """The path of one of the compiled programs. Raises SandboxStartError when it has not been compiled."""
    path = os.path.join(guest_folder(), name)
    if not os.path.isfile(path):
        raise SandboxStartError(
            f"{path} is missing: the guest's C programs have not been compiled. Run `python -m proxybox.guest.build` "
            "(it needs gcc or clang and the C library's headers: apt install gcc libc6-dev)"
        )
    return path


def to_install(package: str) -> str:
    """Returns what to do where a guest is missing. package: its name in distributions."""
    return f"install it (Debian, Ubuntu: apt install {package}), or name one with --guest PATH or {VARIABLE}"


INSTALL = to_install("pypy3")
_ELF_X86_64 = re.compile(rb"\x7fELF\x02\x01.{12}\x3e\x00", re.DOTALL)
_PT_INTERP = 3
#: The file that makes a folder a virtual environment.
CONFIGURATION = "pyvenv.cfg"
#: Folders that every host has: the box has an interpreter from there at the same path, and its path is not replaced.
_NO_SECRETS = ("/usr", "/usr/local")
#: How many bytes at the beginning of a program show its kind.
_HEAD = 1 << 20


def folders() -> list[str]:
    """Returns the folders of programs: those of PATH, /usr/bin and /usr/local/bin.

    Empty and relative entries of PATH are left out: the working directory may have programs of other users.
    """
    named = filter(os.path.isabs, os.environ.get("PATH", "").split(os.pathsep))
    return list(dict.fromkeys([*named, "/usr/bin", "/usr/local/bin"]))


def on_path(*names: str) -> str | None:
    """Returns the path of the first of these programs that is in `folders`; None where none is.

    Programs that the guests of this process cannot run come last but one, and scripts last: version managers have
    scripts under these names, which are no interpreters. (shutil.which would also import the modules for archives at
    each start of a command.)
    """
    closed = script = None
    for path in (os.path.join(folder, name) for name in names for folder in folders()):
        if not os.path.isfile(path) or not os.access(path, os.X_OK):
            continue
        if is_script(path):
            script = script or path
        elif os.geteuid() == 0 and closed_at(path):
            closed = closed or path
        else:
            return path
    return closed or script


def closed_at(path: str) -> str:
    """Returns the folder, or the program itself, whose mode stops other users from running it; "" where none does.

    Other users neither own it nor belong to its group. Guests of root run as such a user.
    """
    parts = os.path.realpath(path).split("/")
    for place in ("/".join(parts[:end]) or "/" for end in range(1, len(parts) + 1)):
        try:
            if not os.stat(place).st_mode & stat.S_IXOTH:
                return place
        except OSError:
            return place
    return ""


def is_environment(folder: str) -> bool:
    """Whether a folder is a virtual environment (PEP 405)."""
    return os.path.isfile(os.path.join(folder, CONFIGURATION))


def is_script(path: str) -> bool:
    """Whether a file begins as a script does."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def identity(found: str, executable: str) -> tuple[int, int, int]:
    """Returns values that change when the file is replaced. Raises SandboxStartError when it cannot be read."""
    try:
        status = os.stat(executable)
    except FileNotFoundError as error:
        what = "an interpreter, an unpacked release or a virtual environment"
        raise SandboxStartError(f"there is no {found}: name {what} with --guest PATH or {VARIABLE}") from error
    except OSError as error:
        raise SandboxStartError(f"{found}: cannot be read ({error.strerror}): {INSTALL}") from error
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for a writer
        raise SandboxStartError(f"{found}: not an x86-64 program of Linux: {INSTALL}")
    return status.st_ino, status.st_size, status.st_mtime_ns


def head_of(found: str, executable: str) -> bytes:
    """Returns the first bytes of a program for this machine.

    Raises SandboxStartError when it cannot be read, or is no program for this machine.
    """
    try:
        with open(executable, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise SandboxStartError(f"{found}: cannot be read ({error.strerror}): {INSTALL}") from error
    if not _ELF_X86_64.match(head):
        raise SandboxStartError(f"{found}: not an x86-64 program of Linux: {INSTALL}")
    return head


def is_dynamic(data: "bytes | mmap.mmap") -> bool:
    """Whether the kernel starts a loader for the program, so that the stub can be preloaded (elf(5)).

    Raises struct.error for a file that is no ELF program.
    """
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    if table + size * count > len(data):
        raise struct.error("its table of segments is not in the file")
    return any(struct.unpack_from("<I", data, table + size * number)[0] == _PT_INTERP for number in range(count))


def library_beside(found: str, executable: str, name: str) -> tuple[str, str | None]:
    """Returns the folder of the standard library, and the prefix of a release or None.

    name: the folder's name, such as pypy3.11. Raises SandboxStartError where there is none.
    """
    above = os.path.dirname(os.path.dirname(executable))
    prefix = None if above in _NO_SECRETS else above
    for library in (f"{above}/lib/{name}", f"{above}/lib64/{name}"):
        if os.path.isfile(f"{library}/os.py"):
            return library, prefix
    raise SandboxStartError(
        f"{found}: the standard library of this interpreter (lib/{name}/os.py) is not beside it: "
        "name the program inside its unpacked release, or where it was installed, not a copy of it"
    )
