"""What a model reads of a result, computed from the result and the policy alone."""

import base64
from typing import Any

import anyio
import mcp
import pytest

from proxybox.policies import Policy
from proxybox.result import Result, Status
from proxybox.serve.mcp.answers import Displays, answer_of
from proxybox.serve.mcp.boxes import McpClient
from proxybox.serve.mcp.server import Tools
from proxybox.serve.results import result_as_json
from proxybox.streamevents import DisplayEvent

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
POLICY = Policy()


def shown(*events: dict[str, Any]) -> Displays:
    displays = Displays()
    for event in events:
        displays.take(DisplayEvent(**{"kind": "display", "data": {}, "metadata": {}, "wait": False, **event}))
    return displays


def text(text: str, **more: Any) -> dict[str, Any]:
    return {"data": {"text/plain": text}, **more}


def test_updates_replace_and_clearing_removes() -> None:
    one, two = ({"metadata": {"display_id": name}} for name in "ab")
    assert shown(text("1", **one), text("2", **two), text("3", kind="update", **one)).texts(values=False) == "3\n2"
    assert shown(text("1"), text("2", kind="update")).texts(values=False) == "1"
    assert shown(text("1"), {"kind": "clear"}).texts(values=False) == ""
    waiting = shown(text("1"), {"kind": "clear", "wait": True})
    assert waiting.texts(values=False) == "1"
    waiting.take(DisplayEvent(kind="display", metadata={}, wait=False, **text("2")))
    assert waiting.texts(values=False) == "2"


def test_values_and_what_is_not_shown() -> None:
    displays = shown(
        text("4", kind="value"), {"data": {"text/html": "<b>"}}, {"data": {"image/png": PNG, "text/plain": "p"}}
    )
    assert (displays.texts(values=True), displays.texts(values=False)) == ("4", "")
    assert displays.untold() == ("text/html",)
    assert displays.pictures() == [("image/png", PNG)]


def test_what_is_shown_is_bounded() -> None:
    displays = Displays()
    for _ in range(40):
        displays.take(DisplayEvent(kind="display", metadata={}, wait=False, **text("x" * (1 << 20))))
    assert displays.missed == 24
    answer = answer_of(result_as_json(Result(status=Status.OK)), POLICY, None, shown=displays)
    assert answer.structured_content["notes"] == ["24 more of what was shown is left out: show less"]
    assert len(answer.content[1].text) < 21_000
    for _ in range(5_000):
        displays.take(DisplayEvent(kind="display", metadata={}, wait=False, **text("")))
    assert len(displays.texts(values=False)) < 17 << 20


def test_a_large_picture_is_left_out() -> None:
    large = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * (6 << 20)).decode()
    result = result_as_json(Result(status=Status.OK))
    answer = answer_of(result, POLICY, None, shown=shown({"data": {"image/png": large}}, {"data": {"image/png": PNG}}))
    assert [block.type for block in answer.content] == ["text", "image"]
    assert "1 more of the pictures" in answer.structured_content["notes"][0]


class Failing:
    """Boxes that fail because of a fault in proxybox."""

    policy = POLICY

    async def run(self, *_: object) -> dict[str, Any]:
        raise RuntimeError("/srv/secret")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_fault_of_our_own_is_not_quoted(mode: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = Tools(lambda _: McpClient(boxes=Failing(), connection="1")).server  # type: ignore[arg-type]

    async def call() -> None:
        async with mcp.Client(server, mode=mode) as client:
            with pytest.raises(mcp.MCPError, match=r"\Aa fault of the server\Z"):
                await client.call_tool("run_python", {"code": "1"})

    anyio.run(call)
    assert "/srv/secret" in caplog.text
