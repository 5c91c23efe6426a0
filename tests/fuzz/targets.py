"""The fuzz targets: functions of bytes that return, or find something.

The promise that they check: whatever a guest sends is an event or GuestMisbehaved (or the end of its box by policy),
never another exception, never more memory than the limit, and nothing of the host that its policy did not give.
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
from proxybox.controller.errors import EndBox, GuestMisbehaved
from proxybox.controller.protocol import MAX_FRAME, REQUEST, RequestReader, encode_request, frame_size
from proxybox.controller.roles import Memory

#: What one execution may add to this process at its peak: a few payloads on their way, the box's budget, its changes.
MEMORY = 48 << 20
#: Seconds of CPU for one execution; the slowest honest one takes a tenth of it.
LONGEST = 5.0

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}


def target(function: Target) -> Target:
    """Enters a target, and keeps to what all of them promise: bounded memory and time."""

    @functools.wraps(function)
    def bounded(data: bytes) -> None:
        before, reached, started = _resident(), _peak(), time.process_time()
        function(data)
        spent = time.process_time() - started
        assert spent < LONGEST, f"it took {spent:.1f} s of CPU"
        peak = _peak()
        # A peak below one that something else in this process has reached before cannot be seen.
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
    Scene(stage, Script(b"")).close()  # the system's libraries are opened once, and stay
    return stage


# --- the wire ---------------------------------------------------------------------------------------------------------


@target
def framing(data: bytes) -> None:
    """The reader of requests, fed with frames, lies and any bytes, cut anywhere."""
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
    if kind == 2:  # a size that is not its own
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
    """Conversations with a whole world: calls of several threads, time that passes, others at work on the host."""
    converse(data)


def converse(data: bytes) -> list[tuple[int, int | None]]:
    """The conversation of `calls`: the number of each call, and -errno, 0, 1 for more, or None for a wait."""
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


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


assert set(TARGETS) == {"framing", "decoders", "calls"}
assert TABLE
