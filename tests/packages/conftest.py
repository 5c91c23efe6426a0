"""A cache of packages for each test, and no proxy between tests and their indexes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxybox.packages import cache


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package cache for the test, which other users can read."""
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):  # the tests' indexes are on this machine
        monkeypatch.delenv(name, raising=False)
    yield folder
    cache.prune()
