"""The explanations of records: of real runs, and of records that attack the explanation or its reader."""

import io
import json
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import proxybox
from proxybox import HostFunction, RecordError
from proxybox.cli.explain import Strace
from proxybox.controller import abi
from proxybox.controller.record.encoding import Encoder
from proxybox.controller.record.events import DenialEvent
from proxybox.controller.record.format import FrameKind
from proxybox.controller.record.parting import Frame
from proxybox.controller.wire.protocol import encode_request
from proxybox.records import openfiles
from proxybox.records.explaining import account as accounts
from proxybox.records.explaining import profiles, timeline
from proxybox.records.explaining.account import CallSummary
from proxybox.records.explaining.markup import as_svg
from proxybox.records.explaining.page import page
from proxybox.records.explaining.picture import MOST_DRAWN, draw
from proxybox.records.explaining.profiles import Folded, TraceEvents, as_oscall
from proxybox.records.explaining.reading import RecordSummary, explain
from proxybox.records.explaining.sections import as_data, is_of_interpreter, seconds, sections
from proxybox.records.explaining.timeline import Timeline
from proxybox.records.lines import Lines
from proxybox.records.openfiles import OpenFiles
from proxybox.records.record import Record, RecordedCall
from proxybox.terminal import strace
from tests.recordings.madeup import ADDRESS, made_up, openat, write
from tests.recordings.rewriting import frames_of, with_start, written

PROGRAM = """
import os, random, socket, threading, time, signal
data = open("in.txt").read()
open("out.txt", "w").write(data * 3)
os.mkdir("/tmp/d"); os.rename("out.txt", "kept.txt"); os.listdir("/tmp")
try: open("/etc/shadow")
except OSError: pass
for _ in range(3):
    try: socket.socket()
    except OSError: pass
time.monotonic(); os.urandom(100)
thread = threading.Thread(target=time.sleep, args=(0.2,)); thread.start(); thread.join()
signal.signal(signal.SIGUSR1, lambda *_: None); os.kill(os.getpid(), signal.SIGUSR1)
print("to the one"); os.write(2, b"to the other\\n")
"""


def told(path: Path, *consumers: Any) -> RecordSummary:
    """Returns the explanation of a record."""
    with Record(path) as record:
        return explain(record, consumers)


def words(explanation: RecordSummary, *, everything: bool = False) -> dict[str, str]:
    """Returns the sections by title, each as one text."""
    return {
        each.title: "\n".join([*each.lines, *("  ".join(row) for row in each.rows), *each.after])
        for each in sections(explanation, everything=everything)
    }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explained") / "run.pbx"
    proxybox.run(PROGRAM, files={"in.txt": b"abcd"}, record=path).check()
    return path


# --- real runs --------------------------------------------------------------------------------------------------------


def test_files_that_were_read_and_written(recorded: Path) -> None:
    explanation = told(recorded)
    files = explanation.account.files
    assert files["/box/in.txt"].opened == 1
    assert files["/box/in.txt"].read == 4
    assert files["/box/out.txt"].written == 12
    assert "renamed to /box/kept.txt" in files["/box/out.txt"].changes
    assert files["/tmp/d"].changes == {"folder made": 1}
    assert files["/tmp"].listed == 1
    assert files["/etc/shadow"].errors == {"ENOENT": 1}
    text = words(explanation)
    assert re.search(r"^/box/in\.txt  1  4  $", text["What it read"], re.MULTILINE)
    assert re.search(r"^/box/kept\.txt .*added, 12 bytes$", text["What it wrote and changed"], re.MULTILINE)
    assert "/etc/shadow" in text["What it looked for in vain"]


def test_files_of_the_interpreter_are_one_line_unless_all_are_asked_for(recorded: Path) -> None:
    explanation = told(recorded)
    short, long = words(explanation)["What it read"], words(explanation, everything=True)["What it read"]
    assert "/usr/lib" not in short
    assert re.search(r"own files: \d+ opened, [\d,.]+ \S+ read", short)
    assert len(long.splitlines()) > len(short.splitlines()) + 10


def test_what_was_printed_asked_and_refused(recorded: Path) -> None:
    explanation = told(recorded)
    text = words(explanation)
    assert text["What it printed"].splitlines() == [
        "stdout: 11 bytes", "  | to the one", "stderr: 13 bytes", "  | to the other",
    ]  # fmt: skip
    asked = explanation.account.asked
    assert asked.clocks
    assert asked.random_bytes >= 100
    assert asked.threads == 1
    assert asked.signals_sent == {"SIGUSR1": 1}
    assert asked.signals_received == {"SIGUSR1": 1}
    assert "SIGUSR1" in asked.signals_handled
    (refused,) = explanation.account.refusals.items()
    assert (refused[0].call, refused[0].errno, refused[1].count) == ("socket", "EPERM", 3)
    assert "network" in text["What it was refused, and why"]


def test_where_a_thread_waited(recorded: Path) -> None:
    """It sleeps until a time, so the wait is shorter than the sleep by the time before the call."""
    account = told(recorded).account
    slept = [wait for (name, _), wait in account.waits.items() if name in ("clock_nanosleep", "nanosleep")]
    assert sum(wait.total for wait in slept) >= 0.05
    assert account.threads[1].waited >= 0.05
    assert account.calls == sum(thread.calls for thread in account.threads.values())


def test_functions_of_the_caller_are_named(tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"
    functions = {"double": lambda value: 2 * value, "long": HostFunction(len)}
    code = "import host; host.double(1); host.double(2); host.long('x' * 200_000)"
    with proxybox.Sandbox(functions=functions) as box, box.session(record=path) as session:
        session.exec(code).check()
    assert {name: used.count for name, used in told(path).account.asked.host.items()} == {"double": 2, "long": 1}


def test_policy_is_told_by_its_differences(tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"
    proxybox.run("pass", policy={"limits": {"threads": 3}}, record=path)
    explanation = told(path)
    assert explanation.policy == (("limits.threads", "3"),)
    assert "limits.threads = 3" in words(explanation)["What was run"]


def test_a_record_that_was_cut_off_is_explained_up_to_there(recorded: Path, tmp_path: Path) -> None:
    kept = [(each.kind, each.data) for each in frames_of(recorded) if each.kind in (FrameKind.START, FrameKind.EVENTS)]
    explanation = told(written(tmp_path / "cut.pbx", kept))
    assert explanation.result is None
    assert "/box/in.txt" in explanation.account.files
    assert "cut off after" in words(explanation)["How it ended"]


def test_trace_events_have_every_call(recorded: Path) -> None:
    file = io.StringIO()
    events = TraceEvents(file)
    explanation = told(recorded, events)
    events.finish()
    found = json.loads(file.getvalue())["traceEvents"]
    calls = [each for each in found if "call" in each.get("args", {})]
    assert len(calls) == explanation.account.calls
    assert {each["args"]["name"] for each in found if each["name"] == "thread_name"} == {"thread 0", "thread 1"}
    assert any(each["ph"] == "X" and each["dur"] >= 50_000 for each in calls)
    assert any("refused" in each["cat"] for each in calls)


def test_folded_stacks_count_calls_or_time(recorded: Path) -> None:
    calls, time = Folded(by_time=False), Folded(by_time=True)
    explanation = told(recorded, calls, time)
    lines = list(calls.lines())
    assert all(re.fullmatch(r"[^;]+;[^;]+(;[^;]+)? \d+\n", line) for line in lines)
    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == explanation.account.calls
    assert any(line.startswith("descriptors;read;/box/in.txt ") for line in lines)
    assert sum(int(line.rsplit(" ", 1)[1]) for line in time.lines()) >= 50_000


def test_explanation_as_data_is_json(recorded: Path) -> None:
    data = json.loads(json.dumps(as_data(told(recorded))))
    assert data["status"] == "ok"
    assert data["printed"]["stdout"] == {"size": 11, "beginning": "to the one\n"}
    assert {"path": "/box/kept.txt", "kind": "added", "type": "file"} in data["changes"]


def test_picture_shows_threads_waits_refusals_and_output(recorded: Path) -> None:
    line = Timeline()
    told(recorded, line)
    root = draw(line, "a program")
    texts = [each.text for each in root.iter("text")]
    assert {"thread 0", "thread 1", "printed", "signals", "a program"} <= set(texts)
    titles = {(each.get("class"), title.text or "") for each in root.iter() for title in each.findall("title")}
    assert any(kind == "wait" and "clock_nanosleep" in text for kind, text in titles)
    assert any(kind == "refused" and "network" in text for kind, text in titles)
    assert any(kind == "stderr" and "to the other" in text for kind, text in titles)


# --- descriptors ------------------------------------------------------------------------------------------------------


def recorded_call(name: str, result: int | None = 0, /, **arguments: Any) -> RecordedCall:
    """Returns a call as a record has it."""
    return RecordedCall(1, 0, 0.0, name, "paths", arguments, {}, result=result)


def after(*calls: RecordedCall) -> OpenFiles:
    """Returns the descriptors after these calls."""
    files = OpenFiles("/box")
    for call in calls:
        files.follow(call)
    return files


def test_paths_count_from_their_directories() -> None:
    files = after(
        recorded_call("chdir", path=b"sub"),
        recorded_call("openat", 5, dirfd=abi.AT_FDCWD, path=b"folder", flags=0),
        recorded_call("openat", 6, dirfd=5, path=b"./a", flags=0),
        recorded_call("dup2", 7, fd=6, newfd=7),
        recorded_call("close", fd=6),
    )
    assert files.cwd == "/box/sub"
    assert files.name(7) == "/box/sub/folder/a"
    assert files.name(6) == "<descriptor 6>"
    assert files.subject(recorded_call("newfstatat", dirfd=7, path=b"", flags=0x1000)) == "/box/sub/folder/a"


@pytest.mark.parametrize("path", [b"/" + b"a" * 4000, b"a" * 4000, b"/\xf0" * 2000])
def test_long_paths_are_cut(path: bytes) -> None:
    """Each byte that is no UTF-8 becomes four characters."""
    files = after(recorded_call("chdir", path=path), recorded_call("openat", 5, dirfd=-100, path=path))
    assert len(files.subject(recorded_call("stat", path=path))) <= openfiles.LONGEST_PATH
    assert max(len(files.cwd), len(files.name(5))) <= openfiles.LONGEST_PATH


def test_parents_stay_in_paths() -> None:
    """The part before `..` may be a symbolic link."""
    assert OpenFiles("/box").subject(recorded_call("stat", path=b"link/../x")) == "/box/link/../x"


def test_calls_that_failed_open_and_close_nothing() -> None:
    files = after(recorded_call("openat", -2, dirfd=-100, path=b"/a"), recorded_call("close", -9, fd=0))
    assert files.name(0) == "<stdin>"
    assert files.name(-2) == "<descriptor -2>"


def test_a_descriptor_that_an_opening_closes_is_closed() -> None:
    files = after(
        recorded_call("openat", 3, dirfd=-100, path=b"/a", mode=0, place=1),
        recorded_call("openat", 4, dirfd=-100, path=b"/b", mode=4 << 32, place=1),
    )
    assert (files.name(3), files.name(4)) == ("<descriptor 3>", "/b")


@pytest.mark.parametrize(
    ("path", "is_system"),
    [
        ("/usr/lib/pypy3.11/os.py", True), ("/opt/pypy/lib/x.py", True), ("/etc/localtime", True),
        ("/box/pyvenv.cfg", True), ("/etc/passwd", False), ("/box/usr/lib", False), ("/opt/pypyx", False),
    ],
)  # fmt: skip
def test_files_of_the_interpreter(path: str, is_system: bool) -> None:
    assert is_of_interpreter(path, "/opt/pypy") is is_system


def test_durations() -> None:
    assert [seconds(each) for each in (0.0000123, 0.0123, 1.23456)] == ["12 µs", "12.3 ms", "1.235 s"]


# --- attacks ----------------------------------------------------------------------------------------------------------

#: A text that closes elements and attributes, moves the cursor, reorders text, and looks like a frame or an event.
EVIL = '/\x1b[2J\x9b\r\n\u202e</title><script>alert(1)</script>"\' onload=x <img src=//x>;evil 99\n","ph":"M"]]>\u2066'
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "div", "details", "summary", "svg", "rect",
    "text", "line", "path", "pre", "br", "table", "thead", "tbody", "tr", "th", "td", "p",
}  # fmt: skip
ATTRIBUTES = {
    "charset", "http-equiv", "content", "name", "lang", "class", "role", "tabindex", "aria-label", "xmlns", "viewbox",
    "width", "height", "x", "y", "x1", "x2", "y1", "y2", "d", "scope", "text-anchor", "font-size",
}  # fmt: skip


class Elements(HTMLParser):
    """The elements and attributes of a page, as a browser parses them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    def fill(encoder: Encoder) -> Iterator[None]:
        text = EVIL.encode()
        encoder.call(0, 1000, openat(text), 3)
        encoder.call(0, 2000, encode_request(3, (3,)), 0)
        encoder.call(0, 2500, openat(text, abi.O_WRONLY | abi.O_TRUNC), 3)
        encoder.printed(1, len(text), None)
        encoder.call(0, 3000, write(1, text), len(text))
        encoder.refused(DenialEvent(EVIL, EVIL, EVIL))
        encoder.call(0, 4000, encode_request(41, (2, 1, 0)), -1)
        encoder.call(0, 5000, encode_request(7, (ADDRESS, 0, 100)), None)
        encoder.answer(0, 50_000, 0, [])
        encoder.sent(10, False, 60_000)
        yield

    return made_up(
        tmp_path / "evil.pbx", fill, recorded=EVIL, guest={"name": EVIL}, argv=["/usr/bin/pypy3", EVIL],
        policy={"warm_up": EVIL.replace("\0", "")},
    )  # fmt: skip


def test_names_cannot_add_elements_to_a_page(evil: Path) -> None:
    line = Timeline()
    explanation = told(evil, line)
    text = page(line, EVIL, sections(explanation))
    found = Elements(text)
    assert found.seen <= ELEMENTS
    assert found.attributes <= ATTRIBUTES
    assert not UNSAFE.search(text.replace("\n", ""))
    assert "alert(1)" in text  # it is in the page, as text


def test_names_cannot_add_elements_to_a_picture(evil: Path) -> None:
    line = Timeline()
    told(evil, line)
    text = as_svg(draw(line, EVIL))
    root = ElementTree.fromstring(text)
    assert {each.tag.rpartition("}")[2] for each in root.iter()} <= ELEMENTS | {"svg"}
    assert {name.lower() for each in root.iter() for name in each.attrib} <= ATTRIBUTES
    assert not UNSAFE.search(text.replace("\n", ""))


def test_names_cannot_add_stacks_events_or_lines(evil: Path) -> None:
    file, stacks = io.StringIO(), Folded(by_time=False)
    events = TraceEvents(file)
    told(evil, events, stacks)
    events.finish()
    assert file.getvalue().isascii()
    assert sum(each["ph"] == "M" for each in json.loads(file.getvalue())["traceEvents"]) == 2
    lines = list(stacks.lines())
    assert sum(int(each.rsplit(" ", 1)[1]) for each in lines) == 6
    assert all(each.count("\n") == 1 and each.count(";") <= 2 and not UNSAFE.search(each[:-1]) for each in lines)


def test_a_style_sheet_cannot_be_left(evil: Path) -> None:
    """The only element whose text is not escaped in HTML contains no text of a record."""
    line = Timeline()
    text = page(line, "</style>", sections(told(evil, line)))
    assert text.count("</style>") == 1


def test_a_table_of_calls_that_lies_about_types(tmp_path: Path) -> None:
    """Numbers where paths are expected, and memory where numbers are expected."""
    number, memory = ["i4x", False], [3, 16, "", True, False]
    rows = [
        [257, "openat", "paths", [["dirfd", *memory], ["path", *number], ["flags", *memory]]],
        [1, "write", "descriptors", [["fd", *memory], ["buf", *number]]],
        [511, "exchange", "reserved", [["message", *number]]],
        [13, "rt_sigaction", "signals", [["sig", *memory], ["act", *number]]],
        [22, "pipe", "pipes", [["fds", *number]]],
        [9, "mmap", "memory", [["fd", *memory]]],
    ]

    def fill(encoder: Encoder) -> Iterator[None]:
        for at in (1, 257, 511, 13, 22, 9, 9999):
            encoder.call(0, 1000 * at, encode_request(at, (ADDRESS,) * 6, (b"abc",) * 3), 5)
            encoder.call(0, 1000 * at, encode_request(at, (0,) * 6), 1 << 62)
        yield

    line = Timeline()
    explanation = told(made_up(tmp_path / "lies.pbx", fill, rows=rows), line)
    assert explanation.account.calls == 14
    assert words(explanation)
    assert as_svg(draw(line, ""))


values = st.none() | st.integers(-(2**63), 2**64) | st.binary(max_size=40) | st.tuples(st.integers(), st.binary())
names = st.sampled_from([*accounts._COUNTED, *openfiles._FOLLOWED, "futex", "call_9"])
arguments = st.dictionaries(
    st.sampled_from(
        ["fd", "path", "old", "new", "dirfd", "olddirfd", "newdirfd", "flags", "mode", "place", "first", "last", "cmd",
         "sig", "act", "message", "in_fd", "out_fd", "epfd", "clock_id", "name", "buf", "request"]
    ), values,
)  # fmt: skip


@given(st.lists(st.tuples(names, arguments, st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=8))
def test_arguments_of_any_kind_are_counted(calls: list[tuple[str, dict[str, Any], int | None]]) -> None:
    files, line, file = OpenFiles("/box"), Timeline(), io.StringIO()
    account, stacks, events = CallSummary(files), Folded(by_time=False), TraceEvents(file)
    for name, given_, result in calls:
        call = recorded_call(name, result, **given_)
        subject = files.subject(call)
        for consumer in (account, line, stacks, events):
            consumer.add(call, subject)
        files.follow(call)
        assert strace.call_line(as_oscall(call)).isascii()
    events.finish()
    json.loads(file.getvalue())
    explanation = RecordSummary(guest="", recorded="", argv=(), policy=(), account=account, result=None)
    assert sections(explanation, everything=True)
    json.dumps(as_data(explanation))
    ElementTree.fromstring(as_svg(draw(line, "")))


def test_time_that_goes_backwards(tmp_path: Path) -> None:
    def fill(encoder: Encoder) -> Iterator[None]:
        encoder.call(0, 10**12, encode_request(7, (ADDRESS, 0, 100)), None)
        encoder._put(b"\x0d", bytes(8))
        encoder.answer(0, 10**12, 0, [])
        yield

    line, stacks, file = Timeline(), Folded(by_time=True), io.StringIO()
    events = TraceEvents(file)
    explanation = told(made_up(tmp_path / "back.pbx", fill), line, stacks, events)
    events.finish()
    assert explanation.account.threads[0].waited == 0
    assert '"dur"' not in file.getvalue()
    assert list(stacks.lines()) == []
    assert as_svg(draw(line, ""))


def test_times_of_centuries(tmp_path: Path) -> None:
    def fill(encoder: Encoder) -> Iterable[None]:
        encoder.call(0, 2**63, encode_request(39), 1)
        yield
        encoder.call(0, 2**64 - 1000, encode_request(39), 1)

    line = Timeline()
    told(made_up(tmp_path / "long.pbx", fill), line)
    assert len(list(draw(line, "").iter("line"))) < 100


def test_a_record_that_was_changed_is_an_error(recorded: Path, tmp_path: Path) -> None:
    data = bytearray(recorded.read_bytes())
    data[-10] ^= 1
    (tmp_path / "changed.pbx").write_bytes(data)
    with pytest.raises(RecordError):
        told(tmp_path / "changed.pbx")


@pytest.mark.parametrize("key", ["guest", "argv", "environment", "recorded"])
@pytest.mark.parametrize("value", [None, 7, [], {}, [[]], "x", {"name": []}])
def test_a_start_of_other_types(evil: Path, key: str, value: Any) -> None:
    line = Timeline()
    explanation = told(with_start(evil, lambda start: start.update({key: value})), line)
    assert page(line, " ".join(explanation.argv), sections(explanation))


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_files_waits_and_refusals_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((accounts, "MOST_FILES"), (accounts, "MOST_NAMES"), (accounts, "MOST_WAITS")):
        monkeypatch.setattr(module, name, 50)
    monkeypatch.setattr(openfiles, "MOST_DESCRIPTORS", 50)
    monkeypatch.setattr(timeline, "MOST_MARKS", 800)
    monkeypatch.setattr(timeline, "MOST_WAITS", 50)

    def fill(encoder: Encoder) -> Iterator[None]:
        for at in range(1000):
            now = 1_000_000 * at
            encoder.refused(DenialEvent("openat", "EPERM", f"no {at}"))
            encoder.call(at % 250, now, openat(b"/%d" % at), None)
            encoder.answer(at % 250, now + 1000 + at, -1, [])
            encoder.call(at % 250, now + 2000 + at, openat(b"/%d" % at), at)
            encoder.sent(10, False, now + 2000 + at)
            yield

    line = Timeline()
    explanation = told(made_up(tmp_path / "many.pbx", fill), line)
    account = explanation.account
    assert account.calls == 2000
    assert (len(account.files), account.files.left_out) == (50, 950)
    assert (len(account.refusals), account.refusals.rest.count) == (50, 950)
    assert len(account.waits) == 50
    assert sum(wait.count for wait in account.waits.values()) + account.waits.rest.count == 1000
    assert len(line._marks) <= 800
    assert sum(mark.count for mark in line._marks.values()) == 4000  # calls, refusals, signals
    assert [round(wait.seconds * 1e9) for wait in line.waits()] == [*range(1950, 2000)] or line.waits_left_out == 950
    assert account.asked.signals_received == {"SIGUSR1": 1000}
    text = words(explanation)
    assert "950 calls were about further files" in text["What it read"]
    assert "further waits: 950 times" in text["Where the time went"]
    assert "further refusals: 950" in text["What it was refused, and why"]
    notes = [each.text or "" for each in draw(line, "").iter("text")]
    assert any("218 threads with fewer calls are not shown; 950 shorter waits are not shown" in note for note in notes)


def test_deep_stacks_without_end_are_not_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program can forge its frames: hundreds at each call, with long names, and all of them different."""
    monkeypatch.setattr(profiles, "MOST_FOLDED", 1 << 20)
    calls, names = 500, ["\x1b" * 390 + str(at) for at in range(60)]

    def fill(encoder: Encoder) -> Iterator[None]:
        for at in range(calls):
            encoder.call(0, at, openat(b"/box/a"), 3)
        yield

    frames = [Frame("/box/main.py", at, name) for at, name in enumerate(names)]
    stacks = {at: (*frames[at % 50 :], *frames * 4, Frame("/box/a.py", at // 2, "f")) for at in range(1, calls + 1)}
    lines, folded = Lines(stacks=stacks, near=frozenset(), divergence=None, looked=calls), Folded(by_time=False)
    with Record(made_up(tmp_path / "deep.pbx", fill)) as record:
        explain(record, [folded], lines)
    shown = list(folded.lines())
    counts = [int(line.rpartition(" ")[2]) for line in shown]
    assert sum(map(len, shown)) < (1 << 20) + 1000
    assert sum(counts) == calls
    assert f"others;others {folded.left_out}\n" in shown
    assert 0 < folded.left_out < calls
    json.dumps(as_data(told(tmp_path / "deep.pbx")))


def test_calls_without_end_fill_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "MOST_WRITTEN", 100_000)

    def fill(encoder: Encoder) -> Iterator[None]:
        for at in range(2000):
            encoder.call(0, at, openat(b"/box/\xff" + b"%d" % at * 200), 3)
        encoder.sent(10, False, 3000)
        yield

    path, events, shown = made_up(tmp_path / "long.pbx", fill), io.StringIO(), io.StringIO()
    made, printed = TraceEvents(events), Strace(shown)
    assert told(path, made, printed).account.calls == 2000
    made.finish()
    found = json.loads(events.getvalue())["traceEvents"]
    lines = shown.getvalue().splitlines()
    assert max(len(events.getvalue()), len(shown.getvalue())) < 101_000
    assert (len(found) + made.left_out, len(lines) + printed.left_out) == (2003, 2001)


def test_signals_without_end_are_not_kept(tmp_path: Path) -> None:
    def fill(encoder: Encoder) -> Iterator[None]:
        for at in range(500):
            encoder.call(0, at * 1000, encode_request(39), 1)
            encoder.sent(10, False, at * 1000)
        yield

    with Record(made_up(tmp_path / "signals.pbx", fill)) as record:
        explanation = explain(record)
        assert record.signals == []
    assert explanation.account.asked.signals_received == {"SIGUSR1": 500}


def test_a_picture_of_many_calls_is_bounded() -> None:
    line = Timeline()
    for at in range(60_000):
        family = ("paths", "memory", "clock", "identity")[at % 4]
        line.add(RecordedCall(at, at % 8, at * 1e-5, "x", family, {}, {}, result=0, took=0.0), "")
    drawn = list(draw(line, "").iter("rect"))
    assert 1000 < len(drawn) <= MOST_DRAWN + 50
    wide = list(draw(line, "", columns=6000, alone=False).iter("rect"))
    assert len(wide) <= MOST_DRAWN + 50


def test_merged_marks_lose_no_call() -> None:
    line = Timeline()
    for at in range(1000):
        line.add(RecordedCall(at, 0, at * 1e-3, "x", "paths", {}, {}, result=0, took=0.0), "")
    width, found = line.columns(100, 10)
    assert width >= 8
    assert sum(mark.count for kinds in found.values() for mark in kinds.values()) == 1000
