"""Records that earlier versions have written (golden/make.py) are read, verified, explained and replayed."""

import json
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import RecordError, cli
from proxybox.controller import find_guest
from proxybox.controller.guests.builds import builds_of
from proxybox.controller.record.format import HEAD, MAJOR
from proxybox.records.signing import public_key_id, signatures_of
from tests.soak.suite import told

GOLDEN = sorted(Path(__file__).with_name("golden").glob("*.pbx"))

pytestmark = pytest.mark.parametrize("record", GOLDEN, ids=[path.stem for path in GOLDEN])


def expected(record: Path) -> Any:
    """Returns the Result of the recorded run as it was then. A newer version may have more fields."""
    return json.loads(record.with_suffix(".json").read_text())


def assert_as_then(result: proxybox.Result, record: Path) -> None:
    then, now = expected(record), told(result)
    then["result"].pop("hint")  # not recorded: it is computed again
    assert now["output"] == then["output"]
    assert {name: now["result"].get(name) for name in then["result"]} == then["result"]


def test_it_is_of_todays_major_version(record: Path) -> None:
    _, major, minor = HEAD.unpack(record.read_bytes()[: HEAD.size])
    assert (major, f"{major}.{minor}") == (MAJOR, record.stem)
    assert record.stat().st_size < 50_000


def test_it_is_read(record: Path) -> None:
    with proxybox.Record(record) as read:
        calls = list(read.calls())
        assert (read.guest, read.argv[-2:]) == ("pypy3.11", ("/box/main.py", "--fast"))
        assert read.result is not None
        assert_as_then(read.result, record)
        assert len(calls) == 270
        assert [each.signal for each in read.signals] == [14, 14]
        (refused,) = (each for each in calls if each.refusals)
        assert (refused.name, refused.errno, refused.refusals[0].reason) == ("socket", "EPERM", "network: none")
        assert (refused.asked["domain"], sum(len(each.clocks) for each in calls) > 100) == (2, True)
        assert b"".join(data for each in calls for stream, data in each.printed if stream) == b"typed\n"


def test_its_signature_is_valid(record: Path) -> None:
    pytest.importorskip("cryptography")
    (signature,) = signatures_of(record)
    assert (signature.is_valid, signature.key_id) == (True, public_key_id(record.with_suffix(".pub")))


def test_it_is_explained_and_compared(record: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", str(record)]) == 0
    out = capfd.readouterr().out
    assert "pypy3.11: /usr/bin/pypy3.11 /box/main.py --fast" in out
    assert "/box/kept.txt" in out
    assert "signals that came: SIGALRM (2)" in out
    assert cli.main(["diff", str(record), str(record)]) == 0


def test_it_is_replayed_by_the_same_build(record: Path) -> None:
    guest = find_guest("pypy")
    with proxybox.Record(record) as read:
        if read.reader.start["guest"]["builds"] != builds_of(guest):
            pytest.skip("the golden record was made by another build of PyPy, or of the C library")
    try:
        done = proxybox.replay(record, guest=guest.executable)
    except RecordError as error:
        if "interpreter" not in str(error):
            raise
        pytest.skip(f"the library of this build has other files than the golden record has read: {error}")
    assert done.ok, done.divergence
    assert_as_then(done.result, record)
