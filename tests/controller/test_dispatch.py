"""From requests to answers: decoders that annotations define, and the order of the steps that decide a call."""

import contextlib
import errno
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.audit import Answer, Decision, Deny, OSCall
from proxybox.controller.costs.steps import Steps
from proxybox.controller.dispatch import TABLE, Dispatcher, _compile_any, _parameters, compile_invoke, stub_table
from proxybox.controller.effects import AnotherTurn, Blocked
from proxybox.controller.errors import Denied, EndBox, GuestMisbehaved
from proxybox.controller.header import ABSENT, FAULT, MAX_PAYLOAD, TOO_LONG
from proxybox.controller.roles import Addr, Bits, Buffer, Fd, Gather, Int, OptionalPath, Path, Size, Soft, Struct, UInt
from proxybox.controller.wire.protocol import encode_request


def decode(handler: Any, *request: Any) -> Any:
    return compile_invoke(handler, _parameters(handler))(None, None, encode_request(1, *request))  # type: ignore[arg-type]


def plain(world: Any, fd: Fd, flags: UInt, size: Size, at: Addr) -> Any:
    return fd, flags, size, at


def test_registers_are_read_as_the_kernel_reads_them() -> None:
    everything = 2**64 - 1
    assert decode(plain, (everything,) * 4) == (-1, 2**32 - 1, everything, everything)
    assert decode(plain, (0xDEADBEEF_00000003, 7 | 1 << 40, 5, 6)) == (3, 7, 5, 6)


def with_path(world: Any, dirfd: Fd, path: Path, flags: Int) -> Any:
    return dirfd, path, flags


def test_a_path_takes_the_place_of_its_address() -> None:
    assert decode(with_path, (3, 0x1000, 5), (b"/a/\xff",)) == (3, b"/a/\xff", 5)


@pytest.mark.parametrize(
    ("marker", "number"), [(FAULT, errno.EFAULT), (ABSENT, errno.EFAULT), (TOO_LONG, errno.ENAMETOOLONG)]
)
def test_an_unreadable_path_is_an_error_of_the_call(marker: int, number: int) -> None:
    with pytest.raises(OSError) as caught:
        decode(with_path, (3, 0, 0), (marker,))
    assert caught.value.errno == number


@pytest.mark.parametrize("memory", [(), (b"a\0b",), (b"x" * 4096,), (b"a", b"more")])
def test_memory_that_no_stub_would_send_is_a_breach(memory: tuple[bytes, ...]) -> None:
    with pytest.raises(GuestMisbehaved):
        decode(with_path, (3, 0x1000, 0), memory)


def test_a_blob_that_claims_more_than_its_frame_is_a_breach() -> None:
    frame = bytearray(encode_request(1, (3, 0x1000, 0), (b"abc",)))
    frame[56:60] = (100).to_bytes(4, "little")
    with pytest.raises(GuestMisbehaved):
        compile_invoke(with_path, _parameters(with_path))(None, None, bytes(frame))  # type: ignore[arg-type]


def writes(world: Any, fd: Fd, buf: Annotated[bytes, Buffer("count")], count: Size) -> Any:
    return buf


def test_a_buffer_is_as_long_as_its_count_says_and_no_longer() -> None:
    assert decode(writes, (1, 2, 3), (b"abc",)) == b"abc"
    assert len(decode(writes, (1, 2, 2**40), (b"x" * MAX_PAYLOAD,))) == MAX_PAYLOAD
    for lie in (b"ab", b"abcd", b""):
        with pytest.raises(GuestMisbehaved):
            decode(writes, (1, 2, 3), (lie,))


def others(
    world: Any,
    times: Annotated[bytes | None, Struct(16)],
    soft: Annotated[bytes | None, Soft(4)],
    vector: Annotated[bytes, Gather("count")],
    count: Int,
    bits: Annotated[bytes | None, Bits("count")],
    path: OptionalPath,
) -> Any:
    return times, soft, vector, count, bits, path


def test_absent_memory_is_none_where_null_is_allowed() -> None:
    registers = (0, 0, 1, 1, 0, 0)
    assert decode(others, registers, (ABSENT, ABSENT, b"vv", ABSENT, ABSENT)) == (None, None, b"vv", 1, None, None)
    given_all = (b"t" * 16, b"soft", b"", b"b" * 8, b"/p")
    assert decode(others, registers, given_all) == (b"t" * 16, b"soft", b"", 1, b"b" * 8, b"/p")
    with pytest.raises(GuestMisbehaved):
        decode(others, registers, (b"short", *given_all[1:]))


@given(st.sampled_from(sorted(TABLE)), st.binary(max_size=300))
def test_any_memory_behind_any_call_number_is_decoded_refused_or_a_breach(number: int, tail: bytes) -> None:
    frame = bytearray(encode_request(number, (2**64 - 1,) * 6)) + tail
    frame[:4] = len(frame).to_bytes(4, "little")
    with contextlib.suppress(GuestMisbehaved, OSError):
        TABLE[number].arguments(bytes(frame))


@pytest.mark.parametrize("number", sorted(TABLE))
def test_the_shorter_way_of_a_call_with_one_string_says_the_same(number: int) -> None:
    """For any names of the handler's arguments, and any memory."""
    row = TABLE[number]
    ways = [make(lambda _, *values: values, row.parameters) for make in (_compile_any, compile_invoke)]
    frame = encode_request(number, (11, 22, 33, 44, 55, 1 << 63))
    for memory in (b"/path", b"", b"a" * 4095, b"a" * 4096, b"in\0side", ABSENT, FAULT, TOO_LONG, 9, None):
        whole = frame if memory is None else encode_request(number, (11, 22, 33, 44, 55, 1 << 63), (memory,))
        for request in (whole, whole + b"x", whole[:-1] if len(whole) > 56 else whole):
            answers: list[Any] = []
            for way in ways:
                try:
                    answers.append(way(None, None, request))  # type: ignore[arg-type]
                except (OSError, GuestMisbehaved) as error:
                    answers.append(repr(error))
            assert answers[0] == answers[1]


def test_the_stub_is_told_every_call_that_reads_memory() -> None:
    table = stub_table()
    numbers = {int.from_bytes(table[at : at + 2], "little") for at in range(0, len(table), 52)}
    assert {1, 21, 257, 262} <= numbers
    assert 39 not in numbers


# --- deciding ---------------------------------------------------------------------------------------------------------


def world(calls: int | None = None, on_denied: str = "errno") -> Any:
    policy = SimpleNamespace(limits=SimpleNamespace(calls=calls), on_denied=on_denied)
    return SimpleNamespace(
        policy=policy, thread=None, process=SimpleNamespace(pid=77), credentials=SimpleNamespace(uid=5), steps=Steps()
    )


THREAD: Any = SimpleNamespace(tid=77, calls=0)
GETPID, SOCKET = encode_request(39), encode_request(41, (2, 1, 0))


def test_a_call_is_answered_by_its_handler() -> None:
    assert Dispatcher(world()).execute(THREAD, GETPID) == 77


def test_an_unknown_number_is_enosys_and_counted_by_number() -> None:
    seen: list[OSCall] = []
    dispatcher = Dispatcher(world(), audit=seen.append)
    assert dispatcher.execute(THREAD, encode_request(9999)) == -errno.ENOSYS
    assert dispatcher.unknown == {9999: 1}
    assert seen[0].decision is Decision.UNKNOWN
    assert "9999" in (seen[0].reason or "")


def test_a_refusal_reaches_the_guest_as_an_errno_and_the_caller_with_its_reason() -> None:
    dispatcher = Dispatcher(world())
    assert dispatcher.execute(THREAD, SOCKET) < 0
    (denial,) = dispatcher.denials
    assert denial.call == "socket"
    assert denial.reason


def test_a_policy_that_ends_on_denied_ends_the_box() -> None:
    with pytest.raises(EndBox) as caught:
        Dispatcher(world(on_denied="end")).execute(THREAD, SOCKET)
    assert caught.value.status == "denied"


def test_more_calls_than_the_limit_end_the_box() -> None:
    dispatcher = Dispatcher(world(calls=3))
    for _ in range(3):
        dispatcher.execute(THREAD, GETPID)
    with pytest.raises(EndBox, match=r"limits\.calls"):
        dispatcher.execute(THREAD, GETPID)


def test_interceptors_come_first_and_the_first_verdict_counts() -> None:
    seen: list[OSCall] = []
    asked: list[str] = []

    def first(call: OSCall) -> Deny | None:
        asked.append(call.name)
        return Deny(errno.EACCES, "not today") if call.name == "getpid" else None

    def second(call: OSCall) -> Answer:
        return Answer(1234, ((0x10, b"x"),))

    dispatcher = Dispatcher(world(), [first, second], seen.append)
    assert dispatcher.execute(THREAD, GETPID) == -errno.EACCES
    assert dispatcher.execute(THREAD, SOCKET) == (1234, (0x10, b"x"))
    assert asked == ["getpid", "socket"]
    assert [(call.decision, call.result) for call in seen] == [
        (Decision.DENIED, -errno.EACCES),
        (Decision.ANSWERED, 1234),
    ]
    assert seen[0].reason == "not today"
    assert seen[1].arguments["domain"] == 2


def test_an_interceptor_that_answers_nonsense_is_the_callers_error() -> None:
    with pytest.raises(TypeError, match="None, Deny"):
        Dispatcher(world(), [lambda call: False]).execute(THREAD, GETPID)  # type: ignore[arg-type, return-value]


def test_a_wait_is_told_to_the_audit_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[OSCall] = []
    answers: list[Any] = [None, 5]
    blocked = Blocked(attempt=lambda: answers.pop(0))
    monkeypatch.setattr(TABLE[39], "invoke", lambda world, thread, frame: blocked)
    reply = Dispatcher(world(), audit=seen.append).execute(THREAD, GETPID)
    assert isinstance(reply, Blocked)
    assert (reply.attempt(), seen) == (None, [])
    assert reply.attempt() == 5
    assert seen[0].result == 5


def test_errors_of_a_wait_are_errnos_too() -> None:
    def fails() -> Any:
        raise OSError(errno.EPIPE, "gone")

    def refused() -> Any:
        raise Denied(errno.EROFS, "mounted read-only")

    dispatcher = Dispatcher(world())
    assert dispatcher.settle(fails) == -errno.EPIPE
    assert dispatcher.settle(refused) == -errno.EROFS


def test_an_exception_that_is_no_oserror_is_ours_and_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(world: Any, thread: Any, frame: bytes) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(TABLE[39], "invoke", broken)
    with pytest.raises(KeyError):
        Dispatcher(world()).execute(THREAD, GETPID)


def test_a_call_of_several_turns_whose_links_change_meanwhile_is_asked_about_anew(
    side: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule has seen where the path led; between the turns another thread of the guest makes a call."""
    (row,) = (row for row in TABLE.values() if row.name == "open")
    turns: list[int] = []

    def invoke(world: Any, thread: Any, frame: bytes) -> Any:
        turns.append(1)
        if len(turns) % 2:
            raise AnotherTurn
        return 7

    monkeypatch.setattr(row, "invoke", invoke)
    side.call("symlink", b"plain", b"/box/link")
    seen: list[tuple[bytes, ...]] = []
    dispatcher = Dispatcher(side.world, [lambda call: seen.append(call.paths)])
    frame = encode_request(row.number, (0x1000, 0, 0), (b"/box/link",))
    for change, reply in ((lambda: None, 7), (lambda: swap(side), -errno.EINTR)):
        blocked = dispatcher.execute(side.world.thread, frame)
        assert isinstance(blocked, Blocked)
        change()
        assert dispatcher.settle(blocked.attempt) == reply
    assert seen == [(b"/box/link", b"/box/plain")] * 2


def swap(side: Any) -> None:
    side.call("unlink", b"/box/link")
    side.call("symlink", b".secret", b"/box/link")
