"""Servers of tests and benchmarks: a process that is used as soon as it says where it listens, and then ended."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

#: What a service says when it has tried itself out.
READY = rb"ready: ((?:http|unix):[^ \"\n]+)"


@attrs.frozen
class Listening:
    """A server that runs. where: it listens, in its own words. log: the file of what it has said."""

    process: "subprocess.Popen[bytes]"
    where: str
    log: Path

    @property
    def port(self) -> int:
        """The port of its address."""
        return int(self.where.rpartition(":")[2])


def service(config: Path, *options: str) -> list[str]:
    """The command of a service with this configuration."""
    return [sys.executable, "-P", "-m", "proxybox", "serve", "--config", str(config), *options]


@contextlib.contextmanager
def listening(
    command: Sequence[str], log: Path, pattern: bytes = READY, env: Mapping[str, str] | None = None
) -> Iterator[Listening]:
    """Starts a server, which runs in the context. pattern: of the line that says where it listens, as its group.

    env: variables besides our own. Raises RuntimeError, with what it has said, when it ends before.
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
