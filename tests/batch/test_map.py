"""`proxybox.map` in processes of its own and on executors of the standard library."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import BatchError, PolicyError, Status
from proxybox.batch import mapping, working
from tests.batch.functions import double, ends, ends_once, inverse
from tests.pool.conftest import children

SQUARE = "print(int(input()) ** 2)"
#: A program that notes each of its runs.
NOTES = "import os, sys\nos.write(os.open('/notes/' + sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), b'x')\n"
#: Code with which a program waits for the file `go` of the test, under a condition.
WAITS = "\nimport os, time\nwhile {} and not os.path.exists('/notes/go'): time.sleep(0.01)\n"


def notes(folder: Path) -> dict[str, Any]:
    return {"mounts": [proxybox.Mount("/notes", str(folder), mode="rw")]}


def test_results_come_in_the_order_of_the_items() -> None:
    code = "import time; n = int(input()); time.sleep(0.3 * (n == 0)); print(n)"
    results = proxybox.map(code, map(str, range(40)), workers=2)
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(40)]


def test_results_come_as_they_are_there(tmp_path: Path) -> None:
    """The first item ends only after the caller has the results of the others."""
    code = "import sys" + WAITS.format("sys.argv[1] == '0'")
    items = [{"args": [str(number)]} for number in range(3)]
    found: list[int] = []
    for number, result in proxybox.map(
        code, items, ordered=False, workers=2, size=1, timeout=100, filesystem=notes(tmp_path)
    ):
        assert result.ok
        found.append(number)
        if len(found) == 2:
            (tmp_path / "go").touch()
    assert (sorted(found), found[-1]) == ([0, 1, 2], 0)


def test_items_have_what_run_takes() -> None:
    items = [
        {"stdin": b"a", "args": ["x", "y"], "files": {"d/f": "text"}},
        {"code": "print('own')"},
        {"timeout": 0.2, "code": "while True: pass"},
        "b",
    ]
    code = "import os, sys; print(sys.argv[1:], input(), os.path.exists('d/f')); open('out', 'w').write('1')"
    first, own, endless, last = proxybox.map(code, items, workers=1)
    assert (first.stdout, dict(first.files)) == ("['x', 'y'] a True\n", {"out": b"1"})
    assert own.stdout == "own\n"
    assert endless.status is Status.TIME_LIMIT
    assert last.stdout == "[] b False\n"


def test_a_script_has_its_folder(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def f(text): return text.upper()")
    (tmp_path / "main.py").write_text("import helper; print(helper.f(input()))")
    assert [each.stdout for each in proxybox.map(tmp_path / "main.py", ["a", "b"], workers=1)] == ["A\n", "B\n"]


def test_what_programs_do_wrong_ends_no_batch() -> None:
    """Results have errors, so values of a function are in Results, too, unlike those of Pool.map."""
    found = list(proxybox.map(inverse, [1, 0, 4], workers=1))
    assert [result.value for result in found] == [1.0, None, 0.25]
    assert found[1].error is not None
    assert found[1].error.type == "ZeroDivisionError"
    assert list(proxybox.map(double, [2, "ab"], workers=1))[1].value == "abab"


def test_a_limit_for_all_items() -> None:
    slow = "while True: pass"
    short, own = proxybox.map(None, [{"code": slow}, {"code": "1", "timeout": 9}], timeout=0.2, workers=1)
    assert (short.status, own.status) == (Status.TIME_LIMIT, Status.OK)


def test_items_are_read_as_results_are_taken() -> None:
    read = itertools.count()
    results = proxybox.map(SQUARE, (str(next(read)) for _ in itertools.repeat(None)), window=20, workers=1)
    assert [next(results).stdout for _ in range(30)] == [f"{number**2}\n" for number in range(30)]
    results.close()
    assert next(read) <= 50


def test_results_before_an_item_that_makes_no_sense() -> None:
    came: list[str] = []
    with pytest.raises(TypeError, match=r"items\[5\]: stdin: want text or bytes, got 5"):
        came.extend(result.stdout for result in proxybox.map(SQUARE, [*map(str, range(5)), 5, "6"], workers=1))
    assert came == [f"{number**2}\n" for number in range(5)]


@pytest.mark.parametrize(
    ("items", "error", "words"),
    [
        ([1], TypeError, r"items\[0\]: stdin: want text or bytes, got 1"),
        (["a", {"input": ""}], PolicyError, r"items\[1\]: keyword: want one of code, args, stdin, files, timeout"),
        ([{"args": "ab"}], TypeError, r"items\[0\]: args: want a list of texts"),
        ([{"timeout": -1}], PolicyError, r"items\[0\]: timeout: want a duration above 0"),
        ([{"files": {"../x": ""}}], PolicyError, r"items\[0\]: files: '../x' is no path below /box"),
        ("text", TypeError, "items: want an iterable of items, got 'text': put it in a list"),
        (7, TypeError, "items: want an iterable of items"),
    ],
)
def test_items_that_make_no_sense(items: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(proxybox.map("1", items, workers=1))


@pytest.mark.parametrize(
    ("work", "options", "error", "words"),
    [
        (7, {}, TypeError, "work: want source text, the path of a script, a function made with def, or None, got 7"),
        (lambda x: x, {}, TypeError, "function that was made with def"),
        (None, {}, PolicyError, r"items\[0\]: code: want source text or the path of a script"),
        ("1", {"executor": "dask"}, TypeError, "executor: want None, an Executor .* or 'ray', got 'dask'"),
        ("1", {"retries": -1}, PolicyError, "retries: want a whole number of 0 or more"),
        ("1", {"window": 0}, PolicyError, "window: want a whole number of 1 or more"),
        ("1", {"size": 0}, PolicyError, "size: want a whole number of 1 or more"),
        ("1", {"policy": "strickt"}, PolicyError, "strict"),
        ("1", {"guest": "/no/such"}, proxybox.SandboxStartError, "/no/such"),
        ("1", {"functions": {"f": lambda: 1}}, PolicyError, "given to other processes, and this cannot go"),
        (double, {"session": {"value_size": "1K"}}, PolicyError, r"items\[0\]: the value takes more than 1,024 bytes"),
    ],
)
def test_arguments_that_make_no_sense(work: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(proxybox.map(work, ["x" * 2000] if work is double else [{}], workers=1, **options))


def test_a_pool_has_a_map_of_its_own() -> None:
    with proxybox.Pool(size=1) as pool, pytest.raises(TypeError, match="a Pool runs programs itself"):
        proxybox.map("1", [""], executor=pool)


# --- workers that end -------------------------------------------------------------------------------------------------


def workers() -> list[int]:
    found = []
    for pid in children():
        if b"proxybox/worker.py" in Path("/proc", pid, "cmdline").read_bytes():
            found.append(int(pid))
    return found


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    """No result is lost, and no item with a result runs again.

    Both workers are in the middle of a chunk at the kill.
    """
    lost: list[int] = []
    answered: set[int] = set()
    before: set[int] = set()
    of_others = set(workers())  # workers of earlier tests may be ending

    def kill() -> None:
        while sum(int(path.name) >= 60 for path in tmp_path.iterdir()) < 2:
            time.sleep(0.01)
        before.update(answered)
        os.kill(min(set(workers()) - of_others), signal.SIGKILL)
        (tmp_path / "go").touch()

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    items = ({"args": [str(number)], "stdin": str(number)} for number in range(200))
    for number, result in proxybox.map(
        NOTES + WAITS.format("int(sys.argv[1]) >= 60") + SQUARE, items, ordered=False, workers=2, timeout=100,
        on_lost=lambda number, _: lost.append(number), filesystem=notes(tmp_path),
    ):  # fmt: skip
        assert result.stdout == f"{number**2}\n"
        assert number not in answered
        answered.add(number)
    killing.join()
    assert answered == set(range(200))
    assert before
    runs = {int(path.name): len(path.read_bytes()) for path in tmp_path.iterdir() if path.name != "go"}
    assert all(runs[number] == 1 for number in before | (answered - set(lost)))
    assert max(runs.values()) <= 2
    assert 0 < len(lost) <= 64


def test_an_item_that_ends_its_worker_each_time(tmp_path: Path) -> None:
    code = "import host, sys\nif sys.argv[1] == '5': host.ends()\nprint(sys.argv[1])"
    lost: list[int] = []
    results = list(
        proxybox.map(
            code, [{"args": [str(number)]} for number in range(12)], workers=2, functions={"ends": ends},
            on_lost=lambda number, _: lost.append(number),
        )
    )  # fmt: skip
    assert [result.stdout for result in results if result.ok] == [f"{number}\n" for number in range(12) if number != 5]
    assert results[5].status is Status.INTERNAL_ERROR
    assert "it was tried 3 times, and each time its worker ended: its process has ended (Killed)" in results[5].why
    assert lost.count(5) == 3


def test_an_item_that_ends_its_worker_once(tmp_path: Path) -> None:
    code = f"import host; host.ends_once({str(tmp_path / 'mark')!r}); print(1)"
    (result,) = proxybox.map(code, [{}], workers=1, functions={"ends_once": ends_once})
    assert result.stdout == "1\n"


def test_workers_that_all_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """When all workers end, the items are not the cause."""
    monkeypatch.setattr(mapping, "_MOST_LOST", 3)
    with pytest.raises(BatchError, match="workers end one after the other, and nothing has been answered"):
        list(proxybox.map("import host; host.ends()", [{}] * 100, workers=1, functions={"ends": ends}))


# --- the end ----------------------------------------------------------------------------------------------------------


def test_closing_ends_what_runs(tmp_path: Path) -> None:
    """A fixture checks that no process is left."""
    code = NOTES + "import time; time.sleep(0 if sys.argv[1] == '0' else 300)"
    items = ({"args": [str(number)]} for number in itertools.count())
    results = proxybox.map(code, items, workers=2, size=1, filesystem=notes(tmp_path), limits={"wall_time": 1000})
    assert next(results).ok
    results.close()
    assert workers() == []


def test_ctrl_c_ends_what_runs(tmp_path: Path) -> None:
    def press() -> None:
        end = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < end:
            pass
        os.kill(os.getpid(), signal.SIGINT)

    code = NOTES + "import time; time.sleep(300)"
    items = ({"args": [str(number)]} for number in itertools.count())
    results = proxybox.map(code, items, workers=1, filesystem=notes(tmp_path), limits={"wall_time": 1000})
    hand = threading.Thread(target=press)
    hand.start()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    hand.join()
    assert workers() == []


# --- other executors --------------------------------------------------------------------------------------------------


def test_threads_of_this_process() -> None:
    with ThreadPoolExecutor(2) as executor:
        found = [result.stdout for result in proxybox.map(SQUARE, map(str, range(30)), executor=executor)]
        assert found == [f"{number**2}\n" for number in range(30)]
        assert [result.value for result in proxybox.map(double, range(5), executor=executor)] == [0, 2, 4, 6, 8]


def test_threads_whose_batch_is_closed(tmp_path: Path) -> None:
    """The two workers share one box at a time, so the first items must not wait for one that takes long."""
    code = NOTES + "import time; time.sleep(0 if int(sys.argv[1]) < 8 else 300)"
    with ThreadPoolExecutor(2) as executor:
        items = ({"args": [str(number)]} for number in itertools.count())
        results = proxybox.map(
            code, items, executor=executor, size=1, filesystem=notes(tmp_path), limits={"wall_time": 1000}
        )
        assert next(results).ok
        results.close()


@pytest.fixture
def _resource_tracker() -> Iterator[None]:
    """Stops multiprocessing's own process, which would otherwise last as long as this one."""
    yield
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_resource_tracker")
def test_processes_of_multiprocessing() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        found = [result.stdout for result in proxybox.map(SQUARE, map(str, range(30)), executor=executor)]
        assert found == [f"{number**2}\n" for number in range(30)]


@pytest.mark.full
@pytest.mark.usefixtures("_resource_tracker")
def test_an_executor_that_breaks() -> None:
    """multiprocessing starts no other process in its place. The results from before the break come first."""
    code = "import host, sys\nif sys.argv[1] == '20': host.ends()\nprint(sys.argv[1])"
    came: list[str] = []
    items = ({"args": [str(number)]} for number in range(2000))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        results = proxybox.map(code, items, executor=executor, functions={"ends": ends})
        with pytest.raises(BrokenProcessPool):
            came.extend(result.stdout for result in results)
    assert came == [f"{number}\n" for number in range(len(came))]
    assert len(came) <= 20


# --- in a worker ------------------------------------------------------------------------------------------------------


def chunk(count: int, version: str = proxybox.__version__, **options: Any) -> working.Chunk:
    batch = mapping.Batch(
        work=mapping.ItemWork.of("print(1)", proxybox.Policy(), None),
        policy=proxybox.Policy(),
        options={"functions": {}, "packages": (), "guest": None, "warm": True, **options},
        executor=None, workers=1, size=1, retries=0, window=1, on_lost=lambda *_: None,
    )  # fmt: skip
    _, *rest = batch._pack([batch.work.item({}) for _ in range(count)])
    return (version, *rest)  # type: ignore[return-value]


def test_a_worker_of_another_version_does_nothing() -> None:
    with pytest.raises(BatchError, match=r"has proxybox .*, and the batch comes from 0\.0\.9"):
        working.run_some(chunk(1, "0.0.9"))


def test_a_worker_without_the_interpreter_says_so() -> None:
    with pytest.raises(BatchError, match=r"the worker on .* cannot make boxes: SandboxStartError: .*/no/such"):
        working.run_some(chunk(1, guest="/no/such"))


def test_a_chunk_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that have not begun are returned to the queue, for any worker."""
    monkeypatch.setattr(working, "_SECONDS", 0.0)
    assert 1 <= len(working.run_some(chunk(50))) <= 3
    monkeypatch.setattr(working, "_SECONDS", 1000.0)
    monkeypatch.setattr(working, "_MOST_BYTES", 1)
    assert 1 <= len(working.run_some(chunk(50))) <= 4
    working.close_unused()


def test_boxes_are_kept_for_the_next_chunk_and_not_too_many_kinds() -> None:
    try:
        for size in range(1, 7):
            version, batch, setup, _, items = chunk(1)
            assert len(working.run_some((version, batch, setup, size, items))) == 1
        assert len(working._room()._kept) == working._MOST_KEPT
        kept = dict(working._room()._kept)
        working.run_some((version, batch, setup, 6, items))
        assert working._room()._kept == kept
    finally:
        working.close_unused()
    assert not working._room()._kept


def test_boxes_that_are_idle_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "_IDLE", 0.01)
    working.run_some(chunk(1))
    while (timer := working._room()._timer) is not None:
        timer.join()
    assert not working._room()._kept


def test_a_worker_that_has_not_the_functions_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    made = chunk(1, functions={"double": double})
    monkeypatch.delattr("tests.batch.functions.double")
    with pytest.raises(
        BatchError, match=r"cannot make boxes: PolicyError: worker processes cannot import the functions"
    ):
        working.run_some(made)
