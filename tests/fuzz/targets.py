"""The fuzz targets: functions of bytes that return, or raise for a finding.

They check this promise: whatever a guest sends is an event or GuestMisbehaved (or the end of its box by policy), never
another exception, never more memory than the limit, and nothing of the host that its policy did not give.
"""

import atexit
import contextlib
import errno
import functools
import gc
import os
import resource
import time
from collections.abc import Callable

from scene import Scene, Stage
from script import Script

from proxybox.controller.dispatch import TABLE
from proxybox.controller.effects import Blocked
from proxybox.controller.errors import EndBox, GuestMisbehaved
from proxybox.controller.guests.translated.channel import TranslatedChannel
from proxybox.controller.guests.translated.libc import FUNCTIONS, REFUSED, SAME, Libc
from proxybox.controller.header import REQUEST
from proxybox.controller.roles import Memory
from proxybox.controller.wire.protocol import MAX_FRAME, RequestReader, encode_request, frame_size

#: The memory that one execution may add to this process at its peak: a few payloads, the box's budget, its changes.
MEMORY = 48 << 20
#: Seconds of CPU time for one execution; the slowest honest one takes a tenth of that.
LONGEST = 5.0

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}


def target(function: Target) -> Target:
    """Registers a target, and checks that it keeps within memory and time."""

    @functools.wraps(function)
    def bounded(data: bytes) -> None:
        before, reached, started = _resident(), _peak(), time.process_time()
        function(data)
        spent = time.process_time() - started
        assert spent < LONGEST, f"it took {spent:.1f} s of CPU"
        peak = _peak()
        # A peak is not visible while it is below an earlier peak of this process.
        assert peak == reached or peak - before < MEMORY, f"{(peak - before) >> 20} MiB at its peak"

    TARGETS[function.__name__] = bounded
    return bounded


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@functools.cache
def _stage() -> Stage:
    stage = Stage()
    atexit.register(stage.close)
    Scene(stage, Script(b"")).close()  # the system's libraries are opened once, and stay open
    return stage


# --- the wire ---------------------------------------------------------------------------------------------------------


@target
def framing(data: bytes) -> None:
    """The reader of requests, with frames, false sizes and any bytes, cut anywhere."""
    script = Script(data)
    cut = script.byte()
    reader, said, heard = RequestReader(), bytearray(), bytearray()
    try:
        while not script.ended and len(said) < 2 * MAX_FRAME:
            piece = _utterance(script)
            said += piece
            step = len(piece) if not cut else max(1, len(piece) * (cut % 16 + 1) // 16, cut // 16)
            for at in range(0, len(piece), step or 1):
                frame = reader.receive(piece[at : at + step])
                assert reader.missing <= MAX_FRAME
                if frame is not None:
                    assert frame_size(frame) == len(frame)
                    assert reader.missing == 0
                    heard += frame
        reader.end()
        assert heard == said
    except GuestMisbehaved:
        pass
    assert said.startswith(heard)


def _utterance(script: Script) -> bytes:
    kind = script.byte() % 5
    if kind == 0:
        return script.take(script.byte())
    if kind == 1:
        return encode_request(script.number(2), (), (script.filled(min(script.register(), MAX_FRAME)),))
    if kind == 2:  # a false size
        return script.register().to_bytes(8, "little")[:4] + script.filled(min(script.register(), 1 << 17))
    if kind == 3:
        return encode_request(script.number(2), *script.anything())
    size = min(max(script.register(), REQUEST.size), MAX_FRAME + 1)
    return size.to_bytes(4, "little") + bytes(size - 4)


# --- decoders ---------------------------------------------------------------------------------------------------------


@target
def decoders(data: bytes) -> None:
    """Each row's decoder on frames of its shape, of another's, and with bytes changed."""
    script = Script(data)
    row = script.call()
    kind = script.byte()
    registers, memory = script.anything() if kind % 4 == 0 else script.arguments(row)
    frame = bytearray(encode_request(row.number, registers, memory))
    if kind & 4:
        frame[REQUEST.size :] = script.take(script.byte())
    for _ in range(kind >> 3 & 3):
        frame[8 + script.number(2) % (len(frame) - 8)] ^= script.byte()
    if kind & 0x20:
        del frame[REQUEST.size + script.number(2) % (len(frame) + 1 - REQUEST.size) :]
    try:
        arguments = row.arguments(bytes(frame))
    except GuestMisbehaved:
        return
    except OSError as error:
        assert error.errno in (errno.EFAULT, errno.ENAMETOOLONG)
        return
    for name, role in row.parameters:
        value = arguments[name]
        if isinstance(role, Memory) and isinstance(value, bytes):
            assert len(value) <= MAX_FRAME
        else:
            assert value is None or (isinstance(value, int) and -(1 << 63) <= value < 1 << 64)


# --- calls ------------------------------------------------------------------------------------------------------------

MOMENTS = (0, 1_000, 1_000_000, 50_000_000, 1_000_000_000, 3600 * 10**9, 1 << 62)


@target
def calls(data: bytes) -> None:
    """Conversations with a whole world: calls of several threads, passing time, other processes on the host."""
    converse(data)


def converse(data: bytes) -> list[tuple[int, int | None]]:
    """Runs a conversation of `calls`.

    Returns the number of each call, and -errno, 0, 1 for more, or None for a wait.
    """
    stage, script = _stage(), Script(data)
    stage.set()
    before = _descriptors()
    scene = Scene(stage, script)
    try:
        with contextlib.suppress(GuestMisbehaved, EndBox):
            while not script.ended and scene.world.threads and scene.world.ending is None:
                _step(scene, script)
        scene.check()
    finally:
        scene.close()
    scene.check()
    if _descriptors() != before:
        gc.collect()
        assert _descriptors() == before, "descriptors of the host's stay open"
    return scene.outcomes


def _step(scene: Scene, script: Script) -> None:
    kind = script.byte() % 16
    if kind < 11:
        row = script.call()
        scene.say(encode_request(row.number, *script.arguments(row)))
    elif kind == 11:
        row = script.call()
        scene.say(encode_request(row.number if script.byte() & 1 else script.number(4), *script.anything()))
    elif kind == 12:
        row = script.call()
        body = row.number.to_bytes(4, "little") + script.take(script.byte())
        scene.say((len(body) + 4).to_bytes(4, "little") + body.ljust(REQUEST.size - 4, b"\0"))
    elif kind == 13:
        scene.pass_time(MOMENTS[script.byte() % len(MOMENTS)])
    elif kind == 14:
        scene.turn(script.byte())
    else:
        scene.meddle(script.byte(), script.path(), script.path())


# --- the other wire ---------------------------------------------------------------------------------------------------


@target
def translated(data: bytes) -> None:
    """A translated guest (controller/guests/translated).

    It calls functions of libc with any arguments, and sends any bytes, and false answers to commands.
    """
    stage, script = _stage(), Script(data)
    stage.set()
    before = _descriptors()
    scene = Scene(stage, script)
    with contextlib.ExitStack() as closing:
        closing.callback(scene.close)
        ends = [*os.pipe2(os.O_NONBLOCK), *os.pipe2(os.O_NONBLOCK)]
        for fd in ends:
            closing.callback(os.close, fd)
        libc = Libc(scene.world, {"HOME": "/home/user", "EMPTY": ""}, "/usr/lib/pypy/pypy-c", scene.dispatcher.refuse)
        channel = TranslatedChannel(ends[0], ends[3], libc, scene.dispatcher.execute)
        channel.send(0)  # the stub's, before `main`
        with contextlib.suppress(GuestMisbehaved, EndBox):
            while not script.ended and scene.world.ending is None:
                _speak(scene, script, channel, ends)
    scene.check()
    if _descriptors() != before:
        gc.collect()
        assert _descriptors() == before, "descriptors of the host's stay open"


def _speak(scene: Scene, script: Script, channel: TranslatedChannel, ends: list[int]) -> None:
    os.write(ends[1], _utterance_of_libc(script)[:4096] or b"\0")
    while True:
        while channel.unsent:
            _drain(ends[2])
            channel.flush()
        _drain(ends[2])
        frame = channel.receive()
        if frame is None:
            return
        reply = scene.dispatcher.execute(scene.thread, frame)
        if scene.world.ending is None:
            channel.send(-errno.EINTR if isinstance(reply, Blocked) else reply)


def _utterance_of_libc(script: Script) -> bytes:
    kind = script.byte()
    if kind < 160:
        signature = FUNCTIONS_OF_LIBC[script.byte() % len(FUNCTIONS_OF_LIBC)]
        count = sum(letter in "ipf" for letter in signature[signature.index("(") + 1 : -2])
        arguments = b"".join((script.register() & (1 << 64) - 1).to_bytes(8, "little") for _ in range(count))
        return bytes([len(signature)]) + signature.encode() + arguments
    if kind < 200:  # a string, as an answer to Z
        text = script.path()
        return len(text).to_bytes(8, "little") + text
    if kind < 230:  # an address, or a false length
        return (script.register() & (1 << 64) - 1).to_bytes(8, "little") + script.take(script.byte())
    return script.take(script.byte()) + bytes(script.byte() % 64)


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 1 << 16):
            pass


FUNCTIONS_OF_LIBC = (*sorted({*SAME, *FUNCTIONS, *REFUSED}), "nothing(v)v", "sin(f)f")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


assert set(TARGETS) == {"framing", "decoders", "calls", "translated"}
assert TABLE
