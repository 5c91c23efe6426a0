"""Files that clients send once and name in later requests: what the doors that have such files have in common.

Each is kept for one key, within the room that the key has; the oldest of a door make room for the latest, and clients
send again what is gone.
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
    """Keeps a file. evict: how the names of the door's shelves begin. Raises Refusal when there is no room for it."""
    room = service.config.limits.artefacts
    try:
        await service.store.ask(
            service.store.put, caller.key, shelf, name, content, room=room, identity=identity, evict=evict
        )
    except KeyStorageFull as error:
        raise Refusal("too-large", str(error)) from None


async def find(service: Service, caller: Caller, shelf: str, identity: str) -> tuple[str, bytes] | None:
    """Returns the name and the content of a file that is kept; None when it is not."""
    return await service.store.ask(service.store.get, caller.key, shelf, identity)


async def shelf(service: Service, caller: Caller, name: str) -> Sequence[Mapping[str, Any]]:
    """Returns what is told of the files of a shelf: `id`, `name`, `size`, `made` and `sha256`."""
    return await service.store.ask(service.store.shelf, caller.key, name)


async def remove(service: Service, caller: Caller, shelf: str, identity: str) -> bool:
    """Gives up a file. Returns whether it was kept."""
    return await service.store.ask(service.store.remove, caller.key, shelf, identity)


async def collect(service: Service, caller: Caller, wanted: Iterable[tuple[str, str, str]]) -> dict[str, bytes]:
    """Returns the files for a run: wanted has a path, a shelf and an id for each.

    Raises Refusal: "not-found" for one that is not kept, "too-large" for too many, or more than two requests can bring.
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
    """Returns files in the form in which a run is asked for."""
    return {path: {"base64": base64.b64encode(content).decode()} for path, content in files.items()}
