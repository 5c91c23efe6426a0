"""Files that clients send once and name in later requests: the common part of the doors that have such files.

Each file is stored for one key, within the space of that key. The oldest files of a door are removed for new ones;
clients send a file again when it was removed.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from proxybox.jsonvalues import JSONObject
from proxybox.serve.callers import Caller
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service
from proxybox.serve.store import KeyStorageFull


async def keep(
    service: Service, caller: Caller, shelf: str, name: str, content: bytes, *, identity: str, evict: str
) -> None:
    """Stores a file. evict: the common prefix of the door's shelves. Raises Refusal when there is no space for it."""
    room = service.config.limits.artefacts
    try:
        await service.store.ask(
            service.store.put, caller.key, shelf, name, content, room=room, identity=identity, evict=evict
        )
    except KeyStorageFull as error:
        raise Refusal("too-large", str(error)) from None


async def find(service: Service, caller: Caller, shelf: str, identity: str) -> tuple[str, bytes] | None:
    """Returns the name and the content of a stored file; None when it does not exist."""
    return await service.store.ask(service.store.get, caller.key, shelf, identity)


async def shelf(service: Service, caller: Caller, name: str) -> Sequence[Mapping[str, Any]]:
    """Returns the facts about the files of a shelf: `id`, `name`, `size`, `made` and `sha256`."""
    return await service.store.ask(service.store.shelf, caller.key, name)


async def remove(service: Service, caller: Caller, shelf: str, identity: str) -> bool:
    """Removes a file. Returns whether it existed."""
    return await service.store.ask(service.store.remove, caller.key, shelf, identity)


async def collect(service: Service, caller: Caller, wanted: Iterable[tuple[str, str, str]]) -> dict[str, bytes]:
    """Returns the files for a run. wanted: a path, a shelf and an id for each file.

    Raises Refusal: "not-found" for a file that is not stored, "too-large" for too many files, or more bytes than two
    requests may have.
    """
    found: dict[str, bytes] = {}
    most = left = 2 * service.config.limits.body
    for number, (path, shelf, identity) in enumerate(wanted):
        if number >= service.config.limits.files:
            raise Refusal("too-large", f"a run may have {service.config.limits.files:,} files")
        file = await find(service, caller, shelf, identity)
        if file is None:
            raise Refusal("not-found", "One or more of the specified files is missing/unavailable")
        left -= len(file[1])
        if left < 0:
            raise Refusal("too-large", f"the files of a run may have {most:,} bytes")
        found[path] = file[1]
    return found


def for_worker(files: Mapping[str, bytes]) -> JSONObject:
    """Returns files in the form that workers read."""
    return {path: {"base64": base64.b64encode(content).decode()} for path, content in files.items()}
