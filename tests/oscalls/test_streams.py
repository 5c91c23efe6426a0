"""Output sinks, the terminal filter, standard input."""

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxybox.controller.effects import Blocked
from proxybox.controller.output import OutputSink, TerminalFilter, Transcript, neutralise
from proxybox.controller.stdin import Stdin
from proxybox.policies import Output


def test_bytes_are_limited_and_the_guest_is_not_told():
    seen = []
    sink = OutputSink("stdout", Output(limit=1024), callback=seen.append)
    assert sink.write(b"x" * 1000) == 1000
    assert not sink.truncated
    assert sink.write(b"y" * 1000) == 1000
    assert sink.write(b"z" * 1000) == 1000
    assert sink.truncated
    assert sink.getvalue() == b"x" * 1000 + b"y" * 24 == b"".join(seen)
    assert sink.written == 3000


def test_exactly_the_limit_is_not_truncated():
    sink = OutputSink("stdout", Output(limit=1024))
    sink.write(b"x" * 1024)
    assert not sink.truncated
    sink.write(b"")
    assert not sink.truncated


def test_lines_are_limited():
    sink = OutputSink("stdout", Output(lines=3))
    sink.write(b"1\n2")
    sink.write(b"\n3\n")
    assert not sink.truncated
    sink.write(b"4\n")
    assert sink.getvalue() == b"1\n2\n3\n"
    assert sink.truncated


def test_beyond_the_limit_the_box_ends_where_policy_says_so(make_box):
    box = make_box(output={"limit": 1024, "on_excess": "end"})
    box.world.stdout.write(b"x" * 1025)
    assert box.world.ending.status == "output_limit"
    assert box.world.exceeded == {"output"}


def test_the_transcript_keeps_the_order(box):
    out, err = box.world.stdout, box.world.stderr
    err.write(b"1")
    out.write(b"2")
    out.write(b"3")
    err.write(b"4")
    expected = [("stderr", b"1"), ("stdout", b"23"), ("stderr", b"4")]
    assert list(out.transcript.chunks()) == expected
    assert err.getvalue() == b"14"


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=4))))
def test_a_transcript_is_the_list_of_writes(writes):
    transcript = Transcript()
    for stream, data in writes:
        transcript.append(stream, data)
    joined = []
    for stream, data in writes:
        if not data:
            continue
        if joined and joined[-1][0] == stream:
            joined[-1][1] += data
        else:
            joined.append([stream, data])
    assert [list(chunk) for chunk in transcript.chunks()] == joined


def test_failing_callbacks_are_not_the_guests_errors():
    def fail(data):
        raise FileNotFoundError(2, "of the caller's")

    with pytest.raises(RuntimeError):
        OutputSink("stdout", Output(), callback=fail).write(b"x")

    def closed(data):
        raise BrokenPipeError(32, "head has seen enough")

    with pytest.raises(BrokenPipeError):
        OutputSink("stdout", Output(), callback=closed).write(b"x")


@pytest.mark.parametrize(
    "attack",
    [
        b"\x1b[2J",
        b"\x1b]0;title\x07",
        b"\x1bP+q\x1b\\",
        b"\x9b31m",
        b"\xc2\x9b31m",
        "\u202egnp.exe".encode(),
        b"\x08\x08",
        b"\xff\x1b[",
    ],
)
def test_escape_sequences_become_text(attack):
    shown = neutralise(b"a" + attack + b"b").decode()
    assert "\\" in shown
    assert all(char.isprintable() for char in shown)


def test_plain_text_passes():
    text = "tab\there\r\nünïcode 日本 \U0001f600\n".encode()
    assert neutralise(text) == text


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_cuts_make_no_difference_to_the_filter(data, cuts):
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    terminal = TerminalFilter()
    pieces = [terminal.feed(data[a:b]) for a, b in itertools.pairwise(edges)]
    shown = b"".join(pieces) + terminal.feed(b"", final=True)
    assert shown == neutralise(data)
    assert not any(byte < 32 and byte not in b"\t\r\n" for byte in shown)
    shown.decode()


def test_stdin_from_bytes():
    stdin = Stdin(b"hello")
    assert stdin.readable()
    assert stdin.pending() == 5
    assert [stdin.read(3), stdin.read(99), stdin.read(9)] == [b"hel", b"lo", b""]
    assert Stdin().read(10) == b""


def test_stdin_from_a_function():
    lines = iter(["one\n", b"two\n", ""])
    stdin = Stdin(lambda size: next(lines))
    assert stdin.read(2) == b"on"
    assert stdin.read(99) == b"e\n"
    assert stdin.read(99) == b"two\n"
    assert stdin.read(99) == b""
    assert stdin.read(99) == b""


def test_stdin_from_a_descriptor_never_waits():
    reader, writer = os.pipe()
    try:
        stdin = Stdin(reader)
        wait = stdin.read(10)
        assert isinstance(wait, Blocked)
        assert wait.host_fd == reader
        assert wait.attempt() is None
        os.write(writer, b"now")
        assert stdin.readable()
        assert wait.attempt() == b"now"
        os.close(writer)
        writer = -1
        assert stdin.read(10) == b""
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
