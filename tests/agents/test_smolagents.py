"""smolagents' executor, by itself and in a CodeAgent with a scripted model."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("smolagents", reason="smolagents is not installed")
from smolagents import CodeAgent, tool
from smolagents.default_tools import FinalAnswerTool
from smolagents.local_python_executor import InterpreterError
from smolagents.models import ChatMessage, MessageRole, Model

from proxybox.agents.smolagents import BoxExecutor
from proxybox.modelsummary import MARK


class Scripted(Model):
    """A model whose answers are the given pieces of code, one after the other."""

    def __init__(self, *codes: str) -> None:
        super().__init__(model_id="scripted")
        self.codes = list(codes)

    def generate(self, messages: Any, **_: Any) -> ChatMessage:
        content = f"Thought: next.\n<code>\n{self.codes.pop(0)}\n</code>"
        return ChatMessage(role=MessageRole.ASSISTANT, content=content)


@tool
def price(name: str) -> int:
    """Returns the price of a thing.

    Args:
        name: the name of the thing
    """
    return {"tea": 3, "cake": 5}[name]


@pytest.fixture
def executor() -> Iterator[BoxExecutor]:
    made = BoxExecutor(limits={"wall_time": 2}, session={"grace": 0.1})
    made.send_variables({})
    made.send_tools({"price": price, "final_answer": FinalAnswerTool()})
    yield made
    made.cleanup()


def run(*codes: str, **options: Any) -> tuple[Any, list[str]]:
    """Returns the agent's answer, and what its model reads after each step."""
    arguments = options.pop("arguments", {})
    with CodeAgent(tools=[price], model=Scripted(*codes), executor=BoxExecutor(**options), verbosity_level=0) as agent:
        answer = agent.run("do it", additional_args=arguments, max_steps=len(codes))
        steps = [step for step in agent.memory.steps if hasattr(step, "observations")]
        return answer, [step.observations or str(step.error) for step in steps]


def test_an_agent_from_end_to_end() -> None:
    answer, read = run(
        "x = price('tea')\nprint('tea costs', x)\nx * 2",
        "open('/etc/shadow')",
        "print(data, x)\nwith open('out', 'w') as f: f.write('1')",
        "data.append(x)\nfinal_answer({'data': data, 'cake': price(name='cake')})",
        arguments={"data": [1, 2.5, "three"]},
    )
    assert answer == {"data": [1, 2.5, "three", 3], "cake": 5}
    assert read[0] == "Execution logs:\ntea costs 3\nLast output from code snippet:\n6"
    assert f"{MARK}/etc/shadow is not part of this box" in read[1]
    assert f"[1, 2.5, 'three'] 3\n{MARK}files made or changed: out (1 byte)\n" in read[2]


def test_state_stays_from_run_to_run() -> None:
    model = Scripted("x = 1\nfinal_answer(x)", "final_answer(x + 1)")
    with CodeAgent(tools=[], model=model, executor=BoxExecutor(), verbosity_level=0) as agent:
        assert agent.run("one") == 1
        assert agent.run("two", reset=False) == 2


def test_values_and_logs(executor: BoxExecutor) -> None:
    assert executor("print('a')\n(1, {'b': [2]})").output == (1, {"b": [2]})
    assert executor("x = 1").output is None
    assert executor("object").output == "<class 'object'>"
    assert executor("'\\x1b[2J'").output == "\\x1b[2J"
    out = executor("import sys; print('o'); print('e', file=sys.stderr)")
    assert (out.output, out.logs, out.is_final_answer) == (None, f"o\n{MARK}standard error:\ne\n", False)
    assert executor("pass").logs == ""


def test_a_tool_gets_and_gives_plain_data_and_its_errors_reach_the_code(executor: BoxExecutor) -> None:
    class Text(str):
        __slots__ = ()

    seen: list[Any] = []

    def record(*args: Any, **kwargs: Any) -> Any:
        seen.append((args, kwargs))
        return Text("text")

    def broken() -> Any:
        return object()

    executor.send_tools({"price": price, "record": record, "broken": broken})
    assert executor("record(1, [2], key={'a': None})").output == "text"
    assert seen == [((1, [2]), {"key": {"a": None}})]
    assert executor("try: price('gold')\nexcept KeyError as e: print('caught', e)").logs.startswith("caught")
    for code in ("record(object())", "record(lambda: 1)", "broken()"):
        with pytest.raises(InterpreterError, match="cannot cross"):
            executor(code)
    assert len(seen) == 1
    assert executor("price.__name__, price.__doc__").output[0] == "price"


@pytest.mark.parametrize(
    "code",
    [
        "print('final_answer: 5')",
        "print('Final answer: 5', flush=True); final = 5",
        'import sys; print(\'{"is_final_answer": true, "output": 5}\')',
        "import host\ntry: host.tool('final_answers', (5,), {})\nexcept ValueError: pass",
        "def final_answer(x): print(x)\nfinal_answer(5)",
    ],
)
def test_what_only_looks_like_a_final_answer_is_none(executor: BoxExecutor, code: str) -> None:
    assert executor(code).is_final_answer is False


@pytest.mark.parametrize("exception", ["FinalAnswerException", "final_answer"])
def test_an_exception_of_that_name_is_no_final_answer(executor: BoxExecutor, exception: str) -> None:
    with pytest.raises(InterpreterError, match=exception):
        executor(f"class {exception}(BaseException): pass\nraise {exception}(5)")


def test_a_final_answer_ends_the_step(executor: BoxExecutor) -> None:
    out = executor("print('before')\nfinal_answer({'a': (1, b'2')})\nprint('after')")
    assert (out.output, out.logs, out.is_final_answer) == ({"a": (1, b"2")}, "before\n", True)
    out = executor("try: final_answer(1)\nexcept Exception: print('caught')")
    assert (out.output, out.is_final_answer) == (1, True)
    assert executor("1").is_final_answer is False
    with pytest.raises(InterpreterError, match="cannot cross"):
        executor("final_answer(object())")


@pytest.mark.parametrize(
    "arguments", ["'price', 'tea', {}", "'price', ('tea',), []", "3, (), {}", "'__class__', (), {}"]
)
def test_only_the_agents_tools_can_be_called(executor: BoxExecutor, arguments: str) -> None:
    with pytest.raises(InterpreterError, match="want the name of a tool"):
        executor(f"import host; host.tool({arguments})")


def test_tools_and_variables_are_there_in_the_session_that_follows_one_that_ended(executor: BoxExecutor) -> None:
    executor.send_variables({"data": [1]})
    with pytest.raises(InterpreterError, match="this box has ended"):
        executor("while True:\n    try:\n        while True: pass\n    except BaseException: pass")
    assert executor("data, price('tea')").output == ([1], 3)


def test_code_that_has_broken_its_session_gets_another_one_with_the_next_run(executor: BoxExecutor) -> None:
    executor.send_variables({"data": [1]})
    executor("import sys, builtins\nx = 1\nsys.modules['host'] = None")
    executor.send_tools({"price": price})
    assert executor("data, price('tea'), 'x' in globals()").output == ([1], 3, False)


def test_one_answer_is_kept_however_many_are_given(executor: BoxExecutor) -> None:
    out = executor("import host\nfor n in range(1000): host.tool('final_answer', (str(n) * 100,), {})")
    assert (out.output, out.is_final_answer) == ("0" * 100, True)
    assert executor._answer == ("0" * 100,)


def test_variables_are_copies_of_plain_data(executor: BoxExecutor) -> None:
    data = [1]
    executor.send_variables({"data": data})
    assert executor("data.append(2); data").output == [1, 2]
    assert data == [1]
    with pytest.raises(TypeError, match=r"variable thing: .*cannot cross"):
        executor.send_variables({"thing": object()})
    with pytest.raises(ValueError, match="variable not a name: "):
        executor.send_variables({"not a name": 1})
    with pytest.raises(ValueError, match="'not a name' cannot be the name of a function"):
        executor.send_tools({"not a name": price})


def test_limits_are_told(executor: BoxExecutor) -> None:
    with pytest.raises(InterpreterError, match="the time limit of 2 s was reached"):
        executor("while True: pass")
    with pytest.raises(InterpreterError, match="code: want at most 1 MiB"):
        executor("x" * 2_000_000)
    assert len(executor("print('x' * 900_000)").logs) < 20_000


def test_imports_that_are_authorized_have_to_be_there() -> None:
    BoxExecutor(["json", "os.*", "*"]).cleanup()
    with pytest.raises(ValueError, match="additional_authorized_imports: nowhere, other: not in the box"):
        BoxExecutor(["nowhere", "json", "other.thing"])
