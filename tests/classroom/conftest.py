"""Fixtures that files of these tests share."""

from collections.abc import Iterator

import pytest

from tests.classroom.attacking import Target, target


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A classroom for all files of this process whose tests need no more than seats of their own.

    It lasts longer than a file: such a file marks all its tests with usefixtures("room"), so that the fixture which
    looks for processes that a file has left behind sees this one at the file's beginning, too.
    """
    pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")
    with target(tmp_path_factory.mktemp("room"), "--seats", "600") as room:
        yield room
