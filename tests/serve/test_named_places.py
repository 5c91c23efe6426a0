"""Paths and addresses in commands that cannot be used: one line and an exit status each."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("fastapi", reason="the service is served by FastAPI (extra server)")

#: The options of a command, and its message. {folder} has a FIFO, a socket in use, and a file.
_CASES: Final = {
    "a port in use": ("serve --listen 127.0.0.1:{port}", "127.0.0.1:{port}: Address already in use (end the program"),
    "an address elsewhere": ("serve --listen 192.0.2.1:8000", "192.0.2.1:8000: Cannot assign requested address (this"),
    "an unknown name": ("serve --listen nowhere.invalid:8000", "cannot listen at nowhere.invalid:8000: "),
    "a folder that is not there": ("serve --listen unix:{folder}/none/x", "No such file or directory (make its folder"),
    "a socket in use": ("serve --listen unix:{folder}/socket", "Address already in use (end the server"),
    "a FIFO as a socket": ("serve --listen unix:{folder}/fifo", "Address already in use (end the server"),
    "a file as a folder of sockets": ("serve --listen unix:{folder}/file/x", "Not a directory (make its folder"),
    "a device as a socket": ("serve --listen unix:/dev/null", "Address already in use (end the server"),
    "a long path": ("serve --listen unix:/tmp/{long}", "AF_UNIX path too long"),
    "a FIFO as configuration": ("serve --config {folder}/fifo", "/fifo: cannot be read: it is no regular file"),
    "a device as configuration": ("serve --config /dev/zero", "/dev/zero: cannot be read: it is no regular file"),
    "a folder as configuration": ("serve --config {folder}", "cannot be read: Is a directory"),
    "a FIFO as a policy": ("serve --policy {folder}/fifo.toml", "/fifo.toml: cannot be read: it is no regular file"),
    "a device as a policy": ("run --policy /dev/zero -c 1", "/dev/zero: cannot be read: it is no regular file"),
    "a FIFO as keys": ("serve keys list --keys {folder}/fifo", "/fifo: it is no regular file"),
    "a classroom's port in use": ("classroom --port {port}", "port {port} is in use by another program"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, str, str]]]:
    """Runs all of them at the same time: exit status, standard error and expected message of each."""
    folder = tmp_path_factory.mktemp("places")
    os.mkfifo(folder / "fifo")
    os.mkfifo(folder / "fifo.toml")
    (folder / "file").touch()
    with contextlib.ExitStack() as open_ones:
        port = open_ones.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        listener = open_ones.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(folder / "socket"))
        listener.listen()
        known = {"port": port, "folder": folder, "long": "x" * 200}
        begun = {
            name: _begin(folder / str(at), words.format(**known))
            for at, (name, (words, _)) in enumerate(_CASES.items())
        }
        found = {}
        for name, process in begun.items():
            said = process.communicate(timeout=120)[1]
            found[name] = process.returncode, said, _CASES[name][1].format(**known)
        yield found
    assert Path(folder / "socket").is_socket()


def _begin(data: Path, words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-P", "-m", "proxybox", *words.split()]
    if "serve --" in words or "classroom" in words:
        command += ["--data", str(data)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.full
@pytest.mark.parametrize("case", _CASES)
def test_a_place_of_no_use_is_one_line(ended: dict[str, tuple[int, str, str]], case: str) -> None:
    status, said, wanted = ended[case]
    assert status in (2, 125), said
    assert wanted in said
    (line,) = said.splitlines()
    assert line.startswith("proxybox: ")
