"""The desks of a class, without boxes: which idle ones are ended when together they take too much memory."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")

from proxybox.classroom.boxes import ClassBoxes, SeatRun
from proxybox.classroom.hub import Hub

MANY = 70 << 20


class Sessions:
    """Collects the ids of sessions that are ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def end(self, caller: object, identity: str) -> None:
        self.ended.append(identity)


async def ended(desks: dict[str, tuple[int, float]], running: str = "") -> tuple[list[str], dict[str, Any]]:
    """Returns the sessions that were ended, and those that are left. desks: memory and time of last use of each."""
    sessions = Sessions()
    boxes = ClassBoxes(sessions, Hub(), {}, lambda _: None, lambda *_: asyncio.sleep(0))  # type: ignore[arg-type]
    for seat, (memory, used) in desks.items():
        desk = boxes.desk(seat)
        desk.session, desk.memory, desk.used = seat, memory, used
        desk.run = SeatRun(exercise="01-print", kind="run") if seat == running else None
    boxes._make_room()
    left = {seat: boxes.desk(seat).session for seat in desks}
    for seat in desks:
        boxes.desk(seat).run = None
    await boxes.close()
    return sessions.ended, left


def test_those_that_have_waited_longest_are_ended_until_there_is_room() -> None:
    ends, left = asyncio.run(ended({"new": (MANY, 3.0), "old": (MANY, 1.0), "mid": (MANY, 2.0)}))
    assert ends == ["old"]
    assert left == {"new": "new", "old": None, "mid": "mid"}


def test_a_box_that_works_or_shares_all_its_memory_stays() -> None:
    ends, left = asyncio.run(
        ended(
            {"works": (3 * MANY, 1.0), "small": (0, 2.0), "a": (MANY, 3.0), "b": (MANY, 4.0), "c": (MANY, 5.0)}, "works"
        )
    )
    assert ends == ["a"]
    assert left["works"] == "works"
    assert left["small"] == "small"


def test_nothing_is_ended_while_there_is_room() -> None:
    assert asyncio.run(ended({"a": (MANY, 1.0), "b": (MANY, 2.0)}))[0] == []
