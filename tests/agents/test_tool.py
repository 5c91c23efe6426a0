"""Python for a model: which state stays, when a new box starts, and which conversation sees which state."""

import gc
import threading
from collections.abc import Callable

import anyio
import pytest

import proxybox
from proxybox.agents import AsyncPythonTool, PythonTool
from proxybox.modelsummary import LEAST, MARK, NOTHING

ENDLESS = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def conversation(request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """Returns a function that calls a tool with one code after another, and returns the tool's answers."""

    def blocking(*codes: str, **options: object) -> list[str]:
        with PythonTool(**options) as python:
            return [python(code) for code in codes]

    def in_loop(*codes: str, **options: object) -> list[str]:
        async def main() -> list[str]:
            async with AsyncPythonTool(**options) as python:
                return [await python(code) for code in codes]

        return anyio.run(main, backend=request.param)

    return blocking if request.param == "blocking" else in_loop


def test_names_files_and_the_last_value_are_kept(conversation) -> None:
    write = "with open('f', 'w') as f: f.write('abc')"
    assert conversation("x = 6", "x * 7", "print(x)\nx", write, "open('f').read()") == [
        NOTHING, "42", "6\n6", f"{MARK}files made or changed: f (3 bytes)", "'abc'",
    ]  # fmt: skip


def test_each_call_can_have_a_box_of_its_own(conversation) -> None:
    seen = conversation("x = 6\nopen('f', 'w').close()", "print(x)", "print(open('f').read())", keep=False)
    assert seen[0] == f"{MARK}files made or changed: f (0 bytes)"
    assert seen[1].endswith("NameError: name 'x' is not defined")
    assert "FileNotFoundError" in seen[2]


def test_a_file_is_told_when_it_changes_and_not_again(conversation) -> None:
    write = "with open('f', 'w') as f: f.write({!r})"
    seen = conversation(write.format("a"), write.format("b"), write.format("b"), "import os; os.remove('f')", "0")
    changed = f"{MARK}files made or changed: f ({{}})"
    assert [each.rpartition("\n")[2] for each in seen] == [
        changed.format("1 byte"), changed.format("1 byte"), NOTHING, changed.format("removed"), "0",
    ]  # fmt: skip


def test_what_was_not_closed_is_there_and_what_is_open_is_told_once(conversation) -> None:
    dump = "import json\njson.dump({'a': 1}, open('r.json', 'w'))"
    assert conversation(dump, "json.load(open('r.json'))", "f = open('a b', 'w')\nf.write('x')",
                        "f.write('y')", "open('a b').read()") == [
        f"{MARK}files made or changed: r.json (8 bytes)",
        "{'a': 1}",
        f"1\n{MARK}files made or changed: 'a b' (1 byte)\n{MARK}'a b' is still open: close it, or use `with`",
        f"1\n{MARK}files made or changed: 'a b' (2 bytes)",
        "'xy'",
    ]  # fmt: skip


def test_a_session_that_has_ended_is_begun_anew(conversation) -> None:
    options = {"limits": {"wall_time": 0.5}, "session": {"grace": 0.1}, "files": {"data": "given"}}
    seen = conversation("x = 1", "while True: pass", "x", ENDLESS, "x", "open('data').read()", **options)
    assert seen[1].splitlines()[-2:] == [
        f"{MARK}the time limit of 500 ms was reached: do less at a time",
        f"{MARK}this box goes on: names and files are kept",
    ]
    assert seen[2] == "1"
    assert seen[3].splitlines()[-1].startswith(f"{MARK}this box has ended, its names and files are gone")
    assert seen[4].endswith("NameError: name 'x' is not defined")
    assert seen[5] == "'given'"


@pytest.mark.parametrize("code", [3, None, b"1", "\ud800", "x" * 2_000_000])
def test_what_is_no_source_is_told_and_not_raised(code) -> None:
    with PythonTool() as python:
        assert python(code).startswith(f"{MARK}code: want ")
        assert python._session is None


def test_functions_of_the_caller_and_what_they_raise(conversation) -> None:
    def lookup(name: object) -> int:
        if name != "tea":
            raise KeyError(f"no {name}")
        return 3

    seen = conversation("import host; host.lookup('tea')", "host.lookup('gold')", "1", functions={"lookup": lookup})
    assert seen[0] == "3"
    assert seen[1].endswith("""KeyError: "'no gold'\"""")
    assert seen[2] == "1"


def test_a_function_that_calls_the_tool_again_does_not_wait_for_itself() -> None:
    def again() -> str:
        return python("1")

    with PythonTool(functions={"again": again}) as python:
        assert "in a call" in python("import host; host.again()")
        assert python("1") == "1"


def test_what_a_model_knows_before_its_first_call() -> None:
    with PythonTool(limits={"wall_time": 5}) as python:
        assert "Names and files are kept from call to call." in python.description
        assert python.description.endswith("at most 5 s.")
    with PythonTool(keep=False, limits={"wall_time": None}) as python:
        assert "Each call begins anew." in python.description
        assert "at most" not in python.description


def test_one_tool_sees_nothing_of_another() -> None:
    with PythonTool() as one, PythonTool() as other:
        one("secret = 1\nopen('/tmp/f', 'w').close(); open('f', 'w').close()")
        assert other("import os; 'secret' in dir(), os.listdir('/tmp'), os.listdir('/box')") == "(False, [], [])"


def test_calls_of_several_threads_come_one_after_another() -> None:
    with PythonTool() as python:
        python("n = []")
        threads = [threading.Thread(target=python, args=(f"n.append({number})",)) for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert python("sorted(n)") == "[0, 1, 2, 3, 4, 5, 6, 7]"


def test_calls_of_several_tasks_come_one_after_another() -> None:
    async def main() -> str:
        async with AsyncPythonTool() as python:
            await python("n = []")
            async with anyio.create_task_group() as group:
                for number in range(8):
                    group.start_soon(python, f"n.append({number})")
            return await python("sorted(n)")

    assert anyio.run(main) == "[0, 1, 2, 3, 4, 5, 6, 7]"


def test_a_cancelled_call_interrupts_its_program() -> None:
    async def main() -> str:
        async with AsyncPythonTool(limits={"wall_time": None, "cpu_time": None}) as python:
            await python("x = 1")
            with anyio.move_on_after(0.3):
                await python("while True: pass")
            return await python("x")

    assert anyio.run(main) == "1"


def test_one_loop_after_another() -> None:
    async def ask(python: AsyncPythonTool, code: str) -> str:
        return await python(code)

    async def leave(python: AsyncPythonTool) -> None:
        await python.close()

    python = AsyncPythonTool()
    assert anyio.run(ask, python, "x = 1") == NOTHING
    assert anyio.run(ask, python, "x") == "1"
    anyio.run(leave, python)


def test_coroutine_functions() -> None:
    async def lookup(name: str) -> str:
        await anyio.lowlevel.checkpoint()
        return name.upper()

    async def main() -> str:
        async with AsyncPythonTool(functions={"lookup": lookup}) as python:
            return await python("import host; host.lookup('a')")

    assert anyio.run(main) == "'A'"


def test_a_closed_tool_says_so() -> None:
    python = PythonTool()
    python("1")
    python.close()
    with pytest.raises(proxybox.SandboxClosedError):
        python("1")


def test_a_tool_that_is_dropped_ends_its_session() -> None:
    python = PythonTool()
    python("1")
    session = python._session
    assert session is not None
    del python
    gc.collect()
    assert not session.alive


def test_a_display_that_is_no_text_is_told_as_nothing_else() -> None:
    with PythonTool() as python:
        assert python("display({'image/png': 'aGk='}, raw=True)") == f"{MARK}shown, which cannot be told: image/png"
        assert python("display({'text/plain': 'a table'}, raw=True)\n5") == "a table\n5"
        assert python("clear_output()") == NOTHING


def test_much_is_cut_as_the_caller_says() -> None:
    with PythonTool(most=LEAST) as python:
        assert len(python("print('x' * 100_000)")) < 2 * LEAST
    with pytest.raises(ValueError, match="most: want a whole number of 1 or more"):
        PythonTool(most=0)
