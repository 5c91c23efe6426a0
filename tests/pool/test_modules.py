"""The modules of worker processes: from the same folders as their parent's, and never from the current folder."""

import importlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from proxybox import Pool, modulepath
from proxybox.controller.process.cpus import shares_of_cpus
from proxybox.modulepath import trusted_path
from proxybox.policies import PolicyError
from proxybox.pool.executor import Processes, WorkerEnded
from tests.pool import functions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, of which only the test puts anything on sys.path."""
    made = tmp_path / "folder"
    made.mkdir()
    monkeypatch.chdir(made)
    monkeypatch.setenv("PYTHONPATH", "")
    return made


def test_the_current_folder_by_whatever_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "lib").mkdir()
    (folder.parent / "link").symlink_to(folder)
    names = ["", ".", "./", "lib", "../folder", str(folder), f"{folder}/", f"{folder}/lib/..", f"{folder.parent}/link",
             "/proc/self/cwd", "__editable__.x.finder.__path_hook__"]  # fmt: skip
    others = [f"{folder}/lib", "/nowhere", "/usr"]
    monkeypatch.setattr(sys, "path", [*names, *others, None, b"/usr", folder])
    assert trusted_path() == others


@pytest.mark.parametrize("named", ["{0}", "/usr:{0}/", "{0}/../folder"])
def test_a_folder_that_was_named(folder: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """A folder with its absolute path in PYTHONPATH was chosen by the user."""
    monkeypatch.setattr(sys, "path", ["", str(folder)])
    monkeypatch.setenv("PYTHONPATH", named.format(folder))
    assert trusted_path() == [str(folder)]
    monkeypatch.setenv("PYTHONPATH", ":.:../folder")
    assert trusted_path() == []


def test_the_folders_of_python_itself() -> None:
    names = {name: sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    names["DESTSHARED"] = sysconfig.get_config_var("DESTSHARED")
    installed = modulepath._installed()
    assert [name for name, folder in names.items() if modulepath._identity(folder) not in installed] == []


def test_nothing_of_the_current_folder_is_imported_to_leave_it_out(folder: Path) -> None:
    """sysconfig would import a module whose name anybody can give to a file."""
    (folder / f"{sysconfig._get_sysconfigdata_name()}.py").write_text("print('imported')\nbuild_time_vars = {}\n")
    (folder / "program.py").write_text("from proxybox.modulepath import trusted_path\ntrusted_path()\nprint('done')\n")
    done = subprocess.run(
        [sys.executable, "-m", "program"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


SCRIPT = """
from proxybox import Pool
from beside import add
with Pool(size=1, processes=1, functions={"add": add}) as pool:
    print(pool.run("import host; print(host.add(1, 2))", check=True).stdout)
"""


def script(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT)
    (folder / "beside.py").write_text("def add(a: int, b: int) -> int:\n    return a + b\n")
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_functions_beside_a_script(folder: Path) -> None:
    """The script's folder is the current one, and still in the path, as it is for the script itself."""
    done = script(folder, "script.py")
    assert (done.returncode, done.stdout) == (0, "3\n\n"), done.stderr


@pytest.mark.parametrize("words", [["-m", "script"], ["-c", SCRIPT]], ids=["-m", "-c"])
def test_functions_of_the_current_folder_are_told_to_be_missing(folder: Path, words: list[str]) -> None:
    done = script(folder, *words)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "proxybox.policies.errors.PolicyError: worker processes cannot import the functions: No module named "
        "'beside'. Modules are not looked for in the current folder: install them, or name their folder in PYTHONPATH "
        "by its absolute path"
    )


def test_each_caller_is_told_and_the_pool_closes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "found_by_its_parent_alone.py").write_text("def add(a: int, b: int) -> int:\n    return a + b\n")
    monkeypatch.syspath_prepend(str(folder))
    add = importlib.import_module("found_by_its_parent_alone").add
    with Pool(size=2, processes=1, functions={"add": add}) as pool:
        for _ in range(3):
            with pytest.raises(PolicyError, match="No module named 'found_by_its_parent_alone'"):
                pool.run("print(1)")
    del sys.modules["found_by_its_parent_alone"]


# --- processes for tasks ----------------------------------------------------------------------------------------------


def nothing() -> None:
    pass


def processes(size: int) -> Processes:
    return Processes(size, prepare=nothing, leave=nothing)


def end(status: int) -> None:
    os._exit(status)


def test_a_task_that_takes_its_process_along() -> None:
    with processes(1) as pool:
        lost, kept = pool.submit(end, 3), pool.submit(functions.double, 4)
        with pytest.raises(WorkerEnded, match=r"its process has ended \(exit status 3\)"):
            lost.result(200)
        assert kept.result(200) == 8


def test_processes_for_tasks_divide_the_cpus() -> None:
    """A replacement of a lost process gets the same share."""
    with processes(2) as pool:
        assert list(pool.map(functions.double, range(2))) == [0, 2]
        workers = pool._workers
        assert [os.sched_getaffinity(each.process.pid) for each in workers.values()] == shares_of_cpus(2)
        lost = [pool.submit(end, 0) for _ in range(2)]
        assert all(isinstance(each.exception(200), WorkerEnded) for each in lost)
        assert [each.result(200) for each in [pool.submit(functions.double, 1) for _ in range(4)]] == [2] * 4
        assert all(os.sched_getaffinity(each.process.pid) in shares_of_cpus(2) for each in workers.values())


def test_what_tasks_give_and_raise() -> None:
    with processes(2) as pool:
        assert list(pool.map(functions.double, range(5))) == [0, 2, 4, 6, 8]
        with pytest.raises(IndexError):
            pool.submit(functions.fails, 2).result(200)
        with pytest.raises(RuntimeError, match="cannot be sent"):
            pool.submit(eval, "lambda: 1").result(200)
        assert pool.submit(os.getpid).result(200) != os.getpid()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(os.getpid)


def test_a_worker_has_no_pythonpath_and_its_own_session(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":/nowhere")
    with processes(1) as pool:
        assert pool.submit(os.getenv, "PYTHONPATH").result(200) is None
        assert pool.submit(os.getsid, 0).result(200) != os.getsid(0)
        assert pool.submit(os.getcwd).result(200) == str(folder)
