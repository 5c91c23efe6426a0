"""Kernels for tests: Jupyter's folders are the test's own, and `install` has written the specification."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from zmq.utils.garbage import gc as zmq_garbage

from proxybox import cli


@pytest.fixture(scope="module", autouse=True)
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with all of Jupyter's files; the kernel `proxybox` is installed there."""
    root = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONFIG", "DATA", "RUNTIME"):
            patch.setenv(f"JUPYTER_{name}_DIR", str(root / name.lower()))
        patch.setenv("JUPYTER_PATH", str(root / "data"))
        patch.setenv("IPYTHONDIR", str(root / "ipython"))
        patch.setenv("HOME", str(root))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        assert cli.main(["kernel", "install", "--user"]) == 0
        yield root


@pytest.fixture(scope="module", autouse=True)
def _no_thread_of_zmq() -> Iterator[None]:
    """Stops the thread that zmq starts with the first large message, and that would last as long as the process."""
    yield
    zmq_garbage.stop()


class Notebook:
    """A front end: runs cells, and collects their messages."""

    def __init__(self, client: BlockingKernelClient, manager: Any) -> None:
        self.client, self.manager = client, manager
        self.messages: list[tuple[str, dict[str, Any]]] = []

    def run(self, code: str, **options: Any) -> dict[str, Any]:
        """Runs a cell, and returns its reply. The output is in `messages`."""
        self.messages = []

        def take(message: dict[str, Any]) -> None:
            if message["msg_type"] not in ("status", "execute_input"):
                self.messages.append((message["msg_type"], message["content"]))

        options = {"timeout": 90, "allow_stdin": False, "output_hook": take, **options}
        content: dict[str, Any] = self.client.execute_interactive(code, **options)["content"]
        return content

    def text(self, stream: str = "stdout") -> str:
        """Returns the text that was printed."""
        return "".join(
            content["text"] for kind, content in self.messages if kind == "stream" and content["name"] == stream
        )

    def kinds(self) -> list[str]:
        """Returns the types of the messages."""
        return [kind for kind, _ in self.messages]


@contextlib.contextmanager
def opened(name: str = "proxybox", cwd: Path | None = None) -> Iterator[Notebook]:
    """A notebook with a kernel of its own."""
    options = {} if cwd is None else {"cwd": str(cwd)}
    manager, client = start_new_kernel(kernel_name=name, stderr=subprocess.DEVNULL, startup_timeout=60, **options)
    try:
        yield Notebook(client, manager)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
        client.context.destroy(0)


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    with opened() as notebook:
        yield notebook


@pytest.fixture(scope="module")
def shared() -> Iterator[Notebook]:
    """A notebook for several tests, which leave it as it was."""
    with opened() as notebook:
        yield notebook


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., str]:
    """Returns a function that installs another kernel from words of the command line, and returns its name."""

    def install(name: str, *words: str) -> str:
        assert cli.main(["kernel", "install", "--name", name, *words]) == 0
        return name

    return install
