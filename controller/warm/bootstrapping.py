"""The guest's own Python (proxybox/guest/*.py), and how it is started with it."""

import functools
from pathlib import Path

from proxybox.controller.exchange import values
from proxybox.controller.process.launch import guest_folder
from proxybox.controller.vfs.memory import from_tree
from proxybox.controller.vfs.nodes import Superblock
from proxybox.controller.world.state import World

#: Where it stands while a guest starts; a copy has it in memory.
FOLDER = "/usr/lib/proxybox"


@functools.cache
def _sources() -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in sorted(guest_folder().glob("*.py")) if path.name != "build.py"}
    return {**files, "values.py": Path(values.__file__).read_bytes()}


def mount_bootstrap(world: World) -> None:
    """Shows the bootstrap to a guest that is started with it."""
    superblock = Superblock(dev=0x7F, uid=0, gid=0, now=world.clock.wall_ns, read_only=True)
    world.tree.mount(FOLDER.encode(), from_tree(dict(_sources()), superblock))


def bootstrap_words(mode: str, preload: tuple[str, ...]) -> tuple[str, ...]:
    """The interpreter's arguments. mode: "zygote" waits to be copied, "now" goes on at once."""
    return (f"{FOLDER}/bootstrap.py", mode, *preload)
