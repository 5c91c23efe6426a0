"""Whether boxes can run here, and with which defences: what `proxybox doctor` prints.

It tries rather than guesses: a box is started, and its report of layers is what counts.
"""

import os
from collections.abc import Iterator

from proxybox.api import Diagnosis, Layer, Sandbox
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests import find_guest

_MANDATORY = {
    "seal": "a seccomp filter that leaves the guest its own memory and pipe ends",
    "privileges": "no capabilities, no new privileges, a user id that is not root's, not dumpable",
    "descriptors": "nothing open but the ends of its channel",
    "priority": "lower than the controller's",
}
_THREADS = "needs Linux 5.9 with seccomp user notifications; without, boxes have one thread"
_NOT_YET = {
    "namespaces": "an empty root and namespaces of the guest's own",
    "landlock": "a Landlock domain without any right",
    "cgroup": "a cgroup with limits of memory and tasks",
    "speculation": "speculation controls",
    "core-scheduling": "no CPU core shared with others",
}


def examine(guest: str | os.PathLike[str] | None) -> Diagnosis:
    """Runs one small box and tells what came of it. Raises nothing that a host or an interpreter can cause."""
    try:
        found = find_guest(guest)
    except SandboxStartError as error:
        return Diagnosis(guest=None, problems=(str(error),))
    named = f"{found.executable} (PyPy, Python {found.version[0]}.{found.version[1]})"
    problems: list[str] = []
    told: dict[str, str] = {}
    try:
        result = Sandbox(guest=guest, limits={"wall_time": 30}).run("print('ready')")
        told = dict(result.layers)
        if result.stdout != "ready\n":
            problems.append(
                f"a box started, but a program in it did not do what it should: {result.summary()}\n{result.stderr}"
            )
    except SandboxStartError as error:
        problems.append(str(error))
    return Diagnosis(guest=named, layers=tuple(_layers(told)), problems=tuple(problems))


def _layers(told: dict[str, str]) -> Iterator[Layer]:
    for name, detail in _MANDATORY.items():
        yield Layer(name=name, available=name in told, mandatory=True, detail=told.get(name, detail))
    threads = told.get("thread count", "")
    counted = bool(threads) and not threads.startswith("no ")
    yield Layer(name="thread count", available=counted, mandatory=False, detail=threads, advice=_THREADS)
    for name, detail in _NOT_YET.items():
        yield Layer(
            name=name, available=False, mandatory=False, detail=detail, advice="not in this version of proxybox"
        )
