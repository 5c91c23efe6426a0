"""Fixtures that files of these tests share."""

from collections.abc import Iterator

import pytest

from tests.classroom.attacking import Target, target


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A classroom for all tests of a file that need no more than seats of their own."""
    pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")
    with target(tmp_path_factory.mktemp("room"), "--seats", "600") as room:
        yield room
