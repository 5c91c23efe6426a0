"""Checks what `preload` and `warm_up` leave behind: a guest with threads or open files cannot be copied."""

from proxybox.controller.errors import SandboxStartError, warn
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.memory import MemoryFile
from proxybox.controller.vfs.openfiles import OpenFile
from proxybox.controller.world.state import GuestThread, World
from proxybox.policies.errors import shown

STANDARD = range(3)
#: Files in memory without a name are copied with the guest if they have at most this many bytes: libffi (3.5) has one.
SMALL = 1 << 16
_SOME = "a module of `preload`"


def is_copied(world: World, file: OpenFile) -> bool:
    """Whether a copy of a guest has this file open, too."""
    node = file.node
    return isinstance(node, MemoryFile) and node.superblock is world.anonymous and node.size() <= SMALL


class NotCopyable(SandboxStartError):
    """A module of `preload` leaves something behind, so guests with this policy cannot be copied."""


class CopyableCheck:
    """Notes which module has left each thread and each open file of a guest that starts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since: dict[OpenFile, str] = {}
        self._closer = ""

    def imported(self, name: bytes) -> None:
        """Notes that a module was imported; without a name, that the statements of `warm_up` have run."""
        module = f"the module {shown(name.decode('utf-8', 'backslashreplace'))} of `preload`" if name else "`warm_up`"
        for thread in self._threads():
            thread.since = thread.since or module
        for file in self._files():
            self._since.setdefault(file, module)
        if self._lacks_standard():
            self._closer = self._closer or module

    def check(self) -> None:
        """Raises NotCopyable, with the name of the module, when a copy would lack something."""
        self._check_threads()
        for file in self._files():
            if is_copied(self._world, file):
                continue
            path = namei.path_of(self._world.tree, file).decode("utf-8", "backslashreplace")
            self._refuse(self._since.get(file, ""), f"leaves a file open ({shown(path)})", "close it")
        if self._lacks_standard():
            raise NotCopyable(f"{self._closer or _SOME} closes a standard stream, which programs need")

    def tell(self) -> None:
        """Warns of a thread: a session with one cannot be copied. The open files of a session are copied."""
        try:
            self._check_threads()
        except NotCopyable as error:
            warn(f"this session cannot be copied: {error}")

    def _check_threads(self) -> None:
        for thread in self._threads():
            is_named = thread.name != self._world.thread.name
            name = f" ({shown(thread.name.decode('utf-8', 'replace'))})" if is_named else ""
            self._refuse(thread.since, f"leaves a thread behind{name}", "start none")

    @staticmethod
    def _refuse(module: str, does: str, cure: str) -> None:
        raise NotCopyable(
            f"{module or _SOME} {does}: only a guest with one thread and no open files can be copied. "
            f"Take it out of the policy, or have it {cure}"
        )

    def _lacks_standard(self) -> bool:
        return any(fd not in self._world.descriptors for fd in STANDARD)

    def _threads(self) -> list[GuestThread]:
        return [thread for thread in self._world.threads if thread is not self._world.thread]

    def _files(self) -> list[OpenFile]:
        descriptors = self._world.descriptors
        return [descriptors.get(fd) for fd in descriptors if fd not in STANDARD]
