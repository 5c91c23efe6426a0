"""A host of the tests' own, for programs to be learned."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.learning.hosts import Place, make_place


@pytest.fixture
def place(tmp_path: Path, open_the_way: Callable[[Path], None]) -> Place:
    """A host: its home with secrets, its data, and a folder for programs."""
    open_the_way(tmp_path)
    return make_place(tmp_path)
