"""The guest's own Python files (proxybox/guest/*.py), and how a guest is started with them."""

import functools
from pathlib import Path

from proxybox.controller.exchange import values
from proxybox.controller.guests.programs import guest_folder
from proxybox.controller.vfs.memory import from_tree
from proxybox.controller.vfs.nodes import Superblock
from proxybox.controller.world.state import World
from proxybox.policies import Policy

#: The folder of these files in a guest that starts. A copy has them in memory.
FOLDER = "/usr/lib/proxybox"
#: Files beside them that a guest does not need for its start.
_NOT_THERE = ("build.py", "utilities.py")


@functools.cache
def _sources() -> dict[str, bytes]:
    sources = sorted(Path(guest_folder()).glob("*.py"))
    files = {path.name: path.read_bytes() for path in sources if path.name not in _NOT_THERE}
    return {**files, "values.py": Path(values.__file__).read_bytes()}


def mount_bootstrap(world: World) -> None:
    """Mounts the bootstrap in the world of a guest that is started with it."""
    superblock = Superblock(dev=0x7F, uid=0, gid=0, now=world.clock.wall_ns, read_only=True)
    world.tree.mount(FOLDER.encode(), from_tree(dict(_sources()), superblock))


def bootstrap_words(mode: str, policy: Policy) -> tuple[str, ...]:
    """Returns the interpreter's arguments.

    mode: with "zygote" the guest waits to be copied, with "now" it continues at once. policy: has `preload` and
    `warm_up`.
    """
    return (f"{FOLDER}/bootstrap.py", mode, policy.warm_up, *policy.preload)
