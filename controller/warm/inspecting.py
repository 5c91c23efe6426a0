"""Inspects a replayed program, by copies of its process that run Python source where the program makes a call.

A copy is made while the program waits for its answer (proxybox/guest/stub_inspect.c), and has a world of its own; the
replay itself does not change. The output of a copy is a claim of the program, which may be false.
"""

import contextlib
import errno
import functools
import time

from proxybox.controller.boxes.box import BoxRunner
from proxybox.controller.boxes.replayed import Standing
from proxybox.controller.boxes.worldbuilding import BoxFolder, WorldBuilder
from proxybox.controller.errors import CannotCopy, GuestMisbehaved
from proxybox.controller.exchange.port import Port
from proxybox.controller.guests.guest import require_bootstrap
from proxybox.controller.header import CALL_BORN, REQUEST
from proxybox.controller.process.birth import adopt
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.reaper import reaper
from proxybox.controller.process.undisturbed import Closing, Undisturbed
from proxybox.controller.record.calls import number_of
from proxybox.controller.record.parting import Frame
from proxybox.controller.warm.bootstrapping import mount_bootstrap
from proxybox.controller.warm.session import LiveSession
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.stdin import Stdin

#: Nanoseconds that an inspection may take; seconds that a session may take to begin; the most bytes of output of an
#: inspection; the most frames in it; and the most characters of one text in a frame.
LIMIT_NS, _BEGIN_LIMIT, _MOST, _MOST_FRAMES, _TEXT = 300_000_000, 20, 1 << 16, 300, 400
_WRITE, _EXIT, _EXIT_GROUP = 1, 60, 231

#: Finds the program's innermost frame. It skips frames of this source itself, and one of PyPy's embedding interface.
#: Where the main module no longer runs, this is the innermost frame of the exception that has ended the program, or
#: None while streams are flushed. PyPy's own start (app_main.py) is below all frames of its main thread.
_FRAME = """\
import sys
def of_the_program():
    try:
        frame = sys._getframe(4 if sys.implementation.name == "pypy" else 3)
    except ValueError:
        frame = None
    own, outer, main = frame, "", vars(sys.modules.get("__main__", sys))
    while own is not None and own.f_globals is not main:
        outer, own = own.f_code.co_filename, own.f_back
    trace = getattr(sys, "last_traceback", None)
    if own is not None or (trace is None and outer not in ("", "app_main.py")):
        return frame
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else trace.tb_frame
"""
#: Prints the frames of the program, the innermost first.
_STACK = (
    _FRAME
    + """\
def look():
    frame, said = of_the_program(), []
    while frame is not None and len(said) < 300:
        said += [frame.f_code.co_filename[:400], str(frame.f_lineno), frame.f_code.co_name[:400]]
        frame = frame.f_back
    __import__("posix").write(1, "\\0".join(said).encode("utf-8", "backslashreplace"))
try:
    look()
finally:
    __import__("posix")._exit(0)
"""
)
#: Turns the copy into a session.
_SESSION = (
    _FRAME
    + """\
def enter():
    sys.proxybox_frame, sys.proxybox_main = of_the_program(), sys.modules.get("__main__")
    posix, source, boot = __import__("posix"), b"", {"__name__": "bootstrap"}
    fd = posix.open("/usr/lib/proxybox/bootstrap.py", posix.O_RDONLY)
    piece = posix.read(fd, 65536)
    while piece:
        source += piece
        piece = posix.read(fd, 65536)
    posix.close(fd)
    exec(compile(source, "/usr/lib/proxybox/bootstrap.py", "exec"), boot)
    link, own = boot["Link"](), boot["own"]
    function = boot["maker_of_functions"](link, %d)[0]
    boot["kind"].lead(own("session").steps(link, boot["program"].new_main, own, %d, function))
enter()
"""
)
#: The first command of that session: it defines the names that the program sees at this call.
_NAMES = """\
import sys
frame = sys.__dict__.pop("proxybox_frame")
globals().update(vars(sys.proxybox_main) if frame is None else {**frame.f_globals, **frame.f_locals})
__import__("sys").__dict__.pop("proxybox_main")
"""


def stack(at: Standing) -> tuple[Frame, ...]:
    """Returns the Python frames of the thread that makes this call, the innermost first.

    There are none where no Python code runs yet, where the interpreter makes the call under its lock, and where another
    thread has the lock. Raises SandboxStartError where no copy can be made; then the program was ended.
    """
    if _is_farewell(at):
        return ()
    with Undisturbed() as undisturbed:  # until `Closing` is responsible for the copy
        child, address = _copy(at)
        with Closing(functools.partial(_end, child)):
            undisturbed.release()
            child.watch.deadline_ns = time.monotonic_ns() + LIMIT_NS
            if not address:
                return ()
            child.channel.send((0, (address, _STACK.encode() + b"\0")))
            return _frames(_said(child))


def session(at: Standing, box: BoxRunner) -> LiveSession:
    """Returns a copy of the program at this call, as a session in a new world of that box.

    Its names are those that the program's innermost function sees. The caller closes it. Raises SandboxStartError.
    """
    require_bootstrap(box.guest)
    stdout = OutputSink("stdout", box.policy.output)
    builder = WorldBuilder(box.policy, box.guest, BoxFolder())
    with contextlib.ExitStack() as undo, Undisturbed():
        undo.callback(builder.close)
        builder.build(Stdin(None), stdout, OutputSink("stderr", box.policy.output, stdout.transcript))
        mount_bootstrap(builder.world)
        size = box.policy.session.value_size
        port = builder.world.port = Port(size, None)
        if _is_farewell(at):
            raise CannotCopy("the thread ends with this call: take another one")
        child, address = _copy(at)
        undo.callback(child.close)
        if not address:
            raise CannotCopy("the interpreter makes this call by itself, so no Python can run here: take another call")
        child.watch.deadline_ns = time.monotonic_ns() + _BEGIN_LIMIT * 10**9
        child.channel.send((0, (address, (_SESSION % (size, size)).encode() + b"\0")))
        try:
            while child.channel.receive() is None:
                pass
        except GuestMisbehaved as breach:  # otherwise it would count as the replayed guest's
            raise CannotCopy(f"the program cannot be looked into here: {breach}") from None
        child.first_answer = child.settings_at = 0
        live = box.serve(child, builder, time.monotonic_ns(), undo)
        undo.callback(live.close)
        outcome = live.driver.serve(port.is_idle)
        if outcome is not None:
            said = live.world.stderr.getvalue().decode("utf-8", "backslashreplace").strip()
            raise CannotCopy(f"the program cannot be looked into here: {said or outcome}")
        child.watch.deadline_ns = None
        begun = LiveSession.of(box, live)
        begun.call(("exec", _NAMES, "", False))
        undo.pop_all()
        live.undo.callback(builder.close)
        return begun


def _is_farewell(at: Standing) -> bool:
    """Whether a thread ends by this call. It reads no answer, so it makes no copy."""
    return number_of(at.call.frame) == _EXIT


def _end(child: GuestProcess) -> None:
    """Kills a copy at once, because it may still run, and the reaper may close others first."""
    child.watch.kill()
    reaper().bury(child.close)


def _copy(at: Standing) -> tuple[GuestProcess, int]:
    """Returns a copy that waits for its source, and the address for the source; 0 where the copy can run none."""
    child, (address, room, _) = adopt(at.process, 0, 1, inspected=at.channel)
    return child, address if room else 0


def _said(child: GuestProcess) -> bytes:
    """Returns what a copy writes before its end, or its first malformed request. Its other calls are refused."""
    said = b""
    with contextlib.suppress(GuestMisbehaved):  # otherwise it would count as the replayed guest's
        while (frame := child.channel.receive()) != b"":
            if frame is None:
                continue
            number = number_of(frame)
            if number == _EXIT_GROUP:
                break
            if number == _WRITE and len(said) < _MOST:
                written = frame[REQUEST.size + 4 :]
                said += written
                child.channel.send(len(written))  # the count in its request may not fit an answer
            else:
                child.channel.send(0 if number == CALL_BORN else -errno.ENOSYS)
    return said


def _frames(said: bytes) -> tuple[Frame, ...]:
    words = said[:_MOST].decode("utf-8", "backslashreplace").split("\0", 3 * _MOST_FRAMES)
    return tuple(
        Frame(file[:_TEXT], int(line) if line.isascii() and line.isdigit() and len(line) < 10 else None, name[:_TEXT])
        for file, line, name in zip(words[::3], words[1::3], words[2::3], strict=False)
    )
