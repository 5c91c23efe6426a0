"""Any bytes through the pipes give an answer or GuestMisbehaved, never another exception, in bounded memory.

This is true for drivers and decoders, with an audit and interceptors as well as without.
"""

import errno
import resource
import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.dispatch import TABLE, compile_invoke
from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.header import Fetch
from proxybox.controller.roles import Memory
from proxybox.controller.wire.protocol import MAX_FRAME, RequestReader, encode_request, frame_size
from tests import sweeps

#: Calls by which the guest ends, and calls that only wait.
ENDS = {60, 231}
SLEEPS = {35, 230, 34, 7, 271, 23, 270, 232, 281, 441, 202, 128, 130, 37, 38, 61, 247, 72, 73}
FIRST = encode_request(39)
EDGES = [0, 1, 2, 3, 4, 5, 7, 8, 64, 100, 255, 4095, 4096, 1 << 16, 1 << 20, (1 << 20) + 1, 1 << 31, (1 << 31) - 1, 1 << 32,
         (1 << 32) - 1, 1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 100, (1 << 64) - 1]  # fmt: skip
registers = st.lists(st.sampled_from(EDGES) | st.integers(0, (1 << 64) - 1), max_size=6).map(tuple)
markers = st.sampled_from([0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC, 1 << 31, 0])
texts = st.sampled_from(
    [
        b"/tmp/x",
        b"/",
        b"",
        b"..",
        b"/proc/self/fd/1",
        b"/dev/zero",
        b"/box/main.py",
        b"/tmp/" + b"y" * 4090,
        b"\xff/\xfe",
    ]
)
memory = st.lists(
    texts | st.binary(max_size=300) | markers | st.sampled_from([bytes(8), bytes(16), bytes(60), bytes(1 << 16)]),
    max_size=4,
).map(tuple)
known = st.sampled_from(sorted(set(TABLE) - ENDS - SLEEPS))
calls = st.builds(
    encode_request, known | st.integers(0, (1 << 32) - 1).filter(lambda n: n not in ENDS | SLEEPS), registers, memory
)
LASTING = settings(
    max_examples=sweeps.tries(50, 150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def fitting(draw, row):
    """Generates a request of the shape that the stub gives it, with any values."""
    values = [draw(st.sampled_from(EDGES) | st.integers(0, 64)) for _ in range(6)]
    names = [name for name, _ in row.parameters]
    pieces = []
    for name, role in row.parameters:
        if not isinstance(role, Memory):
            continue
        if role.fetch is Fetch.STRING:
            pieces.append(draw(texts.filter(lambda text: len(text) < 4096) | markers))
        elif role.length:
            at = names.index(role.length)
            values[at] = draw(st.integers(0, 40))
            size = (
                (values[at] + 63) // 64 * 8
                if role.fetch is Fetch.BITS
                else values[at] * (1 if role.fetch is Fetch.GATHER else role.size)
            )
            pieces.append(draw(st.binary(min_size=size, max_size=size)))
        else:
            pieces.append(draw(st.just(0xFFFFFFFF) | st.binary(min_size=role.size, max_size=role.size)))
    return encode_request(row.number, tuple(values), tuple(pieces))


@st.composite
def fitting_calls(draw):
    return fitting(draw, TABLE[draw(known)])


def pieces_of(data, cuts):
    """Returns `data` cut at the places in `cuts`, modulo its length."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.fixture(params=["plain", "audited", "intercepted"])
def watching(request):
    return {
        "plain": {},
        "audited": {"audit": lambda call: str(call)},
        "intercepted": {"interceptors": [lambda call: str(call) and None]},
    }[request.param]


def check(outcome):
    assert outcome.status in (None, "misbehaved", "denied", "call_limit", "crashed", "output_limit", "disk_limit"), (
        outcome
    )


@LASTING
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 5000), max_size=8))
def test_any_bytes(converse, data, cuts):
    outcome, _ = converse(FIRST, pieces_of(data, cuts))
    check(outcome)
    if data:
        size = int.from_bytes(data[:4], "little") if len(data) >= 4 else 0
        assert outcome.status == "misbehaved" or size == len(data) or 56 <= size < len(data)


@LASTING
@given(frames=st.lists(calls | fitting_calls(), max_size=8), cuts=st.lists(st.integers(0, 1 << 17), max_size=8))
def test_frames_of_any_content(converse, watching, frames, cuts):
    for frame in frames:
        check(converse(FIRST, pieces_of(frame, cuts))[0])


@LASTING
@given(frames=st.lists(fitting_calls(), min_size=1, max_size=30))
def test_conversations(converse, watching, frames):
    """Well-formed calls with any values in a row: each call meets the state that the others have left."""
    outcomes = [converse(frames[0], [])[0]]
    outcomes.append(talk(converse, frames, watching))
    for outcome in outcomes:
        check(outcome)


def talk(converse, frames, watching):
    """Executes all frames in one world, in place of the first call: each comes after the answer to the last."""
    from proxybox.controller.dispatch import Dispatcher

    kept = []
    original = Dispatcher.execute

    def execute(self, thread, frame):
        for each in frames:
            reply = original(self, thread, each)
            kept.append(reply)
            if self._world.ending is not None:
                return reply
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "execute", execute)
        return converse(FIRST, [], **watching)[0]


@LASTING
@given(
    frame=fitting_calls(),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=6),
    cut=st.integers(0, 1 << 20),
    tail=st.binary(max_size=20),
)
def test_frames_with_flipped_bytes(converse, frame, flips, cut, tail):
    data = bytearray(frame)
    for at, mask in flips:
        data[at % len(data)] ^= mask
    number = int.from_bytes(data[4:8], "little")
    if number in ENDS | SLEEPS:
        data[4] = 39
    whole = bytes(data) if cut % 3 else bytes(data[: cut % len(data)])
    check(converse(FIRST, [whole + tail])[0])


@LASTING
@given(number=st.sampled_from(sorted(TABLE)), data=st.binary(max_size=400), values=registers, pieces=memory)
@example(number=1, data=b"", values=(1, 0, 1 << 63), pieces=(b"",))
def test_decoders(number, data, values, pieces):
    """Each row's decoder, on frames of its number with any tail, returns values, GuestMisbehaved, or an errno."""
    row = TABLE[number]
    taken = []
    decode = compile_invoke(lambda world, *arguments: taken.append(arguments) or 0, row.parameters)
    for frame in (encode_request(number, values, pieces), encode_request(number, values) + data):
        try:
            decode(None, None, frame)
        except GuestMisbehaved:
            continue
        except OSError as error:
            assert error.errno in (errno.EFAULT, errno.ENAMETOOLONG)
            continue
        for (_, role), value in zip(row.parameters, taken[-1], strict=True):
            given = value[1] if isinstance(value, tuple) else value
            assert given is None or isinstance(given, bytes if isinstance(role, Memory) else int)


@LASTING
@given(data=st.binary(max_size=3000), cuts=st.lists(st.integers(0, 3000), max_size=20))
def test_the_reader_gives_whole_frames(data, cuts):
    """For any cut of the bytes: the same frames, or the same breach, and never more stored than one frame may have."""

    def read(pieces):
        reader, frames = RequestReader(), []
        try:
            for piece in pieces:
                frame = reader.receive(piece)
                if frame is not None:
                    frames.append(frame)
                assert reader.missing <= MAX_FRAME
            reader.end()
        except GuestMisbehaved:
            return frames, False
        return frames, True

    frames, good = read(pieces_of(data, cuts))
    for frame in frames:
        assert frame_size(frame) == len(frame)
    assert b"".join(frames) == data[: sum(map(len, frames))]
    if good:
        assert b"".join(frames) == data


@pytest.mark.parametrize("piece", [1, 3, 4, 5, 1000, 65536])
def test_the_largest_frame_in_pieces(piece):
    """It is assembled in time that grows only with its size."""
    frame = struct.pack("<II", MAX_FRAME, 1) + bytes(MAX_FRAME - 8)
    reader = RequestReader()
    got = [found for at in range(0, len(frame), piece) if (found := reader.receive(frame[at : at + piece])) is not None]
    assert got == [frame]


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_small_pieces_take_no_more_memory(piece):
    """For a frame that comes byte by byte the controller stores the frame, not an object for each byte."""
    frame = struct.pack("<II", MAX_FRAME, 1) + bytes(MAX_FRAME - 8)
    reader = RequestReader()
    tracemalloc.start()
    try:
        for at in range(0, len(frame), piece):
            reader.receive(frame[at : at + piece])
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_FRAME
    finally:
        tracemalloc.stop()


def test_memory_stays_bounded(converse):
    """Hundreds of the largest frames, halves of them, and false sizes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    payload = bytes((1 << 20) - 1000)
    for _ in range(20):
        converse(FIRST, [encode_request(1, (1, 0, len(payload)), (payload,))])
        converse(FIRST, [encode_request(1, (1, 0, len(payload)), (payload,))[:-1]])
        converse(FIRST, [struct.pack("<I", MAX_FRAME), bytes(1 << 20)])
        converse(FIRST, [struct.pack("<I", 0xFFFFFFFF), bytes(1 << 20)])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
