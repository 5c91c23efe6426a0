"""A PyPy that was translated with --sandbox: it marshals its own calls."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import attrs

from proxybox.controller.guests.programs import guest_folder
from proxybox.controller.guests.pypy import PyPy

if TYPE_CHECKING:
    from proxybox.controller.dispatch import Dispatcher
    from proxybox.controller.wire.channel import Channel
    from proxybox.controller.world.state import World

#: The folder in the box where it finds its own program, with its library beside it.
_HOME = "/usr/lib/pypy"
#: Python's own library, by the major version of the language, below the folder of both libraries.
LIBRARIES: Final = {3: "lib-python/3", 2: "lib-python/2.7"}
#: The version of Python for which proxybox/guest/translated has modules; they replace modules that it lacks. A box has
#: them in the folder that comes first in such a PyPy's sys.path, which is otherwise empty.
_STAND_INS = (3, 6)
#: Functions that a warning names.
_MOST_NAMED = 20


@attrs.frozen
class TranslatedPyPy(PyPy):
    """library: the folder of lib-python and lib_pypy. functions: those of libc that it marshals.

    unknown: those of them that are answered with ENOSYS, because libc.py does not know them.
    """

    functions: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    title = "translated PyPy"
    lacks_bootstrap = (
        "a PyPy translated with --sandbox runs programs, each from its start: it has no sessions, copies, pools of "
        "warm boxes or host functions"
    )
    reads_pth = False
    marshals = True
    loads_system_libraries = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """As Guest.warnings."""
        if not self.unknown:
            return ()
        more = f", and {len(self.unknown) - _MOST_NAMED} more" if len(self.unknown) > _MOST_NAMED else ""
        named = ", ".join(self.unknown[:_MOST_NAMED])
        return (f"it can call functions that are not known here, and are answered with ENOSYS: {named}{more}",)

    def visible(self, path: str) -> str:
        """Always the path of its program in the box: all other files are at fixed paths."""
        return f"{_HOME}/pypy-c"

    @property
    def hidden(self) -> tuple[tuple[str, str], ...]:
        """The folder of its program, unless other paths begin with it, as with /opt."""
        folder = os.path.dirname(self.executable)
        return () if folder.count("/") < 2 or folder.startswith("/usr/") else ((folder, self._fitting(folder)),)

    def files(self) -> Iterator[tuple[str, str]]:
        """As Guest.files."""
        for name in ("lib-python", "lib_pypy"):
            yield os.path.join(self.library, name), f"{_HOME}/{name}"
        if self.version == _STAND_INS:
            yield os.path.join(guest_folder(), "translated"), f"{_HOME}/lib_pypy/__extensions__"
        yield self.executable, self.visible(self.executable)

    def links(self) -> dict[str, str]:
        """As Guest.links."""
        return {"/usr/bin/pypy": self.visible(self.executable)}

    def variables(self) -> dict[str, str]:
        """Returns no variables."""
        return {}

    def channel(
        self, plain: "Channel", world: "World", dispatcher: "Dispatcher", environment: Callable[[], dict[str, str]]
    ) -> "Channel":
        """Returns a channel of its own wire: the stub sends nothing after the seal."""
        from proxybox.controller.guests.translated.channel import TranslatedChannel
        from proxybox.controller.guests.translated.libc import Libc

        libc = Libc(world, environment(), self.visible(self.executable), dispatcher.refuse)
        return TranslatedChannel(plain.request_fd, plain.reply_fd, libc, dispatcher.execute)
