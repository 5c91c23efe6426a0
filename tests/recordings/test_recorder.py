"""Which thread does which work of the recorder, and that its events stay in order."""

import io
import threading
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.controller.record import recorder
from proxybox.controller.record.decoding import Decoder
from proxybox.controller.record.events import CallEvent
from proxybox.controller.record.format import FrameKind, frames
from proxybox.controller.record.recorder import Recorder
from proxybox.controller.wire.protocol import encode_request


def test_files_of_the_library_are_hashed_in_the_recorders_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a large file would block all boxes of an engine."""
    by = set()

    def digest_of(node: Any) -> bytes:
        by.add(threading.current_thread().name)
        return usual(node)

    usual = recorder.digest_of
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "digest_of", digest_of)
        result = proxybox.run("import json, sqlite3; print(json)", record=tmp_path / "a.pbx", check=True)
    assert (by, result.record_fault) == ({"proxybox-recorder"}, "")
    assert proxybox.replay(tmp_path / "a.pbx").ok


class Meanwhile:
    """A lock; an action runs while the recorder's thread waits for the lock the first time."""

    def __init__(self, action: Any) -> None:
        self.done = threading.Event()
        self._lock, self._action = threading.Lock(), action

    def __enter__(self) -> None:
        if threading.current_thread().name == "proxybox-recorder" and not self.done.is_set():
            other = threading.Thread(target=self._action)
            other.start()
            other.join()
            self.done.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_events_that_come_while_the_recorders_thread_looks_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_FRAME_BYTES", 1)
    file = io.BytesIO()
    made = Recorder(file, 1 << 20)

    def calls() -> None:
        made.note(None, 0, 0, encode_request(1), 0)
        made.encode()
        made.note(None, 0, 0, encode_request(2), 0)  # this event waits for the recorder's thread

    made._encoding = between = Meanwhile(calls)  # type: ignore[assignment]
    made.begin({})
    assert between.done.wait(60)
    made.close({}, ())
    read = Decoder()
    data = [frame.data for frame in frames(io.BytesIO(file.getvalue())) if frame.kind == FrameKind.EVENTS]
    found = [event.frame[4] for each in data for event in read.events(each) if isinstance(event, CallEvent)]
    assert found == [1, 2]
