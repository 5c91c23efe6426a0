"""The comparison of runs: made-up calls with known differences."""

import itertools
import struct
from array import array
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import pytest

from proxybox.controller.abi import pack_dirent
from proxybox.controller.record.events import DenialEvent
from proxybox.records.differing import (
    ComparedRun,
    Difference,
    Group,
    RunInputs,
    aligning,
    compare,
    comparing,
    outline,
    reading,
)
from proxybox.records.differing.aligning import Span, align
from proxybox.records.differing.page import page
from proxybox.records.differing.wording import as_data, summary
from proxybox.records.record import RecordedCall, RecordedSignal, Stored

SCRIPT = "/box/test.py"
STAT = struct.Struct("<QQQIIIIQqqqqqqqqq24x")


def stat(size: int = 10, mtime: int = 1, ino: int = 7) -> bytes:
    return STAT.pack(1, ino, 1, 0o100644, 1000, 1000, 0, 0, size, 4096, 8, mtime, 0, mtime, 0, mtime, 0)


def call(name: str, result: int | None = 0, *stored: Stored | bytes, thread: int = 0, **asked: Any) -> RecordedCall:
    """Returns a call without its number, which `run` adds."""
    pieces = tuple(each if isinstance(each, Stored) else Stored(len(each), each) for each in stored)
    printed = ((asked["fd"] - 1, asked["buf"]),) if name == "write" and asked.get("fd") in (1, 2) else ()
    return RecordedCall(0, thread, 0.0, name, "", asked, asked, result, 0.0, pieces, printed=printed)


def opened(path: str, fd: int = 3) -> RecordedCall:
    return call("openat", fd, dirfd=-100, path=path.encode(), flags=0, mode=0)


def read(data: bytes, fd: int = 3) -> RecordedCall:
    return call("read", len(data), data, fd=fd, buf=True, count=4096)


def printed(text: str) -> RecordedCall:
    return call("write", len(text), fd=1, buf=text.encode(), count=len(text))


def numbered(calls: Iterable[RecordedCall]) -> list[RecordedCall]:
    return [attrs.evolve(each, number=number) for number, each in enumerate(calls, 1)]


INPUTS = RunInputs(argv=("/usr/bin/pypy3", SCRIPT))


def run(*calls: RecordedCall, inputs: RunInputs = INPUTS, **fields: Any) -> ComparedRun:
    """Returns a run that begins with its script, and then makes these calls."""
    made = numbered([call("getrandom", 16, b"0" * 16, count=16, buf=True, flags=1), opened(SCRIPT), *calls])
    return ComparedRun("run", inputs, lambda: made, **fields)


def names(difference: Difference) -> list[str]:
    return [each.kind.name for each in difference.causes]


def test_the_same_calls_are_the_same() -> None:
    found = compare(run(opened("/a"), printed("x\n")), run(opened("/a"), printed("x\n")))
    assert (found.same, found.parting, found.causes, found.first, found.lines) == (True, None, (), None, ())
    assert summary(found) == "The program did the same in both runs"


MADE_UP = [
    (call("mkdir", 0, path=b"/tmp/tmpk3j_x9ab"), call("mkdir", 0, path=b"/tmp/tmpq81zzy_0")),
    (
        call("clock_nanosleep", 0, clockid=1, request=b"1" * 16),
        call("clock_nanosleep", 0, clockid=1, request=b"2" * 16),
    ),
    (call("write", 2, fd=5, buf=b"ab", count=2), call("write", 3, fd=5, buf=b"xyz", count=3)),
    (printed("took 0.25 s\n"), printed("took 1e-05 s\n")),
    (printed("6fa459ea-ee8a-3ca4-894e-db77e160355e"), printed("16fd2706-8baf-433b-82eb-8c7fada847da")),
]


@pytest.mark.parametrize(("ours", "theirs"), MADE_UP, ids=lambda each: each.name)
def test_what_is_made_up_parts_two_runs_only_where_nothing_else_does(ours: RecordedCall, theirs: RecordedCall) -> None:
    found = compare(run(ours, printed("good")), run(theirs, printed("bad")))
    assert found.parting is not None
    assert ("good" in found.parting.a.line, "bad" in found.parting.b.line) == (True, True)
    assert found.derived == {3}
    assert [row.how for row in found.rows if row.a is not None and row.a.number == 3] == ["renamed"]
    alone = compare(run(ours, printed("good")), run(theirs, printed("good")))
    assert (alone.same, alone.parting is not None and alone.parting.a.number) == (False, 3)


def test_what_is_printed_goes_before_what_else_is_made_up() -> None:
    ours, theirs = (printed(f"took {number} s") for number in (1, 2))
    found = compare(run(MADE_UP[0][0], ours), run(MADE_UP[0][1], theirs))
    assert found.parting is not None
    assert found.parting.a.number == 4


def test_a_wait_with_a_time_and_one_without_are_no_same_form() -> None:
    ours, theirs = (call("poll", 0, fds=(), nfds=0, timeout=each) for each in (0, 100))
    found = compare(run(ours, printed("good")), run(theirs, printed("bad")))
    assert found.parting is not None
    assert found.parting.a.number == 3


def test_answers_without_consequence_are_the_same() -> None:
    found = compare(run(opened("/data"), read(b"a")), run(opened("/data"), read(b"b")))
    assert found.same
    assert found.first is not None
    assert found.first.kind.name == "content"
    assert summary(found) == "The program did the same in both runs; one answer differed without consequence"


def entries(*names: bytes) -> bytes:
    return b"".join(pack_dirent(7, at, 8, name) for at, name in enumerate(names))


CLOCK = struct.Struct("<qq")


#: Pairs of calls with different answers: the kind of the difference, the calls of both runs, and its subject.
KINDS: list[tuple[str, list[RecordedCall], list[RecordedCall], str]] = [
    ("content", [opened("/data"), read(b"one\ntwo\n")], [opened("/data"), read(b"one\n2\n")], "the content of /data"),
    ("existence", [opened("/data", -2)], [opened("/data", 3)], "whether /data exists"),
    ("status", [call("stat", 0, stat(5), path=b"/data")], [call("stat", 0, stat(6), path=b"/data")],
     "the size, mode or owner of /data"),
    ("stdin", [read(b"1\n", 0)], [read(b"2\n", 0)], "standard input"),
    ("code", [read(b"print(1)")], [read(b"print(2)")], f"the program's own code ({SCRIPT})"),
    ("code", [opened("/lib/module.py"), read(b"a = 1")], [opened("/lib/module.py"), read(b"a = 2")],
     "the program's own code (/lib/module.py)"),
    ("random", [call("getrandom", 8, b"1" * 8, count=8)], [call("getrandom", 8, b"2" * 8, count=8)], "randomness"),
    ("random", [opened("/dev/urandom"), read(b"1" * 8)], [opened("/dev/urandom"), read(b"2" * 8)],
     "randomness (/dev/urandom)"),
    ("clock", [call("clock_gettime", 0, CLOCK.pack(1, 2), clockid=0)],
     [call("clock_gettime", 0, CLOCK.pack(1, 3), clockid=0)], "a clock"),
    ("clock", [attrs.evolve(call("getuid"), clocks=((0, 5),))], [attrs.evolve(call("getuid"), clocks=((0, 6),))],
     "a clock"),
    ("identity", [call("getpid", 100)], [call("getpid", 101)], "the number of a process or thread"),
    ("waiting", [call("epoll_wait", 1, b"a", epfd=3)], [call("epoll_wait", 0, epfd=3)],
     "what a wait ended with: a matter of time"),
    ("directory order", [opened("/d"), call("getdents64", 48, entries(b"a", b"b"), fd=3)],
     [opened("/d"), call("getdents64", 48, entries(b"b", b"a"), fd=3)], "the order of the entries of /d"),
    ("directory", [opened("/d"), call("getdents64", 48, entries(b"a", b"b"), fd=3)],
     [opened("/d"), call("getdents64", 48, entries(b"a", b"c"), fd=3)], "which entries /d has"),
    ("host function", [call("exchange", 1, b"a", message=b"hprice")], [call("exchange", 1, b"b", message=b"hprice")],
     "what a host function has returned"),
    ("command", [call("exchange", 1, b"a", message=b"r")], [call("exchange", 1, b"b", message=b"r")],
     "what the caller had the session do"),
    ("refusal", [call("socket", -1, domain=2)],
     [attrs.evolve(call("socket", -1, domain=2), refusals=(DenialEvent("socket", "EPERM", "no network"),))],
     "what the policy refuses"),
    ("answer", [call("getcpu", 1)], [call("getcpu", 2)], "the answer to a call"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "ours", "theirs", "words"), KINDS, ids=lambda each: each if type(each) is str else "")
def test_each_kind_is_named(kind: str, ours: list[RecordedCall], theirs: list[RecordedCall], words: str) -> None:
    found = compare(run(*ours, printed("yes\n")), run(*theirs, printed("no\n")))
    assert names(found)[0] == kind
    assert found.causes[0].words == words
    assert found.counts == {kind: 1}
    assert found.parting is not None
    assert found.parting.a.line == 'write(1, "yes\\n", 4) = 4'
    assert found.parting.b.line == 'write(1, "no\\n", 3) = 3'
    assert [(each.stream, each.number, each.ours, each.theirs) for each in found.lines] == [("stdout", 1, "yes", "no")]


def test_an_order_that_spans_several_calls_is_an_order() -> None:
    def listed(*parts: tuple[bytes, ...]) -> list[RecordedCall]:
        return [opened("/d"), *(call("getdents64", 48, entries(*part), fd=3) for part in parts)]

    found = compare(
        run(*listed((b"a", b"b"), (b"c", b"d")), printed("1")), run(*listed((b"a", b"c"), (b"b", b"d")), printed("2"))
    )
    assert names(found) == ["directory order"]


def test_a_value_that_is_printed_is_the_cause() -> None:
    def flaky(first: int, random: bytes, text: str) -> ComparedRun:
        clocks = ((0, first),)
        return run(
            attrs.evolve(call("getuid"), clocks=clocks), call("getrandom", 8, random, count=8), printed(text),
        )  # fmt: skip

    found = compare(flaky(17 * 10**17, b"1" * 8, "1700000000.0\n"), flaky(18 * 10**17, b"2" * 8, "1800000000.0\n"))
    assert names(found) == ["clock", "random"]
    assert found.causes[0].shows
    found = compare(flaky(17 * 10**17, b"1" * 8, "no"), flaky(18 * 10**17, b"2" * 8, "yes"))
    assert names(found) == ["random", "clock"]  # the last one before the runs part


def test_the_same_words_in_another_order_point_at_an_order() -> None:
    def flaky(seed: bytes, ns: int, text: str) -> ComparedRun:
        made = numbered(
            [call("getrandom", 16, seed, count=16), opened(SCRIPT), attrs.evolve(printed(text), clocks=((0, ns),))]
        )
        return ComparedRun("run", RunInputs(argv=("python", SCRIPT)), lambda: made)

    assert names(compare(flaky(b"1" * 16, 1, "a b"), flaky(b"2" * 16, 2, "b a"))) == ["hash seed", "clock"]
    assert names(compare(flaky(b"1" * 16, 1, "a b"), flaky(b"2" * 16, 2, "c d"))) == ["clock", "hash seed"]


def test_what_no_record_tells_is_said() -> None:
    found = compare(run(printed("1")), run(printed("2")))
    assert names(found) == ["unseen"]
    assert "addresses of objects" in found.causes[0].words
    assert "PYTHONHASHSEED" in found.causes[0].kind.advice


def test_times_of_files_are_no_cause_where_there_is_another() -> None:
    def made(mtime: int, *calls: RecordedCall) -> ComparedRun:
        return run(call("stat", 0, stat(5, mtime), path=b"/data"), *calls)

    found = compare(made(1, printed("1")), made(2, printed("2")))
    assert names(found) == ["unseen", "times"]
    found = compare(made(1, call("getpid", 1), printed("1")), made(2, call("getpid", 2), printed("2")))
    assert names(found) == ["identity"]
    found = compare(made(1700000000, printed("1700000000")), made(1800000000, printed("1800000000")))
    assert names(found)[0] == "times"


def test_what_was_given_comes_first() -> None:
    def inputs(**fields: Any) -> RunInputs:
        return RunInputs(**{"argv": ("pypy3", SCRIPT), "guest": "pypy3.11", **fields})

    def causes(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, str, Group]:
        pid = (call("getpid", number) for number in (1, 2))
        found = compare(
            run(next(pid), printed("1"), inputs=inputs(**one)), run(next(pid), printed("2"), inputs=inputs(**other))
        )
        return found.causes[0].kind.name, found.causes[0].words, found.causes[0].kind.group

    assert causes({}, {"guest": "pypy3.10"})[::2] == ("guest", Group.GUEST)
    assert causes({"builds": {"libc": "1"}}, {"builds": {"libc": "2"}}) == ("guest", "libc", Group.GUEST)
    assert causes({}, {"argv": ("pypy3", SCRIPT, "x")})[::2] == ("arguments", Group.INPUT)
    assert causes({"argv": ("pypy3", "-c", "1")}, {"argv": ("pypy3", "-c", "2")})[::2] == ("code", Group.CODE)
    assert causes({}, {"environment": {"A": "1"}}) == ("environment", "A", Group.INPUT)
    seeds = {"environment": {"A": "1", "PYTHONHASHSEED": "1"}}, {"environment": {"A": "2", "PYTHONHASHSEED": "2"}}
    assert causes(*seeds)[1] == "PYTHONHASHSEED, the seed of hashes"
    policies = {"policy": {"limits": {"threads": 1}}}, {"policy": {"limits": {"threads": 2}}}
    assert causes(*policies)[0] == "identity"  # no run has reached this limit
    policies = {"policy": {"environment": {"uid": 1}}}, {"policy": {"environment": {"uid": 2}}}
    assert causes(*policies) == ("policy", "environment.uid", Group.POLICY)


def test_a_run_that_was_ended_says_so() -> None:
    ours = run(printed("1"), printed("2"), ended="ok")
    found = compare(ours, run(printed("1"), ended="time limit (5 s)", was_ended=True))
    assert names(found) == ["ended"]
    assert found.ends == ("ok", "time limit (5 s)")
    assert found.parting is not None
    assert found.parting.b.line == "the thread asks nothing more"


def test_a_signal_is_told_by_its_place() -> None:
    ours = run(call("getuid"), call("getgid"), printed("1"), signals=[RecordedSignal(2, True, 3, 0.0)])
    theirs = run(call("getuid"), call("getgid"), printed("2"), signals=[RecordedSignal(2, True, 4, 0.0)])
    found = compare(ours, theirs)
    assert names(found) == ["signal"]
    assert found.causes[0].ours == "signal 2 after call 3"


def threads(first: int, *order: int) -> ComparedRun:
    """Returns a run of two threads with three calls each, in this order. first: the channel of the first thread."""
    channels = {1: first, 2: 3 - first}
    begun = [call("clone", 101 << 16 | channels[1], flags=1), call("clone", 102 << 16 | channels[2], flags=1)]
    steps = {thread: iter(range(3)) for thread in channels}
    return run(
        *begun, *(call("chdir", 0, path=b"%d%d" % (each, next(steps[each])), thread=channels[each]) for each in order),
        printed(str(order)),
    )  # fmt: skip


def test_threads_are_known_by_their_order_and_not_by_their_channels() -> None:
    found = compare(threads(1, 1, 2, 1, 2, 1, 2), threads(2, 1, 2, 1, 2, 1, 2))
    assert found.same
    assert found.counts == {}


def test_another_order_of_threads_is_named() -> None:
    found = compare(threads(1, 1, 2, 1, 2, 1, 2), threads(1, 1, 2, 2, 1, 1, 2))
    assert names(found) == ["threads"]
    assert found.causes[0].found is not None
    assert found.causes[0].found.a == 7
    assert found.parting is not None
    assert found.parting.thread == 0


def test_waits_for_locks_are_no_questions() -> None:
    lock = call("futex", -11, op=0)
    assert compare(run(lock, lock, printed("1")), run(lock, printed("1"))).same


def test_a_thread_whose_end_the_end_of_the_process_overtakes() -> None:
    assert compare(run(printed("1"), call("exit", thread=0)), run(printed("1"))).same


def test_readings_that_are_handed_over_belong_to_the_next_call() -> None:
    shipped = [attrs.evolve(call("clocks"), clocks=((0, at),)) for at in range(5)]
    assert compare(run(*shipped, printed("1")), run(printed("1"))).same
    found = compare(run(*shipped, printed("1")), run(printed("2")))
    assert names(found) == ["clock"]


def test_calls_are_aligned_and_not_counted() -> None:
    """When one run makes an additional call, the calls after it are still paired."""
    rest = [call("chdir", 0, path=b"%d" % number) for number in range(100)]
    found = compare(run(*rest), run(*rest[:50], call("sync"), *rest[50:]))
    asked = [row for row in found.rows if row.how == "asked"]
    assert len(asked) == 1
    assert asked[0].a is None
    assert asked[0].b is not None
    assert asked[0].b.line == "sync() = 0"


Numbers = Callable[[str], "array[int]"]


def letters(text: str) -> "array[int]":
    return array("Q", map(ord, text))


@pytest.mark.parametrize(
    ("one", "other"), [("", ""), ("abc", ""), ("", "abc"), ("abc", "abc"), ("abxyzc", "abzyxc"), ("aaaa", "aa"),
                       ("abcabcabc", "abcabc"), ("xabcdef", "abcdefy")],
)  # fmt: skip
def test_an_alignment_covers_both_sides(one: str, other: str) -> None:
    spans = align(letters(one), letters(other)).spans
    assert "".join(one[span.a_from : span.a_to] for span in spans) == one
    assert "".join(other[span.b_from : span.b_to] for span in spans) == other
    assert all(one[span.a_from : span.a_to] == other[span.b_from : span.b_to] for span in spans if span.same)
    assert all(first.same != second.same for first, second in itertools.pairwise(spans))


def test_alignment_finds_a_stretch_far_away() -> None:
    common = array("Q", range(1000, 3000))
    made = align(array("Q", range(10)) + common, array("Q", range(10_000, 13_000)) + common)
    assert made.spans == [Span(False, 0, 10, 0, 3000), Span(True, 10, 2010, 3000, 5000)]


def test_alignment_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aligning, "MOST_WORK", 100_000)
    one, other = array("Q", range(0, 400_000, 2)), array("Q", range(1, 400_000, 2))
    made = align(one, other)
    assert made.given_up
    assert made.spans == [Span(False, 0, len(one), 0, len(other))]


def test_calls_that_wait_for_their_counterparts_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_HELD", 100_000)
    late = [call("chdir", 0, path=b"%d" % number) for number in range(1000)]
    begun = call("clone", 1 | 101 << 16, flags=1)
    data = [(b"%d" % number) * 500 for number in range(200)]
    ours = [attrs.evolve(read(each), thread=1) for each in data]
    theirs = [attrs.evolve(read(b"x" + each), thread=1) for each in data]
    found = compare(run(begun, *ours, *late), run(begun, *late, *theirs))
    assert not found.is_aligned


def numbers(count: int, sign: int) -> ComparedRun:
    return run(*(call("getpid", sign * (number + 1)) for number in range(count)))


def test_rows_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MOST_ROWS", 50)
    found = compare(numbers(500, 1), numbers(500, -1))
    assert len(found.rows) < 60
    assert found.counts == {"identity": 500}


def test_of_many_answers_the_first_and_the_last_are_shown() -> None:
    """All of them are counted."""

    def made(sign: int) -> ComparedRun:
        return run(*(call("getpid", sign * (number + 1)) for number in range(3000)), printed(str(sign)))

    found = compare(made(1), made(-1))
    assert found.counts == {"identity": 3000}
    assert found.causes[0].count == 3000
    assert found.causes[0].found is not None
    assert found.first is not None
    assert (found.first.a, found.causes[0].found.a) == (3, 3002)


def test_pairs_of_calls_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MOST_PAIRS", 100)
    found = compare(numbers(500, 1), numbers(500, -1))
    assert found.counts == {"identity": 100}
    assert not found.is_aligned
    assert [found.pairs[at].a for at in (0, 49, 50, 99)] == [3, 52, 453, 502]


def test_threads_that_are_told_apart_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "_MOST_THREADS", 5)
    calls = [call("clone", 101 << 16 | number, flags=1) for number in range(1, 20)]
    calls += [call("getuid", thread=number) for number in range(1, 20)]
    found = compare(run(*calls), run(*calls))
    assert found.same


HOSTILE = "\x1b[31m<script>alert(1)</script>\u202e\n\"'&"


def test_a_page_shows_hostile_text_as_text() -> None:
    def made(number: int) -> ComparedRun:
        name = HOSTILE + str(number)
        inputs = RunInputs(
            guest=name, recorded=name, argv=(name, name), environment={name: name}, policy={name: {name: name}},
            builds={name: name},
        )  # fmt: skip
        calls = numbered([call(name, 0, path=name.encode()), opened(name), read(name.encode()), printed(name)])
        return ComparedRun(name, inputs, lambda: calls, ended=name)

    found = compare(made(1), made(2))
    text = page(found)
    assert "<script" not in text
    assert not any(bad in text for bad in ("\x1b", "\u202e"))
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text
    assert as_data(found)["same"] is False


@pytest.mark.full
def test_a_page_of_large_runs_is_small() -> None:
    data = [call("write", 1, fd=1, buf=b"<" * 100_000, count=number) for number in range(5000)]
    other = [call("write", 1, fd=1, buf=b">" * 100_000, count=number) for number in range(5000)]
    assert len(page(compare(run(*data), run(*other)))) < 4 << 20
