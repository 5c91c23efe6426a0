"""Batches leave nothing behind: the fixtures of tests/pool/conftest.py check that."""

from tests.pool.conftest import _lasting as _lasting
from tests.pool.conftest import _modules_of_tests as _modules_of_tests
from tests.pool.conftest import _nothing_is_left as _nothing_is_left
