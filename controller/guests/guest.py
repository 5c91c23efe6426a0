"""What a guest is: an interpreter, and the paths at which a program in it sees the interpreter's files."""

import os

import attrs

from proxybox.controller.errors import SandboxStartError

#: Versions of the Python language that the guest's own Python files (proxybox/guest) are written for.
VERSIONS = ((3, 9), (3, 10), (3, 11))
#: The folder in which a translated guest finds its own program, with its library beside it.
TRANSLATED_HOME = "/usr/lib/pypy"


@attrs.frozen
class Guest:
    """An interpreter.

    executable: its path on the host. version: of the Python language. library: host folder of the standard library.
    prefix: host folder of an unpacked release, None for a distribution's interpreter, whose paths are no secret.
    packages: host folders to put on sys.path (a virtual environment's). functions: functions of libc that the guest
    marshals itself, if it is a PyPy that was translated with --sandbox (translated/); the library of such a guest is
    the folder of lib-python and lib_pypy.
    """

    executable: str
    version: tuple[int, int]
    library: str
    prefix: str | None = None
    packages: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()

    @property
    def is_translated(self) -> bool:
        """Whether the guest marshals its calls itself. Such a guest can only run programs from their start."""
        return bool(self.functions)

    def with_packages(self, folders: tuple[str, ...]) -> "Guest":
        """Returns this interpreter with further host folders of packages."""
        return attrs.evolve(self, packages=(*self.packages, *folders)) if folders else self

    def visible(self, path: str) -> str:
        """Returns the path at which the guest sees a file of the interpreter.

        A release is shown at a path that is not longer than its own, because stub_hide.c replaces it in place.
        """
        if self.is_translated:
            return f"{TRANSLATED_HOME}/pypy-c"
        prefix = self.prefix
        if prefix is None or not f"{path}/".startswith(f"{prefix}/"):
            return path
        return _fitting(prefix) + path[len(prefix) :]

    @property
    def hidden(self) -> tuple[tuple[str, str], ...]:
        """Host folders whose paths the loader leaves in the guest's memory, with the paths that replace them there."""
        folder = os.path.dirname(self.executable) if self.is_translated else self.prefix
        # Folders such as /opt are not replaced, because other paths begin with them.
        if folder is None or (self.is_translated and (folder.count("/") < 2 or folder.startswith("/usr/"))):
            return ()
        return ((folder, _fitting(folder)),)


def _fitting(folder: str) -> str:
    """Returns a path for the guest to see that is no longer than `folder`."""
    return next((seen for seen in ("/usr/lib/pypy", "/opt/pypy", "/pypy") if len(seen) <= len(folder)), "/p")


def require_bootstrap(guest: Guest) -> None:
    """Raises SandboxStartError for a guest that cannot run the bootstrap: one that was translated with --sandbox."""
    if guest.is_translated:
        raise SandboxStartError(
            f"{guest.executable}: a PyPy translated with --sandbox runs programs, each from its start: it has no "
            "sessions, copies, pools of warm boxes or host functions (docs/guests.md)"
        )
