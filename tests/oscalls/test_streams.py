"""Output sinks, the terminal filter, standard input."""

import itertools
import os
import tracemalloc
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxybox.controller.callers import RaisedByCaller
from proxybox.controller.effects import Blocked
from proxybox.controller.world import output
from proxybox.controller.world.output import OutputSink, TerminalFilter, Transcript, neutralise
from proxybox.controller.world.stdin import Stdin
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
    assert list(out.transcript.interleaved()) == expected
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
    assert [list(chunk) for chunk in transcript.interleaved()] == joined


def grown(action):
    """The result of an action, and the peak of memory that it took, in bytes."""
    tracemalloc.start()
    try:
        return action(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_two_streams_by_turns_cost_what_their_bytes_do():
    transcript = Transcript()

    def talk():
        for _ in range(1 << 20):
            transcript.append("stdout", b"a")
            transcript.append("stderr", b"b")
        return transcript.interleaved()

    printed, peak = grown(talk)
    assert (printed.stdout, printed.stderr) == (b"a" * (1 << 20), b"b" * (1 << 20))
    assert peak < 8 << 20


@pytest.mark.parametrize("first", ["stdout", "stderr"])
def test_beyond_so_many_turns_the_rest_is_one_of_each_stream(monkeypatch, first):
    monkeypatch.setattr(output, "MOST_TURNS", 4)
    transcript = Transcript()
    second = "stderr" if first == "stdout" else "stdout"
    for number in range(5):
        transcript.append(first, b"%d" % number)
        transcript.append(second, b"%d" % number)
    before = transcript.interleaved()
    transcript.append(second, b"x")
    kept = 4 if first == "stdout" else 3  # if stderr is first, there is an empty turn of stdout before it
    pieces = list(before)
    assert len(pieces) == kept
    assert pieces[: kept - 2] == [(first, b"0"), (second, b"0")][: kept - 2]
    assert {stream: b"".join(data for name, data in pieces if name == stream) for stream in (first, second)} == {
        first: b"01234",
        second: b"01234",
    }
    assert list(before) == pieces, "what is printed later is not in it"


@pytest.mark.parametrize("hostile", [b"\x1b", b"\xff", "\U000e0001".encode()], ids=["controls", "no text", "tags"])
def test_a_megabyte_that_is_made_visible_costs_no_hundred(hostile):
    text = hostile * ((1 << 20) // len(hostile))
    made, peak = grown(lambda: neutralise(text))
    assert len(made) <= 4 * len(text)
    assert peak < 24 << 20
    assert made == neutralise(hostile) * ((1 << 20) // len(hostile)), "wherever it is taken apart"


def test_failing_callbacks_are_not_the_guests_errors():
    def fail(data):
        raise FileNotFoundError(2, "of the caller's")

    with pytest.raises(RaisedByCaller) as raised:
        OutputSink("stdout", Output(), callback=fail).write(b"x")
    assert isinstance(raised.value.error, FileNotFoundError)

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


def test_no_class_of_characters_that_do_not_show_passes():
    """All of Unicode: format characters, private use, unassigned code points, and letters that are invisible."""
    everything = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    passed = set(neutralise(everything.encode()).decode())
    assert {unicodedata.category(char) for char in passed - set("\t\n\r\u200c\u200d")}.isdisjoint(
        {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    )
    hidden = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180f\u2800\u3164\uffa0\U000e0100\U000e01ef"
    assert not passed & set(hidden)
    assert neutralise("\ue000\u0378".encode()) == b"\\ue000\\u0378"


def test_plain_text_passes():
    text = "tab\there\r\nünïcode 日本 \U0001f600 \u2764\ufe0f e\u0301 \u1112\u1161\u11ab \u0646\u200c\n".encode()
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
