"""A session of the test file's `box`, and the data that its cells display."""

from collections.abc import Iterator

import pytest

import proxybox
from proxybox import Displayed


@pytest.fixture
def session(box: proxybox.Sandbox) -> Iterator[proxybox.Session]:
    with box.session() as session:
        yield session


def shown(session: proxybox.Session, code: str) -> list[Displayed]:
    """Runs code, and returns all that it displayed."""
    events: list[Displayed] = []
    session.exec(code, echo=True, on_display=events.append, check=True)
    return events


def texts(session: proxybox.Session, code: str) -> list[str]:
    """Runs code, and returns the plain text of all that it displayed."""
    return [event.data["text/plain"] for event in shown(session, code)]
