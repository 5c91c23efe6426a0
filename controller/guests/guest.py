"""The properties of an interpreter that a box needs. Each kind is a class: pypy.py, cpython.py, translated/guest.py.

Rule: code outside of this folder does not check which kind a guest is. It uses the attributes of `Guest`.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests.programs import is_environment

if TYPE_CHECKING:
    from proxybox.controller.dispatch import Dispatcher
    from proxybox.controller.wire.channel import Channel
    from proxybox.controller.world.state import World


@attrs.frozen
class Guest:
    """An interpreter.

    executable: its path on the host. version: of the Python language. library: host folder of the standard library.
    prefix: host folder of an unpacked release, None where that is /usr or /usr/local, whose paths are no secret.
    packages: host folders to put on sys.path (a virtual environment's).
    """

    executable: str
    version: tuple[int, int]
    library: str
    prefix: str | None = None
    packages: tuple[str, ...] = ()

    #: The name of this kind of interpreter, for people.
    title: ClassVar[str]
    #: This and the version are the name of its program, and of the folder of its library.
    stem: ClassVar[str]
    #: This and the version's digits are in the names of its compiled files.
    cache_stem: ClassVar[str]
    #: Where a box has the files of a release: at the first of these paths that is not longer than the release's own.
    homes: ClassVar[tuple[str, ...]]
    #: Why it cannot run the bootstrap (proxybox/guest/bootstrap.py), which warm boxes and sessions need; "" if it can.
    lacks_bootstrap: ClassVar[str] = ""
    #: Whether it searches its folders of packages (site.py); otherwise packages come before its library (PYTHONPATH).
    reads_pth: ClassVar[bool] = True
    #: Variables for pools of threads in libraries. A box runs on one CPU, whatever environment.cpu_count shows, so more
    #: than one thread makes them slower, or is refused. OpenMP, OpenBLAS, MKL, numexpr and Arrow read this one.
    pools: ClassVar[Mapping[str, str]] = {"OMP_NUM_THREADS": "1"}
    #: Whether it marshals its own calls. Then the stub only seals it, and it has one thread.
    marshals: ClassVar[bool] = False

    @classmethod
    def named(cls, version: tuple[int, int]) -> str:
        """Returns the name of such an interpreter's program and library: pypy3.11."""
        return f"{cls.stem}{version[0]}.{version[1]}"

    @property
    def name(self) -> str:
        """The name of its program and library, such as pypy3.11."""
        return self.named(self.version)

    @property
    def cache_tag(self) -> str:
        """The tag in the names of its compiled files (sys.implementation.cache_tag), such as pypy311."""
        return f"{self.cache_stem}{self.version[0]}{self.version[1]}"

    def with_packages(self, folders: tuple[str, ...]) -> "Guest":
        """Returns this interpreter with further host folders of packages, or virtual environments.

        Raises SandboxStartError for a virtual environment that has no packages for it.
        """
        found = (each for folder in folders for each in self._packages_of(folder))
        return attrs.evolve(self, packages=tuple(dict.fromkeys((*self.packages, *found)))) if folders else self

    def _packages_of(self, folder: str) -> tuple[str, ...]:
        if not is_environment(folder):
            return (folder,)
        from proxybox.controller.guests.environments import folders_of

        return folders_of(folder, self.name, self.site_packages(folder), self.installed_folders())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for its user, although boxes run."""
        return ()

    # --- what a box sees of it ----------------------------------------------------------------------------------------

    def visible(self, path: str) -> str:
        """Returns the path at which the guest sees a file of the interpreter.

        A release is shown at a path that is not longer than its own, because stub_hide.c replaces it in place.
        """
        prefix = self.prefix
        if prefix is None or not f"{path}/".startswith(f"{prefix}/"):
            return path
        return self._fitting(prefix) + path[len(prefix) :]

    @property
    def hidden(self) -> tuple[tuple[str, str], ...]:
        """Host folders whose paths the loader leaves in the guest's memory, with the paths that replace them there."""
        return () if self.prefix is None else ((self.prefix, self._fitting(self.prefix)),)

    def _fitting(self, folder: str) -> str:
        return next((seen for seen in self.homes if len(seen) <= len(folder)), "/p")

    def files(self) -> Iterator[tuple[str, str]]:
        """Yields the files and folders of the interpreter on the host, each with the path at which a box has it.

        Of a release these are its program, its library, and the shared libraries beside them. They are never the whole
        prefix, which may be /usr/local or a part of a user's home, with other software.
        """
        own = [self.executable, self.library]
        if self.prefix is not None:
            own += _shared_libraries(os.path.dirname(self.executable))
            own += _shared_libraries(f"{self.prefix}/lib")
        return ((path, self.visible(path)) for path in own)

    #: Whether it loads the host's libraries (/usr/lib/x86_64-linux-gnu and so on).
    loads_system_libraries: ClassVar[bool] = True

    def links(self) -> dict[str, str]:
        """Symbolic links to it, under the names that programs use, with their targets."""
        if self.prefix is not None:
            return {}
        folder, name = os.path.split(self.executable)
        return {f"/usr/bin/{self.stem}3": name if folder == "/usr/bin" else self.executable}

    def site_packages(self, environment: str) -> str:
        """Returns the folder of a virtual environment that has packages for this interpreter."""
        return os.path.join(environment, "lib", self.name, "site-packages")

    def installed_folders(self) -> tuple[str, ...]:
        """Returns the host's folders of packages that are installed beside it.

        They are the folders of site.py; Debian has its own. The guest searches the first of them, too.
        """
        if _is_of_debian(self.library):
            return f"/usr/local/lib/{self.name}/dist-packages", "/usr/lib/python3/dist-packages"
        return (f"{self.library}/site-packages",)

    def variables(self) -> dict[str, str]:
        """Returns environment variables for it; those of the policy have priority."""
        return {
            "TZ": ":/etc/localtime",  # the default file; if it is named, glibc does not stat it each time
            **self.pools,
        }

    # --- how it is served ---------------------------------------------------------------------------------------------

    def channel(
        self, plain: "Channel", world: "World", dispatcher: "Dispatcher", environment: Callable[[], dict[str, str]]
    ) -> "Channel":
        """Returns the channel of its calls after the seal, which replaces the stub's channel.

        environment: returns its environment variables.
        """
        return plain


@functools.lru_cache(maxsize=16)
def _is_of_debian(library: str) -> bool:
    """Whether a standard library is Debian's, which has packages in dist-packages."""
    try:
        with open(f"{library}/site.py", encoding="utf-8", errors="replace") as file:
            return "dist-packages" in file.read()
    except OSError:
        return False


def _shared_libraries(folder: str) -> list[str]:
    """Returns the paths of the shared libraries in a folder; none where it cannot be read."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith("lib") and ".so" in name)
    except OSError:
        return []
    return [path for path in (os.path.join(folder, name) for name in names) if os.path.isfile(path)]


def require_bootstrap(guest: Guest) -> None:
    """Raises SandboxStartError for a guest that cannot run the bootstrap."""
    if guest.lacks_bootstrap:
        raise SandboxStartError(f"{guest.executable}: {guest.lacks_bootstrap} (docs/guests.md)")
