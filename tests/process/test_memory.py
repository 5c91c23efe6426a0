"""The memory of a guest, with a real process: which requests are refused, when the limit is moved, and when the guest
is ended.
"""

import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from proxybox.controller import hostproc
from proxybox.controller.header import A_FILE, CODE, FOR_USE, MOST_ROOM, RESERVED
from proxybox.controller.process.memory import (
    IDLE_NS,
    OF_CODE,
    PROMISE_NS,
    SHORTEST_NS,
    SPARE,
    TICK_NS,
    Beginning,
    GuestMemory,
)

M = 1 << 20
LIMIT = 64 * M
#: Maps, uses or frees a number of MiB on request, and reports that.
PROGRAM = """
import mmap, sys
print(flush=True)
for line in sys.stdin:
    what, size = line.split()
    size = int(size) << 20
    if what == "map": kept = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    elif what == "map-more": more = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    elif what == "use":
        for at in range(0, size, 4096): kept[at] = 1
    else: kept.madvise(mmap.MADV_DONTNEED)
    print(flush=True)
"""


class Other:
    """A process whose memory is treated as a guest's."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answer()
        self.began = Beginning.of(self.process.pid)
        self.memory = GuestMemory(self.process.pid, LIMIT, self.began)
        self.memory.enforce()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"\n"

    def tell(self, what: str, size: int = 0) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {size}\n".encode())
        self.process.stdin.flush()
        self._answer()

    def room(self) -> int:
        """How many bytes the process may map now, by the kernel's limit."""
        soft, hard = resource.prlimit(self.process.pid, resource.RLIMIT_AS)
        assert soft == self.memory.soft
        assert hard == self.began.space + LIMIT + MOST_ROOM
        return soft - hostproc.memory(self.process.pid)[0]


@pytest.fixture
def other() -> Iterator[Other]:
    made = Other()
    with made.process:
        yield made
        made.process.kill()


def test_it_begins_with_as_much_address_space_as_it_may_use(other: Other) -> None:
    assert other.room() == LIMIT
    assert not other.memory.is_watched


@pytest.mark.parametrize(
    ("kind", "size", "is_given"),
    [
        (FOR_USE, LIMIT * 2, False), (FOR_USE, LIMIT + 1, False),
        (RESERVED, 1 << 30, True), (RESERVED, MOST_ROOM, True), (RESERVED, MOST_ROOM + LIMIT + 1, False),
        (RESERVED, 1 << 63, False), (RESERVED, 1 << 64, False),
        (A_FILE, LIMIT * 2, True), (A_FILE, LIMIT * 4, True), (A_FILE, MOST_ROOM * 2, False),
        (CODE, OF_CODE, True), (CODE, LIMIT + 1, False),
    ],
)  # fmt: skip
def test_what_is_given_to_one_that_uses_little(other: Other, kind: int, size: int, is_given: bool) -> None:
    assert other.memory.ask(size, kind) is is_given
    assert other.room() == (max(size, LIMIT) if is_given else LIMIT)
    assert other.memory.is_watched is (is_given and size >= LIMIT * 4)


def test_what_was_reserved_and_is_not_used_does_not_count(other: Other) -> None:
    assert other.memory.ask(256 * M, RESERVED)
    other.tell("map", 256)
    assert other.memory.ask(32 * M, FOR_USE)
    assert other.room() > LIMIT - 2 * M
    other.tell("use", 40)
    assert not other.memory.ask(32 * M, FOR_USE)
    assert not other.memory.ask(32 * M, RESERVED)  # more than half is used: a reservation counts as use
    assert other.memory.refused is not None
    assert 20 * M < other.memory.refused < 24 * M
    assert other.memory.look(1)
    other.tell("give-back")
    assert other.room() < 24 * M
    assert other.memory.ask(LIMIT - 2 * M, FOR_USE)
    assert other.room() > LIMIT - 2 * M


def test_code_has_something_when_nothing_else_has(other: Other) -> None:
    assert other.memory.ask(256 * M, RESERVED)
    other.tell("map", 256)
    other.tell("use", LIMIT // M)
    assert other.memory.look(1)
    assert other.room() == 0
    assert not other.memory.ask(M, FOR_USE)
    assert [other.memory.ask(OF_CODE // 2, CODE) for _ in range(3)] == [True, True, False]
    assert other.room() == OF_CODE // 2


def test_code_has_something_when_all_other_address_space_is_used(other: Other) -> None:
    assert other.memory.ask(MOST_ROOM, RESERVED)
    other.tell("map", (MOST_ROOM - OF_CODE) // M)
    assert other.memory.look(1)
    assert other.memory.ask(LIMIT - 2 * M, FOR_USE)
    assert not other.memory.ask(LIMIT + 1, RESERVED)  # by now the kernel's limit allows all that there is
    assert other.memory.was_nearly_full(None)
    other.tell("map-more", other.room() // M)
    assert 0 <= other.room() < M
    assert not other.memory.ask(2 * M, FOR_USE)  # the interpreter may have freed an arena of 1 MiB meanwhile
    assert other.memory.ask(OF_CODE // 2, CODE)
    assert other.memory.look(2)  # the process may have used some CPU time before it maps them
    assert other.room() >= OF_CODE // 2
    assert not other.memory.ask(OF_CODE * 2, CODE)


def test_a_huge_reservation_that_is_refused_does_not_tell_what_a_crash_was_about(other: Other) -> None:
    assert not other.memory.ask(MOST_ROOM * 2, RESERVED)
    assert not other.memory.was_nearly_full(None)
    assert not other.memory.is_nearly_full()


def test_what_was_given_is_not_taken_back_before_it_is_had(other: Other) -> None:
    """The watchdog may check between the grant and the repeated call."""
    assert other.memory.ask(256 * M, RESERVED)
    for cpu_ns in (10, 20, PROMISE_NS):
        assert other.memory.look(cpu_ns)
        assert other.room() == 256 * M
    other.tell("map", 256)
    assert other.memory.look(PROMISE_NS + 1)
    assert LIMIT - 2 * M < other.room() <= LIMIT
    other.memory.refused = None
    assert other.memory.ask(M, FOR_USE)  # the watchdog has made room meanwhile


def test_what_was_given_is_taken_back_where_nobody_wants_it(other: Other) -> None:
    assert other.memory.ask(256 * M, RESERVED)
    assert other.memory.look(10)
    assert other.memory.look(PROMISE_NS + 11)
    assert other.room() <= LIMIT


def test_the_limit_follows_what_is_used_and_ends_what_uses_too_much(other: Other) -> None:
    assert other.memory.ask(256 * M, RESERVED)
    other.tell("map", 256)
    left = other.memory.look(1)
    assert LIMIT - 2 * M < other.room() <= LIMIT
    other.tell("use", 40)
    assert other.room() > LIMIT - 2 * M  # the watchdog has not checked yet
    assert SHORTEST_NS <= other.memory.look(2) < left
    assert 20 * M < other.room() < 24 * M
    other.tell("use", (LIMIT + SPARE) // M - 2)
    assert other.memory.look(3) == SHORTEST_NS
    assert other.room() <= 0
    other.tell("use", (LIMIT + SPARE) // M + 1)
    assert other.memory.look(4) == 0


def test_one_that_costs_nothing_is_not_measured(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    other.memory.ask(256 * M, RESERVED)
    other.memory.look(1)
    looks: list[int] = []
    monkeypatch.setattr(hostproc, "space_and_use", lambda pid: looks.append(pid) or (0, 0))
    assert other.memory.look(1) >= TICK_NS
    assert not other.memory.is_idle
    other.memory._seen_ns -= IDLE_NS
    assert other.memory.look(1) >= TICK_NS
    assert other.memory.is_idle
    assert looks == []


def test_pages_of_files_and_reservations_are_not_used_but_page_tables_are() -> None:
    space, used = hostproc.space_and_use(os.getpid())
    with mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000) as kept:
        more_space, more_used = hostproc.space_and_use(os.getpid())
        assert more_space - space >= 1 << 30
        assert more_used - used < M
        kept.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, 1 << 30, 2 * M):
            kept[at]  # the kernel's shared page of zeros, and a table of 4 KiB for it
        assert 2 * M <= hostproc.space_and_use(os.getpid())[1] - used < 4 * M


def test_where_proc_does_not_tell_address_space_is_the_limit(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """On gVisor /proc lacks that."""
    monkeypatch.setattr(hostproc, "_word", lambda text, key: b"")
    began = Beginning.of(other.process.pid)
    assert began == Beginning(other.began.space, None)
    assert not GuestMemory(other.process.pid, LIMIT, began).ask(1 << 30, RESERVED)


def test_where_the_limit_may_not_be_changed_address_space_is_the_limit(
    other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox around the controller may refuse that."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(resource, "prlimit", refuse)
    assert not other.memory.ask(1 << 30, RESERVED)
    assert not other.memory.is_watched
