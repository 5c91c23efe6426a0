"""A process that runs tests of exercises for the classroom (checks.py). Exercises stay ready.

The first socket is for control messages: {"stop": number of a check}. The second one receives the checks one after
another, as JSON, and sends the answers (serve/wire.py): the event "need" requests an exercise that is not here, "begun"
means that the tests begin. Then comes a result, or a failure whose type is "exercise" or "box".

Rule: this process serves hostile guests, and gets nothing but exercises and submissions.
"""

import base64
import contextlib
import functools
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from cattrs.preconf.json import make_converter

from proxybox.controller.costs.descriptorshare import raise_own_limit
from proxybox.controller.process import priority
from proxybox.policies.errors import ProxyboxError
from proxybox.serve.memory import give_back
from proxybox.serve.wire import AnswerKind, answer
from proxybox.teach.exercise import ExerciseError
from proxybox.teach.grades import Grade
from proxybox.teach.grading import GradingError, Packed, begin_worker, leave_worker
from proxybox.teach.ready import ReadyExercise
from proxybox.teach.submissions import Submission

#: The most exercises that a process keeps ready: each has waiting boxes.
_MOST_READY: Final = 2
#: Checks after which memory is returned to the kernel.
_CHECKS: Final = 20
_CONVERTER: Final = make_converter()


def files_as_json(files: Mapping[str, bytes]) -> dict[str, str]:
    """Files in a message."""
    return {name: base64.b64encode(data).decode("ascii") for name, data in files.items()}


def _files(message: Mapping[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(data) for name, data in message.items()}


def grade_of(report: Any) -> Grade:
    """The grade in a result. Raises one of cattrs' errors for an invalid one."""
    return _CONVERTER.structure(report, Grade)


def serve(connections: list[Connection], folder: str, guest: str | None, packages: Sequence[str], nice: int) -> None:
    """Serves until the classroom closes the control socket.

    folder: for temporary files. guest, packages: as for `Sandbox`. nice: the priority of this process and its boxes is
    lower than the classroom's by so many steps.
    """
    control, work = connections
    raise_own_limit()
    priority.lower(nice)
    begin_worker(folder)
    checker = _Checker(functools.partial(ReadyExercise, guest=guest, packages=packages))
    threading.Thread(target=checker.serve, args=(work,), name="proxybox-checks", daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            checker.stop(json.loads(control.recv_bytes())["stop"])
    checker.close()
    leave_worker(folder)


class _Checker:
    """The exercises that are ready. make: makes a ready exercise from its data."""

    def __init__(self, make: "functools.partial[ReadyExercise]") -> None:
        self._make = make
        self._ready: OrderedDict[str, ReadyExercise] = OrderedDict()
        self._changing = threading.Lock()
        self._running: tuple[int, ReadyExercise] | None = None
        self._stopped = -1
        self._count = 0
        self._working = threading.Lock()

    def serve(self, connection: Connection) -> None:
        """Does checks until the other end closes the socket."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                asked = json.loads(connection.recv_bytes())
                with self._working:
                    connection.send_bytes(self._check(asked, connection))

    def stop(self, number: int) -> None:
        """Stops a check, even one that has not begun."""
        with self._changing:
            self._stopped = number
            if self._running is not None and self._running[0] == number:
                self._running[1].stop()

    def close(self) -> None:
        """Ends the boxes, except those of a check that does not stop. These end with the process."""
        with self._changing:
            if self._running is not None:
                self._running[1].stop()
        if self._working.acquire(timeout=1):
            for ready in self._ready.values():
                ready.close()

    def _check(self, asked: Mapping[str, Any], connection: Connection) -> bytes:
        number, digest = asked["check"], asked["exercise"]
        try:
            ready = self._exercise(digest, connection)
            connection.send_bytes(answer(AnswerKind.EVENT, "begun"))
            grade, stopped = self._grade(number, ready, Submission(student=asked["key"], files=_files(asked["files"])))
        except (GradingError, ExerciseError) as error:
            self._forget(digest)
            return answer(AnswerKind.FAILURE, {"type": "exercise", "message": str(error)})
        except (ProxyboxError, OSError) as error:
            self._forget(digest)
            return answer(AnswerKind.FAILURE, {"type": "box", "message": f"{type(error).__name__}: {error}"})
        self._count += 1
        if self._count % _CHECKS == 0:
            give_back()
        report = {"grade": _CONVERTER.unstructure(grade), "stopped": stopped, "resident": _resident()}
        return answer(AnswerKind.RESULT, report)

    def _exercise(self, digest: str, connection: Connection) -> ReadyExercise:
        ready = self._ready.get(digest)
        if ready is None:
            connection.send_bytes(answer(AnswerKind.EVENT, "need"))
            report = json.loads(connection.recv_bytes())
            packed = Packed(_files(report["files"]), report["over"])
            while len(self._ready) >= _MOST_READY:
                self._ready.popitem(last=False)[1].close()
            ready = self._ready[digest] = self._make(packed)
        self._ready.move_to_end(digest)
        return ready

    def _grade(self, number: int, ready: ReadyExercise, submission: Submission) -> tuple[Grade, bool]:
        with self._changing:
            ready.begin()
            self._running = number, ready
            if self._stopped == number:
                ready.stop()
        try:
            return ready.grade(submission)
        finally:
            with self._changing:
                self._running = None

    def _forget(self, digest: str) -> None:
        ready = self._ready.pop(digest, None)
        if ready is not None:
            ready.close()


def _resident() -> int:
    """Bytes of this process in memory: proc(5), statm."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
