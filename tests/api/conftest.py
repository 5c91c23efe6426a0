"""A session of the file's own `box`, and what its cells show."""

from collections.abc import Iterator

import pytest

import proxybox
from proxybox import Displayed


@pytest.fixture
def session(box: proxybox.Sandbox) -> Iterator[proxybox.Session]:
    with box.session() as session:
        yield session


def shown(session: proxybox.Session, code: str) -> list[Displayed]:
    """What is shown of a cell."""
    events: list[Displayed] = []
    session.exec(code, echo=True, on_display=events.append, check=True)
    return events


def texts(session: proxybox.Session, code: str) -> list[str]:
    """The same, as plain text."""
    return [event.data["text/plain"] for event in shown(session, code)]
