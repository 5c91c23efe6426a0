"""Starts the process that reads data of strangers (child.py), and watches it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from proxybox.controller.errors import PackagesError
from proxybox.modulepath import trusted_path
from proxybox.terminal.harmless import harmless_lines

_CHILD: Final = str(Path(__file__).with_name("child.py"))
_SECONDS: Final = 900
#: The most bytes and files in its folder at one time, and the seconds between checks of this.
_MOST_BYTES: Final = 32 << 30
_MOST_FILES: Final = 1_000_000
_EACH: Final = 2.0
#: Without this variable, some builds of Python do not start.
_LOADERS: Final = ("LD_LIBRARY_PATH",)
#: The most bytes of its error message, and of a line of its output. Then the most levels of folders.
_MOST: Final = 1 << 16
_DEEPEST: Final = 100
#: Variables that it gets, besides those below: proxies for the network.
_PROXIES: Final = (
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip
#: Variables for the places of certificates, each with its names in several programs; the first that is set counts.
_CERTIFICATES: Final = {
    "SSL_CERT_FILE": ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "SSL_CERT_DIR": ("SSL_CERT_DIR",),
    "SSL_CLIENT_CERT": ("SSL_CLIENT_CERT", "PIP_CLIENT_CERT"),
}  # fmt: skip


def network() -> dict[str, str]:
    """Returns the variables of this process for access to the network."""
    found = {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
    for name, others in _CERTIFICATES.items():
        named = next((os.environ[each] for each in others if os.environ.get(each)), None)
        if named and os.path.isabs(named):
            found[name] = named
    return found


def work_on(
    task: dict[str, Any],
    work: str,
    *,
    environment: dict[str, str],
    reads: Sequence[str] = (),
    writes: Sequence[str],
    on_line: Callable[[dict[str, Any]], object] = lambda line: None,
) -> None:
    """Lets a child process do a task, and waits for it.

    work: a folder for this task, which contains the empty folder `empty`. reads, writes: paths that it may open.
    on_line: called with each line of JSON that it prints.

    Raises PackagesError with the end of its standard error when it fails.
    """
    certificates = [environment[name] for name in _CERTIFICATES if name in environment]
    empty = os.path.join(work, "empty")
    stream = {
        **task, "path": trusted_path(), "folder": empty, "environment": {**environment, "HOME": empty},
        "reads": [*reads, *certificates, empty], "writes": list(writes),
        "unconfined": os.environ.get("PROXYBOX_INSTALL_UNCONFINED") == "1",
    }  # fmt: skip
    with open(os.path.join(work, "stderr"), "w+b") as errors:
        with _child(errors.fileno(), work) as process:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError), process.stdin:  # its standard error says why
                    process.stdin.write(json.dumps(stream).encode())
            for line in _lines(process.stdout):
                on_line(line)
            status = process.wait()
        if why := _too_much(work):
            raise PackagesError(why)
        if status:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - _MOST))
            why = errors.read(_MOST).decode(errors="replace").strip()
            raise PackagesError(harmless_lines(why) or _status(status))


def _lines(stream: IO[bytes] | None) -> Iterator[dict[str, Any]]:
    """Yields the objects that a child prints. Raises PackagesError for other output: the child may be compromised."""
    while line := stream.readline(_MOST) if stream else b"":
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise PackagesError("what unpacks archives tells something else than how far it is")
        yield found


def _status(status: int) -> str:
    if status == -signal.SIGKILL:
        return f"ended after {_SECONDS} seconds, or by the kernel for want of memory"
    if status == -signal.SIGXCPU:
        return "took too much CPU time"
    return f"exit status {status}"


def _too_much(work: str) -> str:
    """Returns in words which limit a folder exceeds; "" if it exceeds none.

    It does not use os.walk, which is recursive and would exceed the stack.
    """
    size = files = 0
    pending = [(work, 0)]
    while pending:
        place, depth = pending.pop()
        try:
            with os.scandir(place) as entries:
                for each in entries:
                    files += 1
                    if each.is_dir(follow_symlinks=False):
                        pending.append((each.path, depth + 1))
                    else:
                        with contextlib.suppress(FileNotFoundError):  # it was removed
                            size += each.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"they have folders that cannot be looked into: {error.strerror}"
        if size > _MOST_BYTES or files > _MOST_FILES:
            return f"they take more than {_MOST_BYTES >> 30} GiB, or {_MOST_FILES:,} files, on the way"
        if depth > _DEEPEST:
            return f"they have folders that are more than {_DEEPEST} levels deep"
    return ""


@contextlib.contextmanager
def _child(errors: int, work: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Starts a child, and kills it after the block, or earlier if it takes too much time or disk space."""
    process = subprocess.Popen(
        [sys.executable, "-I", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd="/",
        env={name: os.environ[name] for name in _LOADERS if name in os.environ}, start_new_session=True,
    )  # fmt: skip
    ended = threading.Event()

    def watch() -> None:
        until = time.monotonic() + _SECONDS
        while not ended.wait(_EACH):
            if time.monotonic() > until or _too_much(work):
                process.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()  # after an exception it still runs
    finally:
        ended.set()
        watcher.join()
