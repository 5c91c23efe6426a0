"""The filters as text in golden/, where reviewers see each change of seal/filters.py."""

import difflib
from collections.abc import Iterator
from pathlib import Path

from proxybox.controller.seal.filters import listener_filter, seal_filter
from tests.seal.bpf import disassemble
from tests.seal.expected import ARCH_X86_64, EXPECTED, KINDS, ROUTE, Kind

FOLDER = Path(__file__).parent / "golden"

_NAMES = {("nr", number): name for number, (name, _) in EXPECTED.items()}
_NAMES |= {(f"args[{index}].low", ROUTE): "ROUTE" for index in range(6)}
_NAMES |= {("arch", ARCH_X86_64): "x86-64", ("args[2].low", 4): "MADV_DONTNEED", ("args[2].low", 8): "MADV_FREE"}
_NAMES |= {("args[0].low", 0x3D0F00): "the flags of pthread_create", ("args[0].high", 0x1000): "shared mappings"}
_NAMES |= {("args[0].low", 0x8000): "CLONE_PARENT"}
_NAMES |= {("args[1].low", 0x80): "FUTEX_WAIT | PRIVATE", ("args[1].low", 0x81): "FUTEX_WAKE | PRIVATE"}
_NAMES |= {("args[1].low", 0x89): "FUTEX_WAIT_BITSET | PRIVATE"}
_NAMES |= {("args[1].low", 0x189): "FUTEX_WAIT_BITSET | PRIVATE | CLOCK_REALTIME"}


def compiled(kind: Kind | None) -> bytes:
    """The seal of a box of this kind; None: the listener's program."""
    if kind is None:
        return listener_filter()
    return seal_filter(**kind._asdict())


def programs() -> Iterator[tuple[str, Kind | None]]:
    """The names of the files, each with the kind of box whose program it contains; None for the listener's."""
    for kind in KINDS:
        time, threads = ("other-time", "real-time")[kind.real_time], ("one-thread", "threads")[kind.threads]
        copies = (
            "-zygote"
            if kind.zygote
            else "-copies"
            if kind.forks
            else "-bare"
            if kind.bare
            else "-listener"
            if kind.listener
            else ""
        )
        serial = "-serial" * kind.serial + "-clocks" * kind.clocks
        yield f"seal-{kind.channels:02}-{time}-{threads}{copies}{serial}.txt", kind
    yield "listener.txt", None


def text(kind: Kind | None) -> str:
    """The text that the file must contain."""
    what = (
        f"The seal of a box: {kind}."
        if kind
        else "The listener: the clones, the first calls of copies, and the mappings of files, that ask the controller."
    )
    return f"; {what}\n; Made by `python -m tests.seal golden --write`.\n\n{disassemble(compiled(kind), _NAMES)}"


def difference(name: str, kind: Kind | None) -> str:
    """The differences of the file from the filter, as a unified diff; empty when there are none."""
    kept = (FOLDER / name).read_text() if (FOLDER / name).exists() else ""
    lines = difflib.unified_diff(
        kept.splitlines(True), text(kind).splitlines(True), f"golden/{name}", "controller/seal/filters.py"
    )
    return "".join(lines)


def write() -> None:
    """Writes the present filters to the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, kind in programs():
        (FOLDER / name).write_text(text(kind))
