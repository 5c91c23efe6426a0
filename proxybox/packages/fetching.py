"""Fetches wheels, compares their hashes and unpacks them, in a process that cannot start anything (child.py).

Everything is bounded: the size of a file, of all that is unpacked, their number, and the time.
"""

import http.client
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from proxybox.packages.downloading import IndexOpener, fetched, tell
from proxybox.packages.refusing import NoArchive
from proxybox.packages.unpacking import UnpackedFolder

_AT_ONCE = 4


def fetch(task: Mapping[str, Any]) -> None:
    """Fetches and unpacks the wheels of a task. A failure ends the process with one line that says why."""
    os.umask(0o022)  # boxes of other users read the files
    try:
        folder = UnpackedFolder(task["target"])
        network = IndexOpener(task["indexes"])
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            paths = threads.map(lambda wheel: fetched(network, wheel, task["downloads"]), task["wheels"])
            for wheel, path in zip(task["wheels"], paths, strict=True):
                tell(unpacking=wheel["file"])
                for note in folder.unpack(path):
                    tell(note=f"{wheel['file']}: {note}")
        tell(done=len(task["wheels"]))
    except (NoArchive, OSError, http.client.HTTPException, MemoryError) as error:
        sys.exit(str(error) or type(error).__name__)
