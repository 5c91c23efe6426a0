"""The time from the call to the first byte that a program prints."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import proxybox
from benchmarks.bare import pypy
from benchmarks.figures import Figure, Target, interleaved, medians
from proxybox.controller.seal import layers

ROUNDS = 21
PROGRAM = "print(1)"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns medians, in milliseconds, without a process's first box: it fills the caches of the library."""
    proxybox.run(PROGRAM, check=True, warm=False)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "main.py")
        script.write_text(PROGRAM)
        interpreter = pypy()
        taken = interleaved(
            [
                ("bare pypy3", lambda: _first_byte([interpreter, str(script)])),
                ("API", _api),
                ("API, without layers", lambda: _without_layers(_api)),
                ("command line", lambda: _first_byte([*_command(), "run", "-c", PROGRAM])),
                ("API, to the Result", _whole),
                ("API, to the Result, without layers", lambda: _without_layers(_whole)),
                ("bare pypy3, to its end", lambda: _to_the_end([interpreter, str(script)])),
            ],
            ROUNDS,
            say,
        )
    middle = medians(taken)
    bare, bare_end = middle["bare pypy3"], middle["bare pypy3, to its end"]
    return [
        Figure(name="API, to the first print", value=middle["API"], unit="ms", floor="bare pypy3", floor_value=bare,
               target=Target(of="ratio", at_most=1.4)),
        Figure(name="API, to the Result", value=middle["API, to the Result"], unit="ms",
               floor="bare pypy3, to its end", floor_value=bare_end),
        Figure(name="all layers, to the first print", value=middle["API"], unit="ms", floor="without layers",
               floor_value=middle["API, without layers"], target=Target(of="ratio", at_most=1.05)),
        Figure(name="all layers, to the Result", value=middle["API, to the Result"], unit="ms", floor="without layers",
               floor_value=middle["API, to the Result, without layers"], target=Target(of="ratio", at_most=1.05)),
        Figure(name="command line, to the first print", value=middle["command line"], unit="ms", floor="bare pypy3",
               floor_value=bare, target=Target(of="ratio", at_most=3.6)),
    ]  # fmt: skip


def _api() -> float:
    seen: list[float] = []
    began = time.perf_counter()
    proxybox.run(PROGRAM, check=True, warm=False, on_stdout=lambda _: seen.append(time.perf_counter()))
    return (seen[0] - began) * 1e3


def _without_layers(measure: Callable[[], float]) -> float:
    used = set(layers.USED)
    layers.USED.clear()
    try:
        return measure()
    finally:
        layers.USED.update(used)


def _whole() -> float:
    began = time.perf_counter()
    proxybox.run(PROGRAM, check=True, warm=False)
    return (time.perf_counter() - began) * 1e3


def _first_byte(command: list[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen = process.stdout.read(1)
        taken = time.perf_counter() - began
        process.stdout.read()
    if process.returncode or seen != b"1":
        raise RuntimeError(f"{command[0]} ended with status {process.returncode}")
    return taken * 1e3


def _to_the_end(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return (time.perf_counter() - began) * 1e3


def _command() -> list[str]:
    installed = Path(sys.executable).with_name("proxybox")
    return [str(installed)] if installed.is_file() else [sys.executable, "-m", "proxybox.cli"]
