"""Records of pools with processes."""

import asyncio
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import proxybox
from proxybox import Pool, Status

CODE = "import random, sys; print(sys.argv[1:], random.random())"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[Pool]:
    with Pool(size=4, processes=2, record=folder) as made:
        yield made


def test_each_process_records_into_the_folder_and_no_two_write_one_file(pool: Pool, folder: Path) -> None:
    before = {*folder.iterdir()}
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda number: pool.run(CODE, [str(number)]), range(8)))
    assert {result.record for result in results} == {*folder.iterdir()} - before
    assert len({result.record for result in results}) == 8
    for result in results:
        assert result.ok
        assert not result.record_fault
        again = proxybox.replay(result.record)
        assert again.ok
        assert again.result.stdout == result.stdout


def test_a_run_of_a_process_has_a_record_at_a_path(pool: Pool, tmp_path: Path) -> None:
    result = pool.run(CODE, record=tmp_path / "one.pbx")
    assert result.record == tmp_path / "one.pbx"
    with proxybox.Record(result.record) as record:
        assert record.result.stdout == result.stdout


def test_a_path_is_that_of_the_caller_wherever_it_is(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pool.run("pass", record="here.pbx").record == tmp_path / "here.pbx"


def test_a_pool_with_processes_records_no_run_that_is_not_asked_for(tmp_path: Path) -> None:
    with Pool(size=1, processes=1) as pool:
        assert pool.run("print(1)").record is None
        assert pool.run("print(1)", record=tmp_path / "one.pbx").record == tmp_path / "one.pbx"


def test_limits_and_what_is_left_out_hold_in_processes(tmp_path: Path) -> None:
    variables = {"environment": {"variables": {"TOKEN": "secret-1234"}}}
    with Pool(size=1, processes=1, record_limit="64K", record_redact=["TOKEN"], record=tmp_path, **variables) as pool:
        full = pool.run("import os\nwhile True: os.stat('/box'), print(os.urandom(64).hex())")
        assert (full.status, "limit" in full.record_fault) == (Status.DISK_LIMIT, True)
        small = pool.run("import os; len(os.environ['TOKEN'])")
    with proxybox.Record(small.record) as record:
        assert "secret-1234" not in repr(record.policy)


def test_what_makes_no_sense_is_refused_before_a_process_hears_of_it(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(proxybox.PolicyError, match="is a folder"):
        pool.run("pass", record=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(proxybox.PolicyError, match="want a folder"):
        Pool(processes=1, record=tmp_path / "file")


def test_a_process_that_is_killed_leaves_a_record_up_to_its_last_frame(tmp_path: Path) -> None:
    with Pool(size=1, processes=1, record=tmp_path) as pool:
        (worker,) = pool._boxes._workers  # type: ignore[union-attr]

        def kill(_: str) -> None:
            os.kill(worker.process.pid, signal.SIGKILL)

        result = pool.run(
            "import os\nfor n in range(2000): os.stat('/')\nprint('there', flush=True)\nwhile True: pass",
            on_stdout=kill,
        )
        assert result.status is Status.INTERNAL_ERROR
        assert result.record == tmp_path / "0001.pbx"
        assert "has ended" in result.record_fault
        with proxybox.Record(result.record) as record:
            assert record.result is None
            assert list(record.argv[1:2])
        assert pool.run("pass").record == tmp_path / "0002.pbx"


def doubled(number: int) -> int:
    print("doubles")
    return 2 * number


@pytest.mark.parametrize("processes", [0, 1])
def test_functions_and_sessions_of_a_pool_are_recorded_too(processes: int, tmp_path: Path) -> None:
    with Pool(size=1, processes=processes, record=tmp_path) as pool:
        assert pool.submit(doubled, 21).result() == 42
        assert proxybox.replay(tmp_path / "0001.pbx").ok
        if not processes:
            with pool.session() as session:
                session.exec("print(1)")
                with pytest.raises(proxybox.CannotCopy):
                    session.fork()
            assert proxybox.replay(tmp_path / "0002.pbx").ok
            with pool.session(record=tmp_path / "named.pbx") as session:
                session.exec("print(1)")
            assert proxybox.replay(tmp_path / "named.pbx").ok


def test_sessions_of_a_pool_of_a_loop_are_recorded(tmp_path: Path) -> None:
    async def work() -> None:
        async with proxybox.AsyncPool(size=1, record=tmp_path) as pool:
            for record in (None, tmp_path / "named.pbx"):
                async with await pool.session(record=record) as session:
                    assert (await session.eval("6 * 7")).value == 42

    asyncio.run(work())
    assert sorted(os.listdir(tmp_path)) == ["0001.pbx", "named.pbx"]
    for path in tmp_path.iterdir():
        assert proxybox.replay(path).ok
