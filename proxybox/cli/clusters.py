"""The option --cluster: a connection to the scheduler of a dask cluster."""

import contextlib
from collections.abc import Iterator
from typing import Any

from proxybox.cli.failures import CommandError

#: Seconds within which a cluster must answer.
CONNECT = 10


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Yields a client of the scheduler at an address, or None. Raises CommandError, also if it has no workers."""
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise CommandError(
            f"--cluster needs {error.name}, which is not installed: pip install 'proxybox[cluster]'"
        ) from None
    try:
        client = Client(address, timeout=CONNECT)
    except (OSError, ValueError) as error:
        raise CommandError(f"--cluster: can't reach {address!r}: {error}") from None
    with client:
        if not client.nthreads():
            raise CommandError(f"--cluster: {address} has no workers")
        yield client
