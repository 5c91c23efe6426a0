"""Firefox, driven by WebDriver BiDi (https://w3c.github.io/webdriver-bidi/).

It needs no driver and no special build.
"""

import contextlib
import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

#: Keys that type no character (https://w3c.github.io/webdriver/#keyboard-actions).
CONTROL, DELETE, ENTER, TAB = "\ue009", "\ue017", "\ue007", "\ue004"
#: The limit in seconds for an answer, and for a condition on a page.
PATIENCE = 60


class Firefox:
    """One window."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self("session.new", capabilities={})
        self._window = self("browsingContext.getTree")["contexts"][0]["context"]

    def __call__(self, method: str, **params: Any) -> Any:
        """Sends a command, and returns its result. Raises RuntimeError when the command fails."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while (seen := json.loads(self._connection.recv(PATIENCE))).get("id") != number:
            pass
        if seen["type"] == "error":
            raise RuntimeError(f"{method}: {seen['error']}: {seen['message']}")
        return seen["result"]

    def go(self, url: str) -> None:
        """Loads a page."""
        self("browsingContext.navigate", context=self._window, url=url, wait="complete")

    def value(self, expression: str) -> Any:
        """Returns the value of an expression in the page; a promise is awaited."""
        target = {"context": self._window}
        seen = self("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert seen["type"] == "success", seen
        return seen["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Waits until a condition holds: the page checks it before each frame."""
        self.value(
            f"""new Promise((done, failed) => {{
                const end = setTimeout(() => failed(new Error("in vain")), {PATIENCE // 2 * 1000});
                const look = () => ({condition}) ? (clearTimeout(end), done(true)) : requestAnimationFrame(look);
                look();
            }})"""
        )

    def press(self, *keys: str | tuple[str, ...]) -> None:
        """Types texts; keys that belong together, such as (CONTROL, "a"), are a tuple."""
        actions = []
        for each in keys:
            if isinstance(each, tuple):
                actions += [{"type": "keyDown", "value": key} for key in each]
                actions += [{"type": "keyUp", "value": key} for key in reversed(each)]
            else:
                actions += [{"type": kind, "value": sign} for sign in each for kind in ("keyDown", "keyUp")]
        self("input.performActions", context=self._window, actions=[{"type": "key", "id": "keys", "actions": actions}])


@contextlib.contextmanager
def firefox(path: str, profile: Path) -> Iterator[Firefox]:
    """A Firefox with an empty profile, without a display."""
    command = (path, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0")
    with subprocess.Popen(
        (*command, "about:blank"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "HOME": str(profile)},
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            said = (re.search(r"WebDriver BiDi listening on (ws://\S+)", line) for line in process.stderr)
            address = next((found[1] for found in said if found), None)
            assert address is not None, "it has ended without a word of BiDi"
            with connect(f"{address}/session", max_size=None) as connection:
                yield Firefox(connection)
        finally:
            process.terminate()
            process.communicate()
