"""What a guest is: an interpreter, and where its files stand for who runs in it."""

import os

import attrs

from proxybox.controller.errors import SandboxStartError

#: Of the Python language, which the guest's own Python (proxybox/guest) is written for.
VERSIONS = ((3, 9), (3, 10), (3, 11))
#: Where a translated guest finds itself, with its library beside it.
TRANSLATED_HOME = "/usr/lib/pypy"


@attrs.frozen
class Guest:
    """An interpreter.

    executable: on the host. version: of the Python language. library: host folder of the standard library.
    prefix: host folder of an unpacked release, None for a distribution's, whose paths are no secret.
    packages: host folders to put on sys.path (a virtual environment's). functions: of libc, which a PyPy that was
    translated with --sandbox marshals itself (translated/); its library is the folder of lib-python and lib_pypy.
    """

    executable: str
    version: tuple[int, int]
    library: str
    prefix: str | None = None
    packages: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()

    @property
    def is_translated(self) -> bool:
        """Whether it marshals its calls itself: it can be started, and nothing else."""
        return bool(self.functions)

    def visible(self, path: str) -> str:
        """The guest's view of a path of the interpreter's. A release stands at a path in the box that is not longer
        than its own (stub_hide.c replaces in place)."""
        if self.is_translated:
            return f"{TRANSLATED_HOME}/pypy-c"
        prefix = self.prefix
        if prefix is None or not f"{path}/".startswith(f"{prefix}/"):
            return path
        return _fitting(prefix) + path[len(prefix) :]

    @property
    def hidden(self) -> tuple[tuple[str, str], ...]:
        """Host folders whose paths the loader leaves in its memory, and what is to stand there instead."""
        folder = os.path.dirname(self.executable) if self.is_translated else self.prefix
        # Not the likes of /opt, which others' paths begin with.
        if folder is None or (self.is_translated and (folder.count("/") < 2 or folder.startswith("/usr/"))):
            return ()
        return ((folder, _fitting(folder)),)


def _fitting(folder: str) -> str:
    """A path for the guest to see, no longer than that one."""
    return next((seen for seen in ("/usr/lib/pypy", "/opt/pypy", "/pypy") if len(seen) <= len(folder)), "/p")


def require_bootstrap(guest: Guest) -> None:
    """Raises SandboxStartError for a guest that cannot be led from inside: one that was translated with --sandbox."""
    if guest.is_translated:
        raise SandboxStartError(
            f"{guest.executable}: a PyPy translated with --sandbox runs programs, each from its start: it has no "
            "sessions, copies, pools of warm boxes or host functions (docs/guests.md)"
        )
