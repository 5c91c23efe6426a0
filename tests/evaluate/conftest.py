"""Boxes are warm here, since each test has many. After each file `evaluate`'s evaluators and the zygotes are closed."""

from collections.abc import Iterator

import pytest

from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from proxybox.evaluating import shared


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_kept(_ends_what_it_starts: None, guest_kind: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROXYBOX_WARM", "1")
        yield
    shared.close()
    zygotepool.close()
    reaper.settle()
