"""JupyterLab's server, with the requests of its page: a restart from the menu, whatever the kernel does."""

import asyncio
import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.session import Session
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from tests.kernel.test_cells import STUBBORN
from tests.soak.counts import descendants

LONG = 120


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Starts the server; the address, and the process id."""
    words = [
        "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--no-browser", "--allow-root",
        "--ServerApp.jpserver_extensions={}", f"--ServerApp.root_dir={tmp_path}", "--IdentityProvider.token=secret",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "jupyter_server", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                _until_it_listens(int(found[1]))
                yield found[0], process.pid
                break
        else:
            pytest.fail("".join(said))
    finally:
        process.terminate()
        process.communicate()


def _until_it_listens(port: int) -> None:
    """Waits until the port is open: the server prints its address a moment before."""
    end = time.monotonic() + LONG
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


class Page:
    """A kernel, and a page that shows its messages."""

    def __init__(self, url: str) -> None:
        self.url, self.session = url, Session()
        self.kernel = ""
        self.socket: Any = None

    async def ask(self, path: str, **content: Any) -> dict[str, Any]:
        headers = {"Authorization": "token secret", "Content-Type": "application/json"}
        request = HTTPRequest(
            f"{self.url}{path}", "POST", headers=headers, body=json.dumps(content), request_timeout=LONG
        )
        answer: dict[str, Any] = json.loads((await AsyncHTTPClient().fetch(request)).body)
        return answer

    async def open(self) -> None:
        self.kernel = f"api/kernels/{(await self.ask('api/kernels', name='proxybox'))['id']}"
        url = f"{self.url.replace('http', 'ws')}{self.kernel}/channels"
        self.socket = await websocket_connect(HTTPRequest(url, headers={"Authorization": "token secret"}))

    async def run(self, code: str, until: str = "execute_reply") -> tuple[str, dict[str, Any]]:
        """Runs a cell, and returns its output and the last message of type `until`.

        The output comes on another channel than the reply. It is complete when the kernel is idle again.
        """
        message = self.session.msg("execute_request", {"code": code, "silent": False, "allow_stdin": False})
        await self.socket.write_message(json.dumps({**message, "channel": "shell", "buffers": []}, default=str))
        printed, last, is_idle = "", None, False
        while last is None or not (is_idle or until == "stream"):
            heard = json.loads(await asyncio.wait_for(self.socket.read_message(), LONG))
            if heard["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                content = heard["content"]
                printed += content.get("text", "")
                is_idle = is_idle or content.get("execution_state") == "idle"
                if heard["msg_type"] == until:
                    last = content
        return printed, last


def test_a_restart_from_the_menu(server: tuple[str, int]) -> None:
    """During a cell that ignores interrupts, and after the box's end: another box, without the state of the last."""
    url, process = server

    async def use() -> None:
        page = Page(url)
        await page.open()
        with contextlib.closing(page.socket):
            for code, until in ((STUBBORN, "stream"), ("import os; os._exit(3)", "execute_reply")):
                await restart_behind(page, code, until)

    async def restart_behind(page: Page, code: str, until: str) -> None:
        assert (await page.run("x = 1; open('mine', 'w').close()"))[1]["status"] == "ok"
        await page.run(code, until)
        with contextlib.ExitStack() as stack:
            before = _watched(stack, set(descendants()) - {process})
            assert before
            await page.ask(f"{page.kernel}/restart")
            printed, reply = await page.run("import os\nprint('x' in globals(), os.listdir())")
            assert (printed, reply["execution_count"]) == ("False []\n", 1)
            for fd in before:
                assert _has_ended(fd)

    asyncio.run(use())


def _watched(stack: contextlib.ExitStack, pids: set[int]) -> list[int]:
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found.append(os.pidfd_open(pid))
            stack.callback(os.close, found[-1])
    return found


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(LONG * 1000))
