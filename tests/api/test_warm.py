"""Sandboxes whose runs are copies of a zygote of this process."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import Pool, Sandbox, SandboxStartError, Status
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from proxybox.controller.warm.zygote import Zygote
from proxybox.errors import ProxyboxWarning

EACH_GUEST = True


@pytest.fixture(autouse=True)
def _no_zygotes() -> Iterator[None]:
    zygotepool.close()
    yield
    zygotepool.close()
    reaper.settle()


@pytest.fixture
def zygotes(monkeypatch: pytest.MonkeyPatch) -> list[Zygote]:
    """A list of all zygotes that are made."""
    made: list[Zygote] = []
    begin = Zygote.__init__

    def init(self: Zygote, *args: object) -> None:
        begin(self, *args)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Zygote, "__init__", init)
    return made


def test_the_second_run_is_warm(zygotes: list[Zygote]) -> None:
    with Sandbox(warm=True) as box:
        assert [box.run(f"print({number})").stdout for number in range(4)] == ["0\n", "1\n", "2\n", "3\n"]
    assert [zygote.forks for zygote in zygotes] == [3]


def test_sandboxes_of_one_kind_share_a_zygote(zygotes: list[Zygote]) -> None:
    for limit in ("10", "20", "30"):
        limits = {"wall_time": limit, "memory": f"{limit}0M", "nursery": "8M"}
        with Sandbox(warm=True, limits=limits, on_denied="end") as box:
            assert box.run("print(1)").ok
    assert [zygote.forks for zygote in zygotes] == [2]


@pytest.mark.parametrize(
    "fields",
    [
        {"environment": {"user": "other"}},
        {"preload": ["json"]},
        {"time": "virtual"},
        {"limits": {"threads": 1}},
        {"filesystem": [proxybox.Mount("/data", "/usr/share")]},
    ],
)
def test_sandboxes_of_other_kinds_do_not(fields: dict[str, object], zygotes: list[Zygote]) -> None:
    with Sandbox(warm=True) as one, Sandbox(warm=True, **fields) as other:
        for box in (one, one, other, other):
            assert box.run("print(1)").ok
    assert [zygote.forks for zygote in zygotes] == [1, 1]


@pytest.mark.parametrize(
    "options",
    [
        {"warm": False},
        {"warm": True, "randomness": 7},
        {"warm": True, "interceptors": [lambda call: None]},
        {"warm": True, "audit": lambda call: None},
    ],
    ids=["off", "seed", "interceptors", "audit"],
)
def test_some_runs_start_by_themselves(options: dict[str, object], zygotes: list[Zygote]) -> None:
    with Sandbox(**options) as box:  # type: ignore[arg-type]
        assert [box.run("print(1)").ok for _ in range(3)] == [True] * 3
    assert zygotes == []


def test_the_environment_turns_it_off(monkeypatch: pytest.MonkeyPatch, zygotes: list[Zygote]) -> None:
    monkeypatch.setenv("PROXYBOX_WARM", "0")
    with Sandbox() as box:
        assert [box.run("print(1)").ok for _ in range(3)] == [True] * 3
    assert zygotes == []
    monkeypatch.setenv("PROXYBOX_WARM", "1")
    with Sandbox() as box:
        assert [box.run("print(1)").ok for _ in range(2)] == [True] * 2
    assert len(zygotes) == 1


def test_a_zygote_that_has_died_is_replaced(zygotes: list[Zygote]) -> None:
    with Sandbox(warm=True) as box:
        assert [box.run("print(1)").ok for _ in range(2)] == [True] * 2
        zygotes[0].process.watch.kill()
        assert [box.run("print(2)").stdout for _ in range(2)] == ["2\n"] * 2


def test_a_zygote_is_renewed(monkeypatch: pytest.MonkeyPatch, zygotes: list[Zygote]) -> None:
    monkeypatch.setattr(zygotepool, "MOST_FORKS", 2)
    with Sandbox(warm=True) as box:
        hashes = [box.run("print(hash('text'))").stdout for _ in range(6)]
    assert [zygote.forks for zygote in zygotes] == [2, 2, 1]
    assert hashes[1] == hashes[2], "copies of one zygote share its hash seed"
    assert len(set(hashes[1:])) == 3


def test_few_zygotes_live_at_once(monkeypatch: pytest.MonkeyPatch, zygotes: list[Zygote]) -> None:
    monkeypatch.setattr(zygotepool, "MOST_ZYGOTES", 2)
    for user in ("one", "two", "three"):
        with Sandbox(warm=True, environment={"user": user}) as box:
            assert [box.run("print(1)").ok for _ in range(2)] == [True] * 2
    reaper.settle()
    assert [zygote.is_alive() for zygote in zygotes] == [False, True, True]


def test_a_host_without_a_listener_starts_each_by_itself(
    monkeypatch: pytest.MonkeyPatch, zygotes: list[Zygote]
) -> None:
    def refused(self: Zygote, *args: object) -> None:
        raise proxybox.CannotCopy("no seccomp listener is to be had here")

    monkeypatch.setattr(Zygote, "__init__", refused)
    with Sandbox(warm=True) as box:
        assert [box.run("print(1)").ok for _ in range(3)] == [True] * 3
        with box.session() as session:
            assert session.eval("1 + 1").value == 2


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "no descriptor"), proxybox.SandboxStartError("no start")])
def test_a_start_that_fails_is_tried_again_more_and_more_seldom(
    error: Exception, monkeypatch: pytest.MonkeyPatch, zygotes: list[Zygote]
) -> None:
    """A shortage may pass. It once turned warm starts off for the rest of the process's life."""
    made, tried = zygotepool.Zygote, []

    def fails(*arguments: object) -> Zygote:
        tried.append(number)
        if len(tried) > 3:
            return made(*arguments)  # type: ignore[arg-type]
        raise error

    monkeypatch.setattr(zygotepool, "Zygote", fails)
    with Sandbox(warm=True) as box:
        for number in range(20):
            assert box.run(f"print({number})").ok
    assert tried == [1, 1 + 3, 4 + 5, 9 + 9]
    assert [zygote.forks for zygote in zygotes] == [2]


def test_scripts_their_folders_and_changes(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("VALUE = 7")
    (tmp_path / "main.py").write_text("import helper, sys; print(helper.VALUE, sys.argv); open('new', 'w').write('x')")
    tmp_path.chmod(0o755)
    with Sandbox(warm=True) as box:
        for _ in range(3):
            result = box.run(tmp_path / "main.py", ["a"])
            assert result.stdout == "7 ['/box/main.py', 'a']\n"
            assert dict(result.files) == {"new": b"x"}
    assert not (tmp_path / "new").exists()


def test_limits_hold_in_warm_boxes() -> None:
    limits = {"wall_time": 200, "memory": "64M", "disk": "1M", "calls": 20_000, "threads": 2}
    with Sandbox(warm=True, limits=limits, output={"limit": "1K"}) as box:
        box.run("pass")
        assert box.run("x = bytearray(10**9)").status is Status.MEMORY_LIMIT
        assert box.run("open('f', 'w').write('x' * 2**21)").status is Status.DISK_LIMIT
        assert box.run("import os\nwhile True: os.getuid()").status is Status.CALL_LIMIT
        assert box.run("while True: pass", timeout=0.3).status is Status.TIME_LIMIT
        assert len(box.run("print('x' * 5000)").stdout) == 1024
        threads = "import threading as t\nfor _ in range(3): t.Thread(target=t.Event().wait, daemon=True).start()"
        assert box.run(threads).error.type == "RuntimeError"  # type: ignore[union-attr]


LEAVES = {
    "a thread": (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
        "the module 'leaves' of `preload` leaves a thread behind",
    ),
    "a thread with a name": (
        "import ctypes, threading\ndone = threading.Event()\ndef wait():\n"
        "  ctypes.CDLL(None).prctl(15, b'background', 0, 0, 0)\n  done.set()\n  threading.Event().wait()\n"
        "threading.Thread(target=wait, daemon=True).start()\ndone.wait()",
        "the module 'leaves' of `preload` leaves a thread behind ('background')",
    ),
    "an open file": (
        "file = open('/etc/passwd')", "the module 'leaves' of `preload` leaves a file open ('/etc/passwd')"
    ),
    "no standard input": (
        "import os\nos.close(0)", "the module 'leaves' of `preload` closes a standard stream"
    ),
    "an exception": ("1 / 0", "ZeroDivisionError"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAVES)
def test_a_module_with_which_no_guest_can_be_copied_is_named(name: str, tmp_path: Path) -> None:
    """A warning names the module once, to the caller. Boxes then start as new processes."""
    source, told = LEAVES[name]
    (tmp_path / "leaves.py").write_text(source)
    tmp_path.chmod(0o755)
    with Sandbox(warm=True, preload=["json", "leaves", "heapq"], packages=[tmp_path]) as box:
        assert box.run("print(1)").stdout == "1\n"
        with pytest.warns(ProxyboxWarning, match=re.escape(told)) as seen:
            assert box.run("print(2)").stdout == "2\n"
        assert [each.filename for each in seen] == [__file__]
        assert box.run("print(3)").stdout == "3\n"  # a warning would be an error here


def test_statements_run_once_before_any_program(tmp_path: Path, zygotes: list[Zygote], guest_kind: str) -> None:
    """They run in a namespace of their own. Their imports and changes stay."""
    (tmp_path / "slow.py").write_text("ready = []\n")
    tmp_path.chmod(0o755)
    words = "import slow, slow as s\nfor _ in range(3): s.ready.append(__name__)\nprint('not shown')"
    code = "import sys; print('slow' in sys.modules, 's' in globals()); import slow; print(slow.ready)"
    told = "True False\n['__warm_up__', '__warm_up__', '__warm_up__']\n"
    with Sandbox(warm=True, warm_up=words, packages=[tmp_path], guest=guest_kind) as box:
        box.run("pass")
        assert [box.run(code).stdout for _ in range(2)] == [told, told]
        with box.session() as session:
            assert session.exec(code).stdout == told
    assert [zygote.forks for zygote in zygotes] == [3]
    with Pool(warm_up=words, packages=[tmp_path], guest=guest_kind) as pool:
        assert pool.run(code).stdout == told


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (
            "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
            "`warm_up` leaves a thread",
        ),
        ("import builtins\nbuiltins.file = open('/etc/passwd')", "`warm_up` leaves a file open ('/etc/passwd')"),
        (
            "import os\nos.write(os.memfd_create('m'), bytes(70000))",
            "`warm_up` leaves a file open ('anon_inode:[file]')",
        ),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def", "SyntaxError"),
        ("raise SystemExit(0)", "a warm guest could not be started"),
    ],
    ids=["a thread", "a file", "a large file in memory", "an exception", "no Python", "an exit"],
)
def test_statements_with_which_no_guest_can_be_copied(statements: str, told: str, guest_kind: str) -> None:
    with Sandbox(warm=True, warm_up=statements, guest=guest_kind) as box:
        assert box.run("print(1)").stdout == "1\n"
        with pytest.warns(ProxyboxWarning, match=re.escape(told)):
            assert box.run("print(2)").stdout == "2\n"


def test_a_module_with_which_no_session_can_be_copied_is_named(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text(LEAVES["a thread"][0])
    (tmp_path / "opens.py").write_text(LEAVES["an open file"][0])
    tmp_path.chmod(0o755)
    fields: dict[str, Any] = {"packages": [tmp_path], "warm": False, "session": {"branches": 1}}
    with Sandbox(preload=["json", "leaves"], **fields) as box:
        with pytest.warns(ProxyboxWarning, match="'leaves' of `preload` leaves a thread behind"):
            session = box.session()
        with pytest.raises(proxybox.CannotCopy, match="left by the module 'leaves' of `preload`"):
            session.fork()
    with Sandbox(preload=["leaves"], **{**fields, "session": {}}) as box, box.session() as session:
        assert session.eval("6 * 7").value == 42
    with Sandbox(preload=["opens"], **fields) as box, box.session() as session, session.fork() as copy:
        assert copy.eval("__import__('opens').file.read(4)").value == "root"


def test_a_module_of_a_pool_with_which_no_guest_can_be_copied(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text(LEAVES["a thread"][0])
    tmp_path.chmod(0o755)
    told = "'leaves' of `preload` leaves a thread behind"
    with Pool(preload=["leaves"], packages=[tmp_path]) as pool, pytest.raises(SandboxStartError, match=told):
        pool.run("pass")


def test_what_a_module_closes_again_is_not_left(tmp_path: Path, zygotes: list[Zygote]) -> None:
    (tmp_path / "tidy.py").write_text("file = open('/etc/passwd')")
    (tmp_path / "tidier.py").write_text("import tidy\ntidy.file.close()")
    tmp_path.chmod(0o755)
    with Sandbox(warm=True, preload=["tidy", "tidier"], packages=[tmp_path]) as box:
        box.run("pass")
        assert box.run("import sys; print('tidy' in sys.modules)").stdout == "True\n"
    assert [zygote.forks for zygote in zygotes] == [1]


def test_usage_is_told() -> None:
    with Sandbox(warm=True) as box:
        box.run("pass")
        usage = box.run("print(input())", stdin="line\n").usage
    assert usage.start > 0
    assert usage.wall >= usage.start
    assert usage.cpu > 0
    assert usage.calls > 0
    assert usage.memory is not None
    assert usage.memory > 10**6
    assert (usage.input, usage.output) == (5, 5)
