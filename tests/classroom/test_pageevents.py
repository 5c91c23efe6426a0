"""Events of pages have one spelling: Python's declaration, and what JavaScript listens to."""

import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the classroom is made of FastAPI (extra classroom)")

import proxybox.classroom
from proxybox.classroom.pageevents import EVENTS

STATIC = Path(proxybox.classroom.__file__).parent / "static"
#: What an event of a stream is compared with in a page: `event === "run"`, `each.event === "out"`.
COMPARED = re.compile(r"""(?<![.\w])(?:\w+\.)?event (?:===|!==) "([^"]+)\"""")


def test_pages_know_the_events_that_there_are() -> None:
    (seen,) = re.findall(r"new Set\(\[(.*?)\]\)", (STATIC / "lib" / "events.js").read_text(), re.DOTALL)
    assert re.findall(r'"([^"]+)"', seen) == list(EVENTS), (
        "classroom/pageevents.py and classroom/static/lib/events.js differ: bring the list there up to date"
    )


def test_pages_ask_for_no_other_events() -> None:
    files = [file for file in STATIC.rglob("*.js") if "vendor" not in file.parts]
    found = {name: file.name for file in files for name in COMPARED.findall(file.read_text())}
    assert {"run", "out", "resync"} <= found.keys()
    wrong = {name: file for name, file in found.items() if name not in EVENTS}
    assert not wrong, f"{wrong}: no such event is declared in classroom/pageevents.py"


@pytest.mark.parametrize("name", EVENTS)
def test_each_event_says_what_it_is(name: str) -> None:
    kind = EVENTS[name]
    assert name == kind.NAME
    assert kind.__doc__
    assert kind.__doc__ != kind.__mro__[1].__doc__
