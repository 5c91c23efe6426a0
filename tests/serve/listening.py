"""Servers of tests and benchmarks: a process that is used as soon as it names its address, and then ended."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

#: The log line of a service that is ready.
READY = rb"ready: ((?:http|unix):[^ \"\n]+)"


@attrs.frozen
class Listening:
    """A running server. where: its address, as it names it. log: the file of its standard error."""

    process: "subprocess.Popen[bytes]"
    where: str
    log: Path

    @property
    def port(self) -> int:
        """The port of the server's address."""
        return int(self.where.rpartition(":")[2])


def service(config: Path, *options: str) -> list[str]:
    """Returns the command of a service with this configuration."""
    return [sys.executable, "-P", "-m", "proxybox", "serve", "--config", str(config), *options]


@contextlib.contextmanager
def listening(
    command: Sequence[str], log: Path, pattern: bytes = READY, env: Mapping[str, str] | None = None
) -> Iterator[Listening]:
    """Starts a server for the context. pattern: its group is the address in the server's line.

    env: additional variables. Raises RuntimeError, with the log, when the server ends before that line.
    """
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**os.environ, **(env or {})}
    )
    found: list[str] = []
    said = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        with open(log, "wb", buffering=0) as kept, process.stderr:
            for line in process.stderr:
                kept.write(line)
                if not found and (match := re.search(pattern, line)):
                    found.append(match[1].decode())
                    said.set()
        process.wait()
        said.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        said.wait()
        if not found:
            reader.join()
            raise RuntimeError(f"it has ended with {process.returncode}: {log.read_text()}")
        yield Listening(process, found[0], log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join()
