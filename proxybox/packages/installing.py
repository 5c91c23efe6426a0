"""Installs the packages of requirements, once. During this, code of a package runs only in a box.

requirements.py, inline.py   requirements, written anew
indexes.py                   where to search for packages
resolving.py                 the wheels to install            uv, in child.py, which can start nothing
answering.py                 the facts of the guest           the guest, in a box
fetching.py, unpacking.py    the wheels' files                in child.py
compiling.py                 compiled files                   the guest, in a box
cache.py                     the folder for the result
"""

import contextlib
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.controller.errors import PackagesError, warn
from proxybox.packages import cache
from proxybox.packages.compiling import compile_all
from proxybox.packages.helper import network, work_on
from proxybox.packages.indexes import Indexes, configured
from proxybox.packages.requirements import Wanted
from proxybox.packages.resolving import Wheel, local, resolve
from proxybox.packages.watching import Progress, Watcher
from proxybox.terminal.harmless import on_one_line

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest

#: The most names of packages in a message; of further packages, it has only the number.
_NAMED = 8


def installed(wanted: Wanted, guest: "Guest", watcher: Watcher) -> str:
    """Returns the folder with the required packages; installs them if the cache does not have them.

    Raises PackagesError when they cannot be installed.
    """
    indexes = wanted.indexes.over(configured())
    asked = [guest.name, guest.executable, wanted.lines(), list(indexes.lines())]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    folder = cache.place(f"{guest.name}-{digest}")
    if cache.is_there(folder):
        return folder
    watcher.tell(f"installing packages for {guest.name} ({folder})")
    try:
        with cache.work_for(folder) as work:
            _install(wanted, indexes, guest, watcher, work, folder)
    except (PackagesError, OSError) as error:
        raise PackagesError(f"packages for {guest.name} could not be installed: {error}") from None
    return folder


def _install(wanted: Wanted, indexes: Indexes, guest: "Guest", watcher: Watcher, work: str, folder: str) -> None:
    made = os.path.join(work, "made")
    for each in (made, os.path.join(work, "empty")):
        os.mkdir(each)
    wheels = resolve(wanted, indexes, guest, work) if wanted.wishes else []
    _fetch(wheels, wanted, indexes, work, made, watcher)
    os.chmod(made, 0o755)  # noqa: S103 - boxes of other users see it
    with contextlib.suppress(PackagesError):  # some files may be invalid Python
        compile_all(made, guest)
    facts = {
        "guest": guest.name, "executable": guest.executable, "requirements": wanted.lines(),
        "packages": [f"{each.name}=={each.version}" for each in wheels],
    }  # fmt: skip
    cache.finish(made, folder, facts)


def _fetch(wheels: list[Wheel], wanted: Wanted, indexes: Indexes, work: str, made: str, watcher: Watcher) -> None:
    """Lets a child process fetch wheels and unpack them into the folder `made`."""
    if not wheels:
        return
    progress = Progress(wheels=len(wheels), size=sum(each.size for each in wheels))
    megabytes = f", {progress.size / 1e6:.1f} MB" if progress.size else ""
    named = [f"{each.name} {each.version}" for each in wheels[:_NAMED]]
    more = f" and {len(wheels) - _NAMED} more" if len(wheels) > _NAMED else ""
    watcher.tell(f"fetching {', '.join(named)}{more}{megabytes}")

    done = False

    def on_line(line: dict[str, Any]) -> None:
        nonlocal progress, done
        if "note" in line:
            warn(on_one_line(f"{line['note']}"))  # its names come from a wheel
        elif "done" in line:
            done = True
        elif line.get("unpacking") in kept:
            progress = attrs.evolve(progress, file=line["unpacking"])
            watcher.advance(progress)
        elif isinstance(line.get("fetched"), int):
            progress = attrs.evolve(progress, fetched=progress.fetched + line["fetched"])
            watcher.advance(progress)

    downloads = os.path.join(work, "downloads")
    os.mkdir(downloads)
    kept = {each.file: cache.wheel(each.sha256) for each in wheels}
    task = {
        "wheels": [{**attrs.asdict(each), "kept": kept[each.file]} for each in wheels], "target": made,
        "downloads": downloads, "indexes": [each for each in (indexes.default, *indexes.extra) if each],
    }  # fmt: skip
    reads = [*local(wanted, indexes), *filter(None, kept.values())]
    work_on(task, work, environment=network(), reads=reads, writes=[made, downloads], on_line=on_line)
    if not done:  # a thread that waits for all children may have taken its exit status
        raise PackagesError("the wheels were not all unpacked")
    for each in wheels:
        cache.keep_wheel(os.path.join(downloads, each.file), each.sha256)
