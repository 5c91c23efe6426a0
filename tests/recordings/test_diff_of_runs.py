"""proxybox diff, with programs that ran: each cause that can occur is named."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import cli
from proxybox.controller.errors import RecordError
from proxybox.controller.guests.cpython import CPython
from proxybox.controller.record import calls
from proxybox.controller.record.encoding import Encoder
from proxybox.controller.record.format import FrameKind, FrameWriter
from proxybox.policies import Environment, Limits, Mount, Policy, Time
from proxybox.policies.models import Filesystem
from proxybox.records.differing import Cause, Difference, Group, diff, trying

Two = Callable[..., Difference]


@pytest.fixture
def two(tmp_path: Path) -> Two:
    """Returns a function that records two runs, each with its own arguments, and compares them."""

    def made(ours: dict[str, Any], theirs: dict[str, Any] | None = None, **both: Any) -> Difference:
        paths = [tmp_path / "a.pbx", tmp_path / "b.pbx"]
        for path, own in zip(paths, (ours, ours if theirs is None else theirs), strict=True):
            proxybox.run(**{"check": True, **both, **own}, record=path)
        return diff(*paths)

    return made


def cause(found: Difference) -> Cause:
    assert not found.same
    return found.causes[0]


def test_two_runs_that_do_the_same_are_the_same(two: Two) -> None:
    found = two({"code": "print('hello')"})
    assert found.same
    assert found.parting is None
    assert found.first is not None  # the C library takes random bytes first
    assert set(found.counts) <= {"start", "hash seed", "interpreter's clock", "times"}


def test_runs_with_the_same_seed_and_clock_have_the_same_answers(two: Two) -> None:
    policy = Policy(randomness=1, time=Time(kind="virtual"))
    found = two({"code": "import random, time; print(random.random(), time.time())"}, policy=policy)
    assert found.same
    assert set(found.counts) <= {"times"}


def test_a_clock(two: Two) -> None:
    found = two({"code": "import time; print('it is', time.time())"})
    assert cause(found).kind.name == "clock"
    assert cause(found).kind.group is Group.ANSWER
    assert cause(found).shows
    assert [(line.stream, line.number) for line in found.lines] == [("stdout", 1)]
    assert found.ends == ("ok", "ok")


def test_randomness(two: Two) -> None:
    found = two({"code": "import random; print('begin'); print(random.random())"})
    assert cause(found).kind.name == "random"
    assert found.parting is not None
    assert found.parting.a.line.startswith("write(1, ")
    assert found.lines[0].number == 2


def test_urandom(two: Two) -> None:
    found = two({"code": "import os; print(open('/dev/urandom', 'rb').read(8).hex())"})
    assert cause(found).kind.name == "random"
    assert cause(found).words == "randomness (/dev/urandom)"
    assert cause(found).shows


def test_the_seed_of_hashes(two: Two) -> None:
    """Strings have other hashes in each run, and no call shows that."""
    found = two({"code": "print(hash('a'))"})
    assert cause(found).kind.name == "hash seed"
    assert "PYTHONHASHSEED=0" in cause(found).kind.advice


def test_the_seed_of_hashes_orders_sets(two: Two, cpython: CPython, tmp_path: Path) -> None:
    code = "print({str(number) for number in range(50)})"
    box = proxybox.Sandbox(guest=cpython.executable)
    paths = [tmp_path / "a.pbx", tmp_path / "b.pbx"]
    for path in paths:
        assert box.run(code, record=path).ok
    assert cause(diff(*paths)).kind.name == "hash seed"


def test_the_seed_of_hashes_that_is_given(two: Two) -> None:
    def seeded(seed: str) -> dict[str, Any]:
        return {"policy": Policy(environment=Environment(variables={"PYTHONHASHSEED": seed}))}

    found = two(seeded("1"), seeded("2"), code="print(hash('a'))")
    assert cause(found).words == "PYTHONHASHSEED, the seed of hashes"
    assert (cause(found).ours, cause(found).theirs) == ("1", "2")


def test_an_environment_variable(two: Two) -> None:
    def mode(value: str) -> dict[str, Any]:
        return {"policy": Policy(environment=Environment(variables={"MODE": value}))}

    found = two(mode("slow"), mode("fast"), code="import os; print(os.environ['MODE'])")
    assert (cause(found).kind.name, cause(found).words) == ("environment", "MODE")
    assert cause(found).kind.group is Group.INPUT


def test_arguments(two: Two) -> None:
    found = two({"args": ["1"]}, {"args": ["2"]}, code="import sys; print(sys.argv[1:])")
    assert cause(found).kind.name == "arguments"


def test_standard_input(two: Two) -> None:
    found = two({"stdin": "a\nb\n"}, {"stdin": "a\nc\n"}, code="import sys; print(sys.stdin.read())")
    assert (cause(found).kind.name, cause(found).kind.group) == ("stdin", Group.INPUT)
    assert (cause(found).ours, cause(found).theirs) == ('line 2: "b"', 'line 2: "c"')


def test_a_file(two: Two) -> None:
    found = two(
        {"files": {"data.txt": "one"}}, {"files": {"data.txt": "two"}}, code="print(open('data.txt').read())",
    )  # fmt: skip
    assert (cause(found).kind.name, cause(found).words) == ("content", "the content of data.txt")
    assert (cause(found).ours, cause(found).theirs) == ('line 1: "one"', 'line 1: "two"')


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    folder, paths = tmp_path / "data", (tmp_path / "a.pbx", tmp_path / "b.pbx")
    folder.mkdir()
    (folder / "x").write_text("1")
    policy = Policy(filesystem=Filesystem(mounts=(Mount("/data", str(folder)),)))
    for path in paths:
        proxybox.run("import os; print(os.path.exists('/data/x'))", policy=policy, record=path)
        (folder / "x").unlink(missing_ok=True)
    found = diff(*paths)
    assert (cause(found).kind.name, cause(found).words) == ("existence", "whether /data/x exists")
    assert cause(found).theirs == "= -1 ENOENT (No such file or directory)"


def test_another_mount(two: Two, tmp_path: Path) -> None:
    """The policy's setting is first, and then the file, which differs because of the setting."""

    def mounted(text: str) -> dict[str, Any]:
        folder = tmp_path / text
        folder.mkdir()
        (folder / "x").write_text(text)
        return {"policy": Policy(filesystem=Filesystem(mounts=(Mount("/data", str(folder)),)))}

    found = two(mounted("one"), mounted("two"), code="print(open('/data/x').read())")
    assert [each.words for each in found.causes[:2]] == ["filesystem.mounts", "the content of /data/x"]


def test_a_host_function(tmp_path: Path) -> None:
    numbers = itertools.count(41)
    paths = [tmp_path / "a.pbx", tmp_path / "b.pbx"]
    with proxybox.Sandbox(functions={"number": lambda: next(numbers)}) as box:
        for path in paths:
            box.run("import host; print(host.number())", record=path).check()
    found = diff(*paths)
    assert cause(found).kind.name == "host function"
    assert (cause(found).ours, cause(found).theirs) == ("('ok', 41)", "('ok', 42)")


def test_another_policy(two: Two) -> None:
    """One of the policies refuses a call."""
    code = "import threading\ntry: threading.Thread(target=print).start()\nexcept RuntimeError: print('none')"
    found = two({"policy": Policy()}, {"policy": Policy(limits=Limits(threads=1))}, code=code)
    assert (cause(found).kind.name, cause(found).kind.group) == ("refusal", Group.POLICY)
    assert [each.name for each in found.apart] == ["limits.threads"]


def test_another_script(two: Two) -> None:
    found = two({"code": "print(1)"}, {"code": "print(22)"})
    assert (cause(found).kind.name, cause(found).kind.group) == ("code", Group.CODE)
    assert cause(found).words == "the program's own code (/box/main.py)"
    assert (cause(found).ours, cause(found).theirs) == ('line 1: "print(1)"', 'line 1: "print(22)"')


def test_threads_that_do_the_same(two: Two) -> None:
    code = """
import os, threading
def work(number):
    for each in range(3):
        os.path.exists(f'/tmp/{number}-{each}')
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for each in threads: each.start()
for each in threads: each.join()
print('done')
"""
    assert two({"code": code}).same


def test_a_program_that_was_ended(two: Two) -> None:
    code = "import os\nfor _ in range(30): os.getppid()\nprint('done')"
    limited = Policy(limits=Limits(calls=190))
    found = two({"policy": Policy()}, {"policy": limited}, code=code, check=False)
    assert found.ends == ("ok", found.ends[1])
    assert "call limit" in found.ends[1]
    assert {each.kind.name for each in found.causes[:2]} == {"ended", "policy"}


# --- replays ----------------------------------------------------------------------------------------------------------


def test_replays_tell_which_answer_led_to_it(two: Two) -> None:
    """By position, the random bytes would be the more probable cause, because they are the last difference."""
    code = "import os, time; now = time.time(); os.urandom(8); print(int(now * 1e6) % 1000003)"
    found = two({"code": code})
    assert [each.kind.name for each in found.causes[:2]] == ["random", "clock"]
    found = trying.tried(found)
    assert [(each.kind.name, each.tried) for each in found.causes[:2]] == [
        ("clock", trying.LEADS), ("random", trying.SPARED)
    ]  # fmt: skip


def test_replays_with_a_content(two: Two) -> None:
    found = trying.tried(
        two({"files": {"data.txt": "one"}}, {"files": {"data.txt": "two"}}, code="print(open('data.txt').read())")
    )
    assert (cause(found).words, cause(found).tried) == ("the content of data.txt", trying.LEADS)
    assert {each.tried for each in found.causes[1:]} <= {trying.SPARED}


def test_what_replays_cannot_tell(two: Two) -> None:
    """Replays can change answers, but not the start of the first program."""
    found = two({"args": ["1"]}, {"args": ["2"]}, code="import sys; print(sys.argv[1:])")
    assert trying.tried(found).causes[0].tried == ""


#: Values that programs make up before anything else differs.
MADE_UP = {
    "a sleep": "import random, time; time.sleep(random.random() / 1000)",
    "a timestamp": "import time\nwith open('log', 'w') as log: log.write(f'it began at {time.time()}')",
    "a printed time": "import time; print('began', time.time(), flush=True)",
    "a name": "import tempfile; tempfile.mkdtemp()",
    "a path": "import os, time; os.mkdir(f'run-{time.time_ns()}')",
}


@pytest.mark.parametrize("name", MADE_UP)
def test_what_a_program_makes_up_does_not_part_the_runs(name: str, tmp_path: Path) -> None:
    """The end is explained: the program failed by chance, long after the first call that differs."""
    code = f"{MADE_UP[name]}\nimport os, sys\nodd = os.urandom(1)[0] & 1\nsys.exit('it failed' if odd else 0)"
    by_end: dict[int | None, Path] = {}
    for number in range(64):
        path = tmp_path / f"{number}.pbx"
        by_end.setdefault(proxybox.run(code, record=path).exit_code, path)
        if len(by_end) == 2:
            break
    found = diff(by_end[0], by_end[1])
    assert found.parting is not None
    assert "it failed" in found.parting.a.line + found.parting.b.line
    assert found.derived or name == "a printed time"
    found = trying.tried(found)
    assert (cause(found).kind.name, cause(found).tried) == ("random", trying.LEADS), found.causes


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path: Path) -> tuple[Path, Path]:
    """The records of two runs of a flaky program."""
    paths = tmp_path / "a.pbx", tmp_path / "b.pbx"
    for path in paths:
        proxybox.run("import time; print(time.time())", record=path)
    return paths


Capture = pytest.CaptureFixture[str]


def test_the_command_tells_it_in_words(records: tuple[Path, Path], capsys: Capture) -> None:
    assert cli.main(["diff", *map(str, records)]) == 1
    seen = capsys.readouterr().out
    assert "\nOther answer: a clock\n" in seen
    assert "They part where the program asks something else:\n  a  " in seen
    assert "try: give both runs the same clock: --set time.kind=virtual" in seen
    assert "The first line of stdout that differs is line 1:" in seen
    assert "\x1b" not in seen


def test_colours_can_be_had(records: tuple[Path, Path], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    cli.main(["diff", *map(str, records)])
    assert "\x1b[1mOther answer: a clock" in capsys.readouterr().out


def test_the_command_tells_it_as_json(records: tuple[Path, Path], capsys: Capture) -> None:
    assert cli.main(["diff", "--json", *map(str, records)]) == 1
    seen = json.loads(capsys.readouterr().out)
    assert (seen["same"], seen["verdict"]) == (False, "Other answer: a clock")
    assert seen["causes"][0]["kind"] == "clock"
    assert seen["records"][0]["path"] == str(records[0])
    assert seen["parting"]["a"]["call"].startswith("write(1, ")
    assert seen["output"][0]["line"] == 1


def test_the_command_writes_a_page(records: tuple[Path, Path], capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "difference.html"
    assert cli.main(["diff", "--html", str(file), *map(str, records)]) == 1
    assert "Other answer: a clock" in capsys.readouterr().out
    assert cli.main(["diff", "--html", "-", *map(str, records)]) == 1
    assert capsys.readouterr().out == file.read_text()
    assert file.read_text().startswith("<!DOCTYPE html>")


def test_the_command_tells_what_came_of_replays(records: tuple[Path, Path], capsys: Capture) -> None:
    assert cli.main(["diff", "--replay", *map(str, records)]) == 1
    assert "by replays: leads to it by itself" in capsys.readouterr().out
    assert cli.main(["diff", "--replay", "--guest", "/bin/false", *map(str, records)]) == 125
    assert capsys.readouterr().err.startswith("proxybox: ")


def test_a_record_does_not_differ_from_itself(records: tuple[Path, Path], capsys: Capture) -> None:
    assert cli.main(["diff", str(records[0]), str(records[0])]) == 0
    assert "The program did the same in both runs\n" in capsys.readouterr().out


def test_what_cannot_be_read_is_one_line(records: tuple[Path, Path], capsys: Capture, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"not a record")
    damaged = bytearray(records[1].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    changed = tmp_path / "changed.pbx"
    changed.write_bytes(damaged)
    for path in (other, changed, tmp_path / "missing", tmp_path):
        assert cli.main(["diff", str(records[0]), str(path)]) == 125
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert said.err.startswith("proxybox: ")
    assert cli.main(["diff", "--html", str(tmp_path / "no" / "folder"), *map(str, records)]) == 125
    assert cli.main(["diff", str(records[0])]) == 2
    assert cli.main(["diff", "--json", "--html", "-", *map(str, records)]) == 2


def test_a_record_that_is_cut_off_is_compared_as_far_as_it_goes(records: tuple[Path, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.pbx"
    cut.write_bytes(records[0].read_bytes()[:-100])
    found = diff(records[0], cut)
    assert not found.same
    assert found.ends == ("ok", "")


# --- made-up records --------------------------------------------------------------------------------------------------


def forged(path: Path, start: Any, frames: list[bytes] = []) -> Path:  # noqa: B006 - it is not changed
    with path.open("wb") as file:
        writer = FrameWriter(file)
        writer.write(FrameKind.START, json.dumps(start).encode())
        for frame in frames:
            writer.write(FrameKind.EVENTS, frame)
    return path


@pytest.mark.parametrize(
    "start",
    [
        {},
        {"guest": "x", "argv": 3, "environment": [], "policy": []},
        {"guest": {"name": 1, "builds": [1]}, "argv": [1, None, {}], "environment": {"a": [1]},
         "policy": {"a": {"b": 1}}},
        {"guest": {"builds": {"a": {}}}, "argv": ["\udc80" * 9, "\x1b[2J"], "environment": {"\ud800": "\n"},
         "policy": {"limits": {"threads": [[[[]]]]}, "time": None}},
    ],
)  # fmt: skip
def test_a_start_that_makes_no_sense(start: dict[str, Any], tmp_path: Path, capsys: Capture) -> None:
    """It is shown as text, or refused in one line."""
    table = {"calls": calls.table()}
    one, other = forged(tmp_path / "a.pbx", {**start, **table}), forged(tmp_path / "b.pbx", {"argv": ["x"], **table})
    for words in (["diff"], ["diff", "--json"], ["diff", "--html", "-"]):
        assert cli.main([*words, str(one), str(other)]) in (0, 1, 125)
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err
        assert "Traceback" not in said.err
    assert cli.main(["diff", str(forged(tmp_path / "c.pbx", start)), str(other)]) == 125
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.full
def test_random_bytes_for_events(tmp_path: Path) -> None:
    """For any bytes, a comparison ends, with a result or with RecordError."""
    start = {"calls": calls.table()}
    good = Encoder(0)
    for number in range(300):
        frame = b"\x38\0\0\0" + number.to_bytes(4, "little") + os.urandom(52)
        good.call(number % 4, number * 1000, frame, number)
    whole = forged(tmp_path / "good.pbx", start, [good.take()])
    assert diff(whole, whole).same
    for number in range(50):
        path = forged(tmp_path / "bad.pbx", start, [bytes([1 + number % 14]) + os.urandom(200)])
        try:
            diff(whole, path)
        except RecordError:
            continue
