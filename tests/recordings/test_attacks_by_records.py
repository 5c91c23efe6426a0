"""Forged records: they may determine what the guest does, and affect nothing else."""

import contextlib
import copy
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import proxybox
from proxybox import RecordError, SandboxStartError, Status
from proxybox.controller.header import CALL_NO_THREAD, INSPECT
from proxybox.controller.process.reaper import settle
from proxybox.controller.record import events
from proxybox.controller.record.decoding import Decoder
from proxybox.controller.record.encoding import Encoder
from proxybox.controller.record.events import CallEvent, RecordedAnswer, StoredData
from proxybox.controller.record.format import FrameKind
from proxybox.controller.wire.protocol import encode_request
from tests.hostile.conftest import children
from tests.recordings.madeup import made_up
from tests.recordings.rewriting import changed, frames_of, with_start, written


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of a program that opens, reads and prints."""
    path = tmp_path_factory.mktemp("taken") / "run.pbx"
    code = "import os, time, ssl\nprint(os.listdir('/box'), time.time(), open('/box/main.py').read(9))"
    assert proxybox.run(code, record=path).ok
    return path


@pytest.fixture
def record(taken: Path, tmp_path: Path) -> Path:
    path = tmp_path / "run.pbx"
    path.write_bytes(taken.read_bytes())
    return path


def events_of(path: Path) -> list[events.Event]:
    decoder = Decoder()
    return [
        event for frame in frames_of(path) if frame.kind == FrameKind.EVENTS for event in decoder.events(frame.data)
    ]


def rewritten(path: Path, found: list[events.Event]) -> Path:
    """Writes the record with these events in place of its own."""
    encoder = Encoder(0)
    for event in found:
        if isinstance(event, CallEvent | events.Answered):
            _effects(encoder, event)
        if isinstance(event, CallEvent):
            answer = event.answer
            value, stored = (None, ()) if answer is None else (answer.value, answer.stored)
            encoder.call(event.channel, event.at_ns, event.frame, value, stored)
        elif isinstance(event, events.Answered):
            encoder.answer(event.channel, event.at_ns, event.answer.value, event.answer.stored)
        elif isinstance(event, events.LibraryFileEvent):
            encoder.file(event)
        elif isinstance(event, events.Sent):
            encoder.sent(event.signal, event.late, event.at_ns)
        elif isinstance(event, events.EndEvent):
            encoder.ended(event)
    whole = frames_of(path)
    rest = [(each.kind, each.data) for each in whole if each.kind != FrameKind.EVENTS]
    return written(path, [rest[0], (FrameKind.EVENTS, encoder.take()), *rest[1:]])


def _effects(encoder: Encoder, event: CallEvent | events.Answered) -> None:
    for effect in event.effects:
        if isinstance(effect, events.PrintedData):
            assert effect.data is None or isinstance(effect.data, bytes)
            encoder.printed(effect.stream, effect.size, effect.data)
        elif isinstance(effect, events.DenialEvent):
            encoder.refused(effect)
        elif isinstance(effect, events.Mapped):
            encoder.mapped(effect.file)
        else:
            encoder.clocks(event.channel, event.at_ns, effect.raw)


def changed_calls(path: Path, which: Callable[[CallEvent], bool], change: Callable[[CallEvent], object]) -> Path:
    """Changes the calls for which `which` is true, in place."""
    found = copy.deepcopy(events_of(path))
    calls = [event for event in found if isinstance(event, CallEvent) and which(event)]
    assert calls
    for call in calls:
        change(call)
    return rewritten(path, found)


def number(call: CallEvent) -> int:
    return int.from_bytes(call.frame[4:8], "little")


def reads_the_program(call: CallEvent) -> bool:
    return call.answer is not None and any(
        isinstance(each.data, bytes) and b"import os, time" in each.data for each in call.answer.stored
    )


def test_a_record_cannot_have_a_copy_made(record: Path) -> None:
    """A forged answer is the value by which the controller tells the stub to make a copy of the program."""
    found = events_of(record)
    calls = [index for index, each in enumerate(found) if isinstance(each, CallEvent) and each.answer is not None]
    settle()
    before = children()
    for index in calls[40::80]:
        each = found[index]
        assert isinstance(each, CallEvent)
        forged = attrs.evolve(each, answer=RecordedAnswer(INSPECT, ()))
        done = proxybox.replay(rewritten(record, [*found[:index], forged, *found[index + 1 :]]), timeout=20)
        assert not done.ok
        settle()
        assert children() == before


def test_a_rewritten_record_is_replayed_as_the_original(record: Path) -> None:
    assert proxybox.replay(rewritten(record, events_of(record))).ok


# --- the host ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [b"/etc/passwd", b"/box/../etc/shadow", b"/proc/self/environ", b"/", b"", b"etc/passwd", b"/tmp", b"\xff" * 5000,
     b"/usr/lib/pypy3.11/../../../etc/shadow", b"/dev/stdin", b"/a\0b"],
)  # fmt: skip
def test_a_file_of_the_library_is_no_other_file_of_the_host(path: bytes, record: Path) -> None:
    def lead_away(event: events.Event) -> events.Event:
        return (
            events.LibraryFileEvent(event.number, event.size, event.digest, path)
            if isinstance(event, events.LibraryFileEvent)
            else event
        )

    rewritten(record, [lead_away(event) for event in events_of(record)])
    with pytest.raises(RecordError, match=r"interpreter here has no|is another one here|too long"):
        proxybox.replay(record)


def test_a_library_with_another_digest_is_refused(record: Path) -> None:
    def change(event: events.Event) -> events.Event:
        return (
            events.LibraryFileEvent(event.number, event.size, bytes(32), event.path)
            if isinstance(event, events.LibraryFileEvent)
            else event
        )

    rewritten(record, [change(event) for event in events_of(record)])
    with pytest.raises(RecordError, match="another one here"):
        proxybox.replay(record)


def test_a_mapping_that_was_never_asked_for_is_not_granted(record: Path) -> None:
    found = copy.deepcopy(events_of(record))
    call = next(event for event in found if isinstance(event, CallEvent) and number(event) == 1)
    call.effects = (*call.effects, events.Mapped(0))
    rewritten(record, found)
    done = None
    with contextlib.suppress(RecordError):
        done = proxybox.replay(record)
    assert done is None or done.ok  # its descriptor is one of the guest's that nothing maps


def test_mounts_of_the_recorded_policy_are_not_made(record: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    mounts = [{"target": "/secret", "source": str(secret), "mode": "rw"}]
    with_start(record, lambda start: start["policy"]["filesystem"].update(mounts=mounts, box="rw"))
    assert proxybox.replay(record).ok
    assert not list(secret.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"memory": -1}, {"memory": 1 << 60}, {"threads": 0}, {"threads": 1000}, {"uid": -1}, {"uid": 1 << 40},
        {"pid": "x"}, {"nursery": None}, {"recorded": 7},
    ],
)  # fmt: skip
def test_an_interpreter_is_not_started_in_a_way_that_cannot_be(change: dict[str, Any], record: Path) -> None:
    with_start(record, lambda start: start["launch"].update(change))
    with pytest.raises(RecordError, match="starts its interpreter with"):
        proxybox.replay(record)


@pytest.mark.parametrize(
    "change",
    [{"argv": None}, {"argv": ["a\0b"]}, {"argv": [1]}, {"environment": {"A": 1}}, {"environment": []}, {"launch": 3},
     {"environment": {"LD_PRELOAD\0": "x"}}, {"environment": {"A=B": "x"}}, {"environment": {"": "x"}}],
)  # fmt: skip
def test_words_that_make_no_sense_are_refused(change: dict[str, Any], record: Path) -> None:
    with_start(record, lambda start: start.update(change))
    with pytest.raises(RecordError):
        proxybox.replay(record)


@pytest.mark.parametrize(
    "variables",
    [
        {"LD_PRELOAD": "/tmp/evil.so"},
        {"LD_LIBRARY_PATH": "/tmp"},
        {"LD_AUDIT": "/tmp/evil.so"},
        {"GLIBC_TUNABLES": "glibc.malloc.check=1"},
        {"GCONV_PATH": "/tmp"},
        {"LOCPATH": "/tmp"},
    ],
)
def test_variables_of_a_record_do_not_lead_the_loader_anywhere(variables: dict[str, str], record: Path) -> None:
    with_start(record, lambda start: start["environment"].update(variables))
    with pytest.raises(RecordError, match="the record's environment"):
        proxybox.replay(record)


@pytest.mark.parametrize("builds", [None, {}, {"pypy3.11": "00"}, [], {"../../etc/passwd": "x"}])
def test_another_interpreter_is_refused(builds: Any, record: Path) -> None:
    with_start(record, lambda start: start["guest"].update(builds=builds))
    with pytest.raises(RecordError, match=r"interpreter|another build"):
        proxybox.replay(record)


@pytest.mark.parametrize("policy", [None, 7, {"limits": {"wall_time": "soon"}}, {"unknown": 1}, {"filesystem": []}])
def test_a_policy_that_makes_no_sense_is_refused(policy: Any, record: Path) -> None:
    with_start(record, lambda start: start.update(policy=policy))
    try:
        done = proxybox.replay(record)
    except RecordError:
        return
    assert done.result.status in Status  # an empty policy is a policy


# --- the guest --------------------------------------------------------------------------------------------------------


def test_an_answer_that_was_changed_is_not_taken_for_the_recorded_run(record: Path) -> None:
    def shorten(call: CallEvent) -> None:
        assert call.answer is not None
        call.answer.stored = tuple(
            StoredData(each.register, each.offset, each.data.replace(b"import os", b"evil code"))
            if isinstance(each.data, bytes) else each for each in call.answer.stored
        )  # fmt: skip

    changed_calls(
        record,
        reads_the_program,
        shorten,
    )
    done = proxybox.replay(record)
    assert not done.ok
    assert done.divergence is not None


def test_a_question_that_was_changed_is_told_side_by_side(record: Path) -> None:
    def rename(call: CallEvent) -> None:
        call.frame = call.frame.replace(b"/box", b"/boy")

    changed_calls(record, lambda call: call.frame.endswith(b"/box"), rename)
    done = proxybox.replay(record)
    parted = done.divergence
    assert parted is not None
    assert parted.expected is not None
    assert parted.got is not None
    assert parted.expected.name == parted.got.name
    assert b"/boy" in parted.expected.arguments.values()
    assert b"/box" in parted.got.arguments.values()
    assert (parted.got.thread, parted.number) == (100, done.calls + 1)


def test_output_that_was_changed_is_seen(record: Path) -> None:
    changed(record, FrameKind.CONTENT, lambda data: data.replace(b"['main.py']", b"['MAIN.py']"))
    done = proxybox.replay(record)
    assert not done.ok
    assert done.divergence is not None
    assert "stdout" in done.divergence.why


def test_an_end_that_was_changed_is_seen(record: Path) -> None:
    found = [event for event in events_of(record) if not isinstance(event, events.EndEvent)]
    for end in (events.EndEvent("", "", 5, None), events.EndEvent("time_limit", "limits.wall_time", None, 9)):
        done = proxybox.replay(rewritten(record, [*found, end]))
        assert not done.ok or done.result.status is Status.OK
    with pytest.raises(RecordError, match="does not know"):
        proxybox.replay(rewritten(record, [*found, events.EndEvent("evil", "", None, None)]))


def test_calls_that_never_come_are_not_waited_for(record: Path) -> None:
    found = events_of(record)
    at = len(found) // 2
    other = CallEvent(1, 0, encode_request(39), RecordedAnswer(5))
    done = proxybox.replay(rewritten(record, [*found[:at], other, *found[at:]]))
    assert done.divergence is not None
    assert "does not come" in done.divergence.why
    assert done.divergence.expected is not None
    assert done.divergence.got is not None


def test_answers_to_no_call_are_refused(record: Path) -> None:
    found = events_of(record)
    with pytest.raises(RecordError, match="answer to no call"):
        proxybox.replay(rewritten(record, [*found[:9], events.Answered(3, 0, RecordedAnswer(1)), *found[9:]]))


@pytest.mark.parametrize(("tid", "error"), [(101, -11), (100, -11), (7, -11), (101, 0), (101, 5), (101, -5000)])
def test_a_thread_that_was_made_is_not_taken_back(tid: int, error: int, tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"
    assert proxybox.run("import threading\nthreading.Thread(target=print).start()", record=path).ok
    found = events_of(path)
    at = next(at for at, each in enumerate(found) if isinstance(each, CallEvent) and number(each) == 56) + 1
    untrue = CallEvent(0, 0, encode_request(CALL_NO_THREAD, (tid, error % (1 << 64))), RecordedAnswer(0))
    forged = rewritten(path, [*found[:at], untrue, *found[at:]])
    if (tid, error) == (101, -11):
        assert proxybox.replay(forged).divergence is not None
    else:
        with pytest.raises(RecordError, match="not granted"):
            proxybox.replay(forged)


def test_contents_that_were_left_out_are_told(record: Path) -> None:
    def leave_out(call: CallEvent) -> None:
        assert call.answer is not None
        call.answer.stored = tuple(
            StoredData(each.register, each.offset, events.LeftOut(7)) for each in call.answer.stored
        )

    changed_calls(
        record,
        reads_the_program,
        leave_out,
    )
    done = proxybox.replay(record)
    assert done.divergence is not None
    assert "leaves out 7 bytes" in done.divergence.why


def test_something_after_the_end_is_refused(record: Path) -> None:
    whole = [(each.kind, each.data) for each in frames_of(record)]
    with pytest.raises(RecordError, match="follows the end"):
        proxybox.replay(written(record, [*whole, (FrameKind.EVENTS, b"")]))


@pytest.mark.parametrize("end", [b"", b"[]", b"{}", b"[" * 100_000, b'{"sizes": [99]}', b'{"sizes": [-1]}'])
def test_an_end_that_makes_no_sense_is_refused(end: bytes, record: Path) -> None:
    changed(record, FrameKind.END, lambda _: end)
    with pytest.raises(RecordError, match=r"end of the record|no JSON object"):
        proxybox.replay(record)
    with proxybox.Record(record) as read, pytest.raises(RecordError):
        list(read.calls())


def test_made_up_events_end_a_replay_and_nothing_else(record: Path) -> None:
    """A few of many: tests/soak/records.py tries more."""
    found, chance = events_of(record), random.Random(20)
    for _ in range(12):
        forged = copy.deepcopy(found)
        for _ in range(chance.randint(1, 3)):
            forge(forged, chance)
        try:
            done = proxybox.replay(rewritten(record, forged))
        except (RecordError, SandboxStartError):
            continue
        assert done.result.status in Status


def forge(found: list[events.Event], chance: random.Random) -> None:
    """Changes one event at random."""
    at = chance.randrange(len(found))
    event = found[at]
    kind = chance.randrange(5)
    if kind == 0:
        del found[at]
    elif kind == 1:
        found.insert(at, events.Sent(chance.randint(1, 64), chance.random() < 0.5))
    elif kind == 2:
        found.insert(at, copy.deepcopy(found[chance.randrange(len(found))]))
    elif isinstance(event, CallEvent) and event.answer is not None:
        event.answer.value = chance.choice((0, -1, -22, 1 << 41, 2**63 - 1, 1 << 20, -(1 << 40) - 1, 7))
        if kind == 3:
            event.answer.stored = (
                *event.answer.stored, StoredData(chance.randint(0, 5), chance.randrange(64), chance.randbytes(64))
            )  # fmt: skip
    elif isinstance(event, CallEvent):
        event.answer = RecordedAnswer(0)


# --- what an audit has found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["3./../../../../bin/true", "/bin/true", "../evil", "pypy3.11/../../evil", "", "python3.13\n", "python4.1"]
)
def test_no_program_of_the_host_is_started_by_the_name_of_an_interpreter(name: str, record: Path) -> None:
    with_start(record, lambda start: start["guest"].update(name=name))
    with pytest.raises(RecordError, match="which kind of interpreter"):
        proxybox.replay(record)


def test_a_policy_extends_no_file_of_the_host(record: Path) -> None:
    with_start(record, lambda start: start.update(policy={"extends": "/etc/passwd"}))
    with pytest.raises(RecordError, match="names no file of the host"):
        proxybox.replay(record)
    with proxybox.Record(record) as read, pytest.raises(RecordError, match="names no file of the host"):
        _ = read.policy


def test_output_is_what_the_program_passes(record: Path) -> None:
    found = copy.deepcopy(events_of(record))
    call = next(event for event in found if isinstance(event, CallEvent) and number(event) == 1)
    call.effects = (events.PrintedData(0, 10, b"score 100\n"),)
    with pytest.raises(RecordError, match="does not pass"):
        proxybox.replay(rewritten(record, found))


def test_events_after_the_end_are_refused(record: Path) -> None:
    found = events_of(record)
    with pytest.raises(RecordError, match="after the end"):
        proxybox.replay(rewritten(record, [*found, CallEvent(0, 0, encode_request(39), RecordedAnswer(5))]))


def test_calls_that_were_put_before_the_end_are_missed(record: Path) -> None:
    found = events_of(record)
    extra = [CallEvent(0, 0, encode_request(39), RecordedAnswer(5))] * 100
    done = proxybox.replay(rewritten(record, [*found[:-1], *extra, found[-1]]))
    assert not done.ok


def test_bytes_after_the_last_frame_are_seen(record: Path) -> None:
    record.write_bytes(record.read_bytes() + bytes(5000))
    with pytest.raises(RecordError):
        proxybox.replay(record)


def test_a_replay_ends_in_its_time(record: Path) -> None:
    path = record.with_name("loop.pbx")
    with proxybox.Sandbox(limits={"wall_time": 0.3}) as box:
        box.run("while True: pass", record=path)
    found = [event for event in events_of(path) if not isinstance(event, events.EndEvent)]
    rewritten(path, [*found, events.EndEvent("", "", 0, None)])
    done = proxybox.replay(path, timeout=1)
    assert not done.ok


def test_a_record_gives_its_program_no_more_memory_than_there_is(record: Path) -> None:
    with_start(record, lambda start: start["launch"].update(memory=None))
    assert proxybox.replay(record).ok


def test_what_is_kept_of_effects_is_bounded(record: Path) -> None:
    found = copy.deepcopy(events_of(record))
    call = next(event for event in found if isinstance(event, CallEvent))
    call.effects = (events.DenialEvent("a", "b", "c"),) * 10_000
    with pytest.raises(RecordError, match="more effects"):
        proxybox.replay(rewritten(record, found))


@pytest.mark.parametrize("effect", [events.Clocks(bytes(9 * 256)), events.PrintedData(0, 7 << 20, bytes(7 << 20))])
def test_the_size_of_what_is_kept_of_effects_is_bounded(effect: events.Effect, record: Path) -> None:
    """A frame of effects takes a few kilobytes in a file, and effects are in memory until their call comes."""
    encoder = Encoder(0)
    if isinstance(effect, events.Clocks):
        for _ in range(3000):
            encoder.clocks(0, 0, effect.raw)
    else:
        _effects(encoder, CallEvent(0, 0, encode_request(39), None, (effect,)))
    frame = (int(FrameKind.EVENTS), encoder.take())
    first, *rest = [(int(each.kind), each.data) for each in frames_of(record)]
    written(record, [first, frame, frame, frame, *rest])
    with proxybox.Record(record) as read, pytest.raises(RecordError, match="more effects"):
        list(read.calls())


def test_a_signature_has_its_size(record: Path) -> None:
    whole = [(each.kind, each.data) for each in frames_of(record)]
    for signatures in ([b"{}" + b" " * 70_000], [b"{}"] * 65):
        path = written(record.with_name("a.pbx"), [*whole, *((int(FrameKind.SIGNATURE), each) for each in signatures)])
        with proxybox.Record(path) as read, pytest.raises(RecordError, match="signature"):
            list(read.calls())


# --- small files that take much to read -------------------------------------------------------------------------------


def ended(record: Path, change: Callable[[dict[str, Any]], object], *contents: bytes) -> Path:
    """Changes the dict of END in place, and adds contents after those that END names."""
    whole = [(each.kind, each.data) for each in frames_of(record)]
    at = next(at for at, (kind, _) in enumerate(whole) if kind == FrameKind.END)
    seen = json.loads(whole[at][1])
    seen["sizes"] += map(len, contents)
    change(seen)
    pieces = [(int(FrameKind.CONTENT), each) for each in contents]
    return written(record, [*whole[:at], *pieces, (int(FrameKind.END), json.dumps(seen).encode()), *whole[at + 1 :]])


def test_a_list_of_changed_files_is_no_bomb(record: Path) -> None:
    """Three of its bytes are an empty list of 56 bytes, and a thousand of its bytes are compressed to one."""
    bomb = b"[" + b"[]," * (2 << 20) + b"[]]"
    ended(record, lambda end: end.update(changes=len(end["sizes"]) - 1), bomb)
    assert record.stat().st_size < 100_000
    with proxybox.Record(record) as read, pytest.raises(RecordError, match="more changed files than are read"):
        _ = read.result


@pytest.mark.parametrize("amount", ["1", None, [1], {}, float("nan"), float("inf"), 1 << 70, True])
@pytest.mark.parametrize("name", ["wall", "calls"])
def test_usage_is_numbers(name: str, amount: Any, record: Path) -> None:
    ended(record, lambda end: end["usage"].update({name: amount}))
    with proxybox.Record(record) as read, pytest.raises(RecordError, match="no amount of"):
        _ = read.result


def test_any_number_of_signals_can_be_read(tmp_path: Path) -> None:
    """A program may send itself any number of signals; its record can still be read."""

    def fill(encoder: Encoder) -> Iterator[None]:
        encoder.call(0, 0, encode_request(39), 5)
        for _ in range(100_010):
            encoder.sent(10, False, 0)
            yield

    with proxybox.Record(made_up(tmp_path / "run.pbx", fill)) as read:
        assert len(list(read.calls())) == 1
        assert len(read.signals) == 100_000


def test_a_replay_at_a_speed_ends_in_its_time(record: Path) -> None:
    """The record says that a minute has passed before an answer."""
    found = copy.deepcopy(events_of(record))
    for event in found[len(found) // 2 :]:
        if isinstance(event, CallEvent | events.Answered):
            event.at_ns += 60 * 10**9
    begun = time.monotonic()
    done = proxybox.replay(rewritten(record, found), speed=1, timeout=2)
    assert done.result.status is Status.TIME_LIMIT
    assert time.monotonic() - begun < 40
