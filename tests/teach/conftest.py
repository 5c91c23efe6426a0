"""What grading leaves in a process that is not its own."""

from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker

import pytest


@pytest.fixture(scope="module", autouse=True)
def _helpers_end() -> Iterator[None]:
    """multiprocessing's two helper processes stay for the life of a process; other tests count its children."""
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]
