"""Whatever arguments a guest passes, a handler returns, waits, or raises OSError."""

import errno
from typing import get_args, get_origin

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxybox.controller import abi
from proxybox.controller.dispatch import TABLE, takes_thread
from proxybox.controller.effects import AnotherTurn, Blocked
from proxybox.controller.header import Fetch
from proxybox.controller.oscalls import descriptors, paths, pipes, polling, sockets
from proxybox.controller.roles import Scalar
from tests import sweeps

EDGES = {
    "i4x": (-(1 << 31), (1 << 31) - 1),
    "I4x": (0, (1 << 32) - 1),
    "q": (-(1 << 63), (1 << 63) - 1),
    "Q": (0, (1 << 64) - 1),
}
NAMES = [b"/", b"data", b"hello", b"sub", b"deep", b"..", b".", b"tmp", b"new", b"\xff", b""]


def scalars(code):
    low, high = EDGES[code]
    near = st.sampled_from([low, low + 1, -100, -1, 0, 1, 2, 3, 7, 4095, 4096, high - 1, high])
    bits = st.integers(0, 63).map(lambda bit: 1 << bit)
    small = st.integers(0, 12)  # an open descriptor, or a plausible flag
    wide = st.one_of(small, small, small, near, bits, st.integers(low, high))
    return wide.map(lambda number: min(max(number, low), high))


PATHS = st.one_of(
    st.lists(st.sampled_from(NAMES), max_size=5).map(b"/".join),
    st.lists(st.sampled_from(NAMES), max_size=5).map(lambda parts: b"/" + b"/".join(parts)),
    st.binary(max_size=40).map(lambda data: data.replace(b"\0", b"?")),
    st.just(b"x" * 4000),
)


def memory(role, draw, values):
    if role.fetch is Fetch.STRING:
        return draw(st.none() | PATHS if role.optional else PATHS)
    if role.fetch in (Fetch.STRUCT, Fetch.SOFT):
        words = st.lists(scalars("q"), min_size=6, max_size=6).map(
            lambda each: b"".join(word.to_bytes(8, "little", signed=True) for word in each)
        )
        data = st.binary(min_size=role.size, max_size=role.size) | words.map(lambda long: (long * 4)[: role.size])
        return draw(st.none() | data)
    if role.fetch is Fetch.GATHER:
        return draw(st.binary(max_size=100))
    if role.fetch is Fetch.BITS:
        size = (min(max(values[role.length], 0), 1024) + 63) // 64 * 8
        return draw(st.none() | st.binary(min_size=size, max_size=size))
    size = min(max(values[role.length], 0) * role.size, 1 << 20)
    return (draw(st.binary(max_size=64)) * (size // 64 + 64)).ljust(size, b"\0")[:size]


@st.composite
def requests(draw):
    row = TABLE[draw(st.sampled_from(sorted(TABLE)))]
    values = {name: draw(scalars(role.code)) for name, role in row.parameters if isinstance(role, Scalar)}
    arguments = []
    for name, role in row.parameters:
        if isinstance(role, Scalar):
            arguments.append(values[name])
            continue
        data = memory(role, draw, values)
        kind = get_args(row.handler.__annotations__[name])[0]
        is_pair = get_origin(kind) is tuple
        arguments.append((draw(scalars("Q")), data) if is_pair else data)
    return row, arguments


def is_reply(reply):
    if isinstance(reply, Blocked):
        return True
    if isinstance(reply, int):
        return -4096 < reply < 1 << 64
    number, *writes = reply
    return isinstance(number, int) and all(isinstance(address, int) and type(data) is bytes for address, data in writes)


def furnish(box):
    """Opens descriptors of every kind."""
    box.call(paths.open_, b"/data/hello", abi.O_RDWR, 0)
    box.call(paths.open_, b"/data", abi.O_DIRECTORY, 0)
    box.call(pipes.pipe2, 8, 0)
    box.call(sockets.socketpair, 1, 1, 0, 8)
    box.call(pipes.eventfd2, 0, 0)
    box.call(polling.epoll_create1, 0)
    box.call(paths.open_, b"/data/hello", abi.O_PATH, 0)


def step(box, reply):
    """Does what a driver may do with a wait: repeat or end it."""
    assert is_reply(reply)
    if isinstance(reply, Blocked):
        for action in (reply.attempt, reply.on_timeout, reply.on_interrupt):
            if action is not None:
                try:
                    result = action()
                except OSError:
                    continue
                assert result is None or is_reply(result)


@settings(max_examples=sweeps.tries(250, 750), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(requests(), min_size=1, max_size=8))
def test_any_arguments_at_all(make_box, calls):
    box = make_box()
    furnish(box)
    failures = []
    for row, arguments in calls:
        try:
            caller = (box.world.threads[0],) if takes_thread(row.handler) else ()
            reply = row.handler(box.world, *caller, *arguments)
        except AnotherTurn:  # the call is repeated after others
            continue
        except OSError as error:
            failures.append((row.name, error))
            continue
        step(box, reply)
        if not box.world.threads:
            box.world.thread = box.world.allocate_thread()
    for name, error in failures:
        assert error.errno in errno.errorcode, name
        assert error.strerror, name


def test_no_handler_stores_at_null(box):
    """The calls with optional outputs, without any of these."""
    fd = box.value(paths.open_, b"/data/hello", 0, 0)
    assert box.value(descriptors.close, fd) == 0
    for number, arguments in {
        96: (0, 0),
        100: (0,),
        201: (0,),
        229: (0, 0),
        302: (0, 7, None, 0),
        13: (10, None, 0, 8),
        14: (0, None, 0, 8),
        131: (None, 0),
        38: (0, None, 0),
        309: (0, 0),
    }.items():
        reply = box.call(TABLE[number].handler, *arguments)
        writes = reply[1:] if isinstance(reply, tuple) else ()
        assert all(address for address, _ in writes), TABLE[number].name
