"""The events of a job: in their order, with collected text, nothing after the end, and without waiting for readers."""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Pipe
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the service is made of FastAPI (extra server)")

from proxybox.serve.jobevents import JobEvents, Moments
from proxybox.streamevents import InputRequestEvent


def told(line: Any) -> list[dict[str, Any]]:
    """Returns the events that have come until now, with the text of one stream in one piece."""
    events: list[dict[str, Any]] = []
    while line.poll():
        event = json.loads(line.recv_bytes()[1:])
        if events and event["event"] == events[-1]["event"] == "stdout":
            events[-1]["text"] += event["text"]
        else:
            events.append(event)
    return events


@contextlib.contextmanager
def running(moments: Moments) -> Iterator[None]:
    moments.start()
    yield
    moments.close()


def test_events_come_in_their_order_whatever_was_gathered() -> None:
    ours, theirs = Pipe()
    telling = JobEvents(ours, Moments())  # its thread is not started: events are sent only here
    telling.print("stdout", "one\n")
    telling.print("stdout", "two\n")
    telling.print("stderr", "no\n")
    telling.tell(InputRequestEvent())
    telling.print("stdout", "three\n")
    telling.print("stdout", "four\n")
    telling.flush()
    assert told(theirs) == [
        {"event": "stdout", "text": "one\ntwo\n"}, {"event": "stderr", "text": "no\n"}, {"event": "input_request"},
        {"event": "stdout", "text": "three\nfour\n"},
    ]  # fmt: skip


def test_the_first_text_is_told_at_once_and_the_rest_after_a_moment() -> None:
    ours, theirs = Pipe()
    moments = Moments()
    telling = JobEvents(ours, moments)
    telling.print("stdout", "at once")
    assert theirs.poll()
    theirs.recv_bytes()
    telling.print("stdout", "later")
    with running(moments):
        assert theirs.poll(60)
    assert told(theirs) == [{"event": "stdout", "text": "later"}]


def test_much_text_is_not_gathered() -> None:
    ours, theirs = Pipe()
    telling = JobEvents(ours, Moments())
    telling.print("stdout", "x")
    telling.print("stdout", "y" * (1 << 14))
    assert told(theirs) == [{"event": "stdout", "text": "x" + "y" * (1 << 14)}]


def test_an_event_has_a_bounded_length() -> None:
    ours, theirs = Pipe()
    with ThreadPoolExecutor(1) as thread:  # the text does not fit into the socket's buffer
        done = thread.submit(JobEvents(ours, Moments()).print, "stdout", "x" * 600_000)
        pieces = [json.loads(theirs.recv_bytes()[1:])["text"] for _ in range(3)]
        done.result()
    assert "".join(pieces) == "x" * 600_000
    assert max(map(len, pieces)) == 1 << 18


def test_a_service_that_does_not_read_is_not_waited_for_by_others() -> None:
    ours, theirs = Pipe()
    telling = JobEvents(ours, Moments())
    telling.print("stdout", "x")
    while telling.flush_if_read():
        telling.print("stdout", "y" * 1000)
    assert not telling.flush_if_read()
    held = told(theirs)
    assert telling.flush_if_read()
    assert set(held[0]["text"]) == {"x", "y"}
    assert told(theirs) == [{"event": "stdout", "text": "y" * 1000}]


def test_a_line_whose_service_has_ended_holds_up_no_other_one() -> None:
    ours, theirs = Pipe()
    moments = Moments()
    gone, alive = JobEvents(ours, moments), JobEvents(*(pair := Pipe())[:1], moments)
    gone.print("stdout", "x")
    gone.print("stdout", "y")
    theirs.close()
    alive.print("stdout", "x")
    pair[1].recv_bytes()
    alive.print("stdout", "z")
    with running(moments):
        assert pair[1].poll(60)
    assert told(pair[1]) == [{"event": "stdout", "text": "z"}]
