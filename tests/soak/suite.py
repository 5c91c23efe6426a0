"""A pytest plugin with which each run of a real guest in the tests' own process leaves a record.

    python -m pytest -p tests.soak.suite --record-runs FOLDER tests/guests

Beside each record a JSON file has the replay's options, and the expected result. The outcome of the tests says nothing
about records. Runs of sandboxes that ask for warm guests are not recorded. A recorded session is not copied, and
recorded runs of a pool are no copies, so tests of that fail here.
"""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest

import proxybox
from proxybox import sandbox
from proxybox.aio import sandbox as aio_sandbox
from proxybox.controller.boxes.box import BoxRunner
from proxybox.pool import boxes, pool
from proxybox.pool.workers import PoolWorkers
from proxybox.records.taking import SUFFIX, Taking

#: The limit of a record in bytes; a run that exceeds it is ended.
_LIMIT = 256 << 20


def told(result: proxybox.Result) -> Any:
    """Returns the content of a Result as it is after JSON."""
    data = {key: value for key, value in result.to_dict().items() if not key.startswith("record")}
    return json.loads(json.dumps({"result": data, "output": result.output}))


@attrs.define
class OfATest(Taking):
    """The record of a run for which the test has requested none."""

    note: dict[str, Any] = attrs.field(factory=dict)

    def box(self, *args: Any, **fields: Any) -> Any:
        policy, guest = args
        if guest.marshals:  # a translated PyPy cannot be recorded
            return BoxRunner(policy, guest, **fields)
        options = {"guest": guest.executable, "packages": list(guest.packages)}
        self.note |= {"options": options, "is_session": self.is_session}
        return super().box(*args, **fields)

    def ended(self, result: proxybox.Result) -> None:
        """Stores the result in the note."""
        self.note["expected"] = told(result)
        self.write()

    def write(self) -> None:
        """Writes the note into a file beside the record."""
        if self.path:
            Path(self.path).with_suffix(".json").write_text(json.dumps(self.note))

    def file(self) -> Any:
        made = super().file()
        self.write()
        return made


def record_runs(folder: Path) -> None:
    """Makes all sandboxes of this process record their runs."""
    numbers, worker = itertools.count(), os.environ.get("PYTEST_XDIST_WORKER", "gw")
    made, made_pool, usual_result = sandbox.SandboxBase.__init__, pool.Pool.__init__, sandbox.with_record

    def taken() -> OfATest:
        path = folder / f"{worker}-{next(numbers):05}{SUFFIX}"
        return OfATest(str(path), _LIMIT, note={"test": os.environ.get("PYTEST_CURRENT_TEST", "")})

    def make(self: Any, *args: Any, **fields: Any) -> None:
        made(self, *args, **fields)
        if not self._warm:
            usual = self._taking
            self._taking = lambda path: usual(path) or taken()

    def make_pool(self: Any, *args: Any, **fields: Any) -> None:
        made_pool(self, *args, **fields)
        if not isinstance(self._boxes, PoolWorkers):
            usual = self._taken
            self._taken = lambda path: usual(path) or taken()

    def with_record(result: proxybox.Result, box: Any, taking: Any) -> proxybox.Result:
        if not isinstance(taking, OfATest):
            return usual_result(result, box, taking)
        taking.note["fault"] = getattr(box, "fault", None)
        taking.ended(result)
        return result

    sandbox.SandboxBase.__init__ = make  # type: ignore[method-assign]
    pool.Pool.__init__ = make_pool  # type: ignore[method-assign]
    for user in (sandbox, boxes, aio_sandbox):
        user.with_record = with_record  # type: ignore[attr-defined]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-runs", type=Path, metavar="FOLDER", help="where each run of a guest leaves a record")


def pytest_configure(config: pytest.Config) -> None:
    if (folder := config.getoption("--record-runs")) is not None:
        record_runs(folder.absolute())
