"""Pools: for running programs, as an Executor, with processes, and when one of their processes is killed."""

import concurrent.futures
import contextlib
import os
import signal
import threading
from typing import Any

import pytest

import proxybox
from proxybox import Pool, Status
from proxybox.controller import find_guest, hostproc
from proxybox.controller.process.cpus import shares_of_cpus
from proxybox.controller.process.reaper import settle
from proxybox.pool import workers
from proxybox.pool.boxes import make_room
from proxybox.pool.pool import source_of
from tests.pool.conftest import children
from tests.pool.functions import add, double, fails, loops, stops

EACH = pytest.mark.parametrize("processes", [0, 2], ids=["here", "processes"])


@EACH
def test_programs_run_with_all_that_run_takes(processes: int) -> None:
    told: list[str] = []
    with Pool(size=2, processes=processes) as pool:
        result = pool.run(
            "import sys; print(sys.argv[1:], input()); print('e', file=sys.stderr)\n"
            "open('out', 'w').write(open('in').read())",
            ["a", "b"], "line\n", {"in": "content"}, on_stdout=told.append,
        )  # fmt: skip
        assert result.ok, result
        assert (result.stdout, result.stderr) == ("['a', 'b'] line\n", "e\n")
        assert "".join(told) == result.stdout
        assert dict(result.files) == {"out": b"content"}
        assert result.usage.input == 5
        assert result.usage.output == len(result.stdout) + len(result.stderr)
        assert result.usage.calls > 0
        assert result.usage.cpu > 0
        assert "seal" in result.layers


@EACH
def test_each_program_has_a_box_of_its_own(processes: int) -> None:
    code = "import os, builtins; print(os.path.exists('x'), hasattr(builtins, 'x')); builtins.x = 1; open('x', 'w')"
    with Pool(size=2, processes=processes) as pool:
        assert {pool.run(code).stdout for _ in range(6)} == {"False False\n"}


def test_what_a_box_has_rehearsed_leaves_no_trace() -> None:
    """Its output does not count in a limit, and a program sees nothing of it."""
    seen = (
        "import os, sys\n"
        "open('seen', 'w').write(repr((sys.argv, sys.path[0], getattr(sys, 'orig_argv', [0])[1:], os.listdir('.'), "
        "sorted(n for n in globals() if n[0] != '_'), sys.stdout.tell() if sys.stdout.seekable() else None)))"
    )
    with Pool(size=1, output={"limit": 0, "on_excess": "end"}) as pool, proxybox.Sandbox(warm=False) as box:
        ready, cold = pool.run(seen, ["a"]), box.run(seen, ["a"])
        assert ready.ok, ready
        assert ready.usage.output == 0
        assert dict(ready.files) == dict(cold.files)
        with pool.session() as session:
            assert session.eval("__import__('sys').argv").value == [""]


def test_the_rehearsal_counts_in_no_limit() -> None:
    with Pool(size=1, limits={"calls": 5}) as pool:
        while not pool.ready:
            pass
        assert pool.run("print(1)", check=True).stdout == "1\n"


def test_a_session_of_a_pool_begins_with_no_calls() -> None:
    with Pool(size=1, limits={"calls": 5}) as pool:
        while not pool.ready:
            pass
        with pool.session() as session:
            assert session.usage.calls == 0
            assert session.eval("1 + 1").value == 2


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_program_that_is_killed_is_not_run_again(is_ready: bool) -> None:
    """It has made no OS call yet, but it has begun to compute."""
    with Pool(size=1, limits={"wall_time": 100}) as pool:
        while not pool.ready:
            pass
        if not is_ready:
            pool._boxes._ready.popleft().close()  # type: ignore[union-attr]
        future = pool.submit("while True: pass")
        guest = None
        while guest is None:  # until it has used more CPU time than a start needs
            for pid in map(int, children()):
                with contextlib.suppress(OSError):
                    guest = pid if hostproc.stat(pid, 14)[0] >= 50 else guest
        os.kill(guest, signal.SIGKILL)
        assert future.result(timeout=60).status is Status.CRASHED


def test_files_beside_the_program_are_changes_only_where_they_changed() -> None:
    files = {"same": "1", "other": "2", "moved": "3", "in/deep": "4"}
    with Pool(size=1) as pool:
        flat = {name: text for name, text in files.items() if "/" not in name}
        assert dict(pool.run("", files=files).files) == dict(pool.run("", files=flat).files) == {}
        moves = "import os; open('other', 'w').write('22'); os.rename('moved', 'there'); os.remove('main.py')"
        for given in (files, flat):
            assert dict(pool.run(moves, files=given).files) == {"other": b"22", "there": b"3"}
        swapped = "import os; os.rename('same', 'x'); open('same', 'w').write('1')"
        assert dict(pool.run(swapped, files=flat).files) == {"same": b"1", "x": b"1"}


@EACH
def test_boxes_that_share_nothing(processes: int) -> None:
    """Each box is started by itself, with a hash seed of its own."""
    with Pool(size=2, processes=processes, warm=False) as pool:
        assert len({pool.run("print(hash('x'))").stdout for _ in range(4)}) == 4


@EACH
def test_what_programs_do_wrong_is_data(processes: int) -> None:
    with Pool(size=2, processes=processes, limits={"wall_time": 200}) as pool:
        assert pool.run("1/0").error.type == "ZeroDivisionError"  # type: ignore[union-attr]
        assert pool.run("x =").status is Status.SYNTAX_ERROR
        assert pool.run("import os; os._exit(7)").exit_code == 7
        assert pool.run("while True: pass", timeout=0.2).status is Status.TIME_LIMIT
        assert pool.run("import ctypes; ctypes.memset(8, 0, 1)").status is Status.CRASHED
        with pytest.raises(proxybox.TimeLimitExceeded):
            pool.run("while True: pass", timeout=0.2, check=True)


@EACH
def test_it_is_an_executor(processes: int) -> None:
    with Pool(size=2, processes=processes) as pool:
        assert isinstance(pool, concurrent.futures.Executor)
        assert list(pool.map(double, range(5))) == [0, 2, 4, 6, 8]
        assert pool.submit(double, 2, times=3).result() == 6
        assert pool.submit("print(input())", stdin="hello\n").result().stdout == "hello\n"
        with pytest.raises(proxybox.ExecutionError) as caught:
            pool.submit(fails, 5).result()
        assert caught.value.result.error is not None
        assert caught.value.result.error.type == "IndexError"


def test_an_input_function_without_an_end_is_not_read_without_one() -> None:
    with Pool(size=1, processes=1) as pool:
        answers = iter(["hello\n", ""])
        assert pool.run("print(input())", stdin=lambda size: next(answers)).stdout == "hello\n"
        with pytest.raises(ValueError, match="more than 64 MiB: give it a pipe or a file"):
            pool.run("print(input())", stdin=lambda size: bytes(size))
        assert pool.run("print(1)").ok


@EACH
def test_host_functions(processes: int) -> None:
    with Pool(size=2, processes=processes, functions={"add": add}) as pool:
        assert pool.run("import host; print(host.add(1, 2))").stdout == "3\n"


@EACH
def test_preload(processes: int) -> None:
    with Pool(size=1, processes=processes, preload=["decimal"]) as pool:
        assert pool.run("import sys; print('decimal' in sys.modules)").stdout == "True\n"


@EACH
def test_a_module_that_is_not_there_is_refused_before_anything_starts(processes: int) -> None:
    with pytest.raises(proxybox.PolicyError, match=r"preload\[1\]: there is no such module .*'no_such_module'"):
        Pool(size=1, processes=processes, preload=["math", "no_such_module"])


@pytest.mark.full
def test_a_module_that_cannot_be_preloaded_is_told() -> None:
    with Pool(size=1, preload=["asyncio.windows_events"]) as pool, pytest.raises(proxybox.SandboxStartError) as caught:
        pool.run("1")
    assert "win32 only" in str(caught.value)


def test_what_cannot_be_shipped_is_told() -> None:
    y = 1
    with pytest.raises(TypeError, match="def"):
        source_of(lambda x: x)
    with pytest.raises(TypeError, match="def"):
        source_of(print)

    def closure() -> int:
        return y

    with pytest.raises(TypeError, match=r"\(y\)"):
        source_of(closure)


def test_functions_of_processes_must_be_importable() -> None:
    with pytest.raises(proxybox.PolicyError, match="imported"):
        Pool(size=1, processes=1, functions={"f": lambda: 1})


@pytest.mark.parametrize("options", [{"size": 0}, {"processes": -1}])
def test_sizes_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="want"):
        Pool(**options)  # type: ignore[arg-type]


def test_more_boxes_than_descriptors() -> None:
    with pytest.raises(ValueError, match="ulimit"):
        make_room(1 << 40)


@EACH
def test_a_closed_pool_takes_nothing(processes: int) -> None:
    pool = Pool(size=1, processes=processes)
    pool.close()
    with pytest.raises(proxybox.SandboxClosedError):
        pool.run("1")
    with pytest.raises(proxybox.SandboxClosedError):
        pool.submit("1")
    pool.close()


@EACH
def test_close_cancels_what_runs(processes: int) -> None:
    pool = Pool(size=2, processes=processes, limits={"wall_time": None, "cpu_time": None})
    begun = threading.Event()
    results: list[proxybox.Result] = []

    def work() -> None:
        code = "print('begun', flush=True)\nwhile True: pass"
        results.append(pool.run(code, on_stdout=lambda _: begun.set()))

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(200)
    pool.close()
    thread.join(200)
    assert results[0].status is Status.CANCELLED


@EACH
def test_shutdown_waits_for_what_was_submitted(processes: int) -> None:
    pool = Pool(size=2, processes=processes)
    futures = [pool.submit(double, number) for number in range(6)]
    pool.shutdown()
    assert [future.result() for future in futures] == [0, 2, 4, 6, 8, 10]


def test_concurrency_is_bounded() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def enter() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])

    def leave() -> None:
        with lock:
            now[0] -= 1

    with Pool(size=2, functions={"enter": enter, "leave": leave}) as pool:
        futures = [pool.submit("import host; host.enter(); sum(range(10**6)); host.leave()") for _ in range(8)]
        assert all(future.result().ok for future in futures)
    assert most[0] <= 2


def test_sessions_from_a_pool() -> None:
    with Pool(size=1) as pool:
        with pool.session() as session:
            session.exec("x = 20")
            assert session.eval("x + 1").value == 21
        with pool.session() as session:
            assert session.eval("'x' in globals()").value is False


# --- what is killed ---------------------------------------------------------------------------------------------------


def kill_children(which: str) -> None:
    """Kills the children of this process whose name contains a text."""
    for pid in children():
        try:
            with open(f"/proc/{pid}/comm") as file:
                if which in file.read():
                    os.kill(int(pid), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_a_pool_whose_guests_are_killed_makes_new_ones() -> None:
    with Pool(size=2) as pool:
        for _ in range(3):
            assert pool.run("print(1)").ok
            kill_children(os.path.basename(find_guest().executable))
            settle()
            assert pool.run("print(2)").stdout == "2\n"


def test_a_guest_that_is_killed_is_a_result() -> None:
    begun = threading.Event()
    results: list[proxybox.Result] = []
    with Pool(size=1) as pool:
        thread = threading.Thread(
            target=lambda: results.append(
                pool.run("print('begun', flush=True)\nwhile True: pass", on_stdout=lambda _: begun.set())
            )
        )
        thread.start()
        assert begun.wait(200)
        kill_children(os.path.basename(find_guest().executable))
        thread.join(200)
        assert (results[0].status, results[0].signal) == (Status.CRASHED, signal.SIGKILL)
        assert pool.run("print(1)").ok


def test_a_worker_that_is_killed_is_a_result_and_replaced() -> None:
    begun = threading.Event()
    results: list[proxybox.Result] = []
    with Pool(size=1, processes=1) as pool:
        thread = threading.Thread(
            target=lambda: results.append(
                pool.run("print('begun', flush=True)\nwhile True: pass", on_stdout=lambda _: begun.set())
            )
        )
        thread.start()
        assert begun.wait(200)
        for pid in children():
            os.kill(int(pid), signal.SIGKILL)
        thread.join(200)
        assert results[0].status is Status.INTERNAL_ERROR
        assert "ended" in results[0].why
        assert pool.run("print(1)").ok


def test_a_job_that_a_killed_worker_has_not_read_is_given_to_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pool(size=2, processes=1) as pool:
        assert pool.run("print(1)").ok
        (first,) = children()
        os.kill(int(first), signal.SIGSTOP)  # it no longer reads
        receive = workers._Slot._message

        def kill_and_receive(slot: workers._Slot) -> tuple[str, Any]:
            slot.worker.process.kill()
            monkeypatch.undo()
            return receive(slot)

        monkeypatch.setattr(workers._Slot, "_message", kill_and_receive)
        assert pool.run("print(2, input())", stdin="x").stdout == "2 x\n"
        assert first not in children()


def test_a_job_whose_workers_all_die_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = []

    def kill_and_receive(slot: workers._Slot) -> tuple[str, Any]:
        killed.append(slot.worker.process.pid)
        slot.worker.process.kill()
        raise ConnectionResetError

    with Pool(size=1, processes=1) as pool:
        monkeypatch.setattr(workers._Slot, "_message", kill_and_receive)
        result = pool.run("print(1)")
        monkeypatch.undo()
        assert (result.status, result.why) == (
            Status.INTERNAL_ERROR, "the controller's process has ended (ConnectionResetError)"
        )  # fmt: skip
        assert len({*killed}) == 3
        assert pool.run("print(1)").ok


def test_what_a_callback_raises_is_not_taken_for_the_end_of_a_worker() -> None:
    runs: list[str] = []

    def taker(data: str) -> None:
        runs.append(data)
        raise ConnectionResetError("of the caller's own")

    with Pool(size=1, processes=1) as pool:
        with pytest.raises(ConnectionResetError, match="own"):
            pool.run("print(1)", on_stdout=taker)
        assert runs == ["1\n"]
        assert pool.run("print(1)").ok


def test_processes_divide_the_cpus() -> None:
    """A replacement of a killed process gets the same share."""
    with Pool(size=2, processes=2) as pool:
        workers = pool._boxes._workers  # type: ignore[union-attr]
        shares = shares_of_cpus(2)
        assert [os.sched_getaffinity(each.process.pid) for each in workers] == shares
        os.kill(workers[0].process.pid, signal.SIGKILL)
        workers[0].process.wait()
        for _ in range(4):
            pool.run("print(1)")
        assert sorted(map(sorted, (os.sched_getaffinity(each.process.pid) for each in workers))) == sorted(
            map(sorted, shares)
        )


def test_an_endless_function_is_an_error() -> None:
    with Pool(size=1, limits={"wall_time": 0.3}) as pool, pytest.raises(proxybox.TimeLimitExceeded):
        pool.submit(loops).result()


class Unreadable:
    """An object that a worker cannot unpickle."""

    def __reduce__(self) -> tuple[object, tuple[object, str]]:
        return getattr, (object, "no such name")


def test_a_job_that_cannot_be_read_is_told_and_costs_no_worker() -> None:
    with Pool(size=1, processes=1) as pool:
        with pytest.raises(AttributeError, match="no such name"):
            pool.submit(loops, Unreadable()).result()
        assert pool.run("print(2)").stdout == "2\n"


def test_a_host_function_that_leaves_its_thread_costs_no_worker() -> None:
    """The exception is raised in the guest."""
    with Pool(size=1, processes=1, functions={"stops": stops}) as pool:
        told = pool.run("import host\ntry: host.stops()\nexcept host.HostError as error: print(error)")
        assert told.stdout == "SystemExit: 3\n"
        assert pool.run("print(2)").stdout == "2\n"


def test_a_session_of_a_pool_is_not_copied_and_lives_on() -> None:
    with Pool(size=1, session={"branches": 2}) as pool, pool.session() as session:
        for copy in (session.fork, session.snapshot):
            with pytest.raises(proxybox.CannotCopy, match="a session of a pool cannot be copied"):
                copy()
        assert session.eval("6 * 7").value == 42
        assert session.usage.start >= 0
