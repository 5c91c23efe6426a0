"""The tool as openai-agents, pydantic-ai and LangChain call it, with scripted models of these libraries."""

import json
import subprocess
import sys
from typing import Any

import anyio
import pytest

from proxybox.agents import AsyncPythonTool, PythonTool
from proxybox.modelsummary import MARK

LIBRARIES = {
    "smolagents": ("smolagents", "smolagents"),
    "inspect_ai": ("inspect_ai", "inspect-ai"),
    "openai_agents": ("agents", "openai-agents"),
    "pydantic_ai": ("pydantic_ai", "pydantic-ai-slim"),
    "langchain": ("langchain_core", "langchain-core"),
}


@pytest.mark.parametrize("module", LIBRARIES)
def test_a_module_says_which_package_it_needs(module: str) -> None:
    library, package = LIBRARIES[module]
    code = f"import sys; sys.modules[{library!r}] = None\nimport proxybox.agents.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(f": pip install {package}")
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")


def test_the_core_needs_no_library() -> None:
    code = "import sys; before = set(sys.modules)\nfrom proxybox.agents import *\nprint(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"anyio", "asyncio", "pydantic", *(library for library, _ in LIBRARIES.values())}


def test_openai_agents() -> None:
    pytest.importorskip("agents", reason="openai-agents is not installed")
    from agents import FunctionTool
    from agents.tool_context import ToolContext

    from proxybox.agents import openai_agents

    async def main() -> None:
        async with AsyncPythonTool(limits={"wall_time": 5}) as python:
            tool = openai_agents.python_tool(python)
            assert isinstance(tool, FunctionTool)
            assert (tool.name, tool.description) == ("python", python.description)
            assert tool.params_json_schema["required"] == ["code"]
            context: Any = ToolContext(context=None, tool_name="python", tool_call_id="1", tool_arguments="")

            async def call(arguments: str) -> str:
                return await tool.on_invoke_tool(context, arguments)

            assert await call(json.dumps({"code": "x = 6\nx * 7"})) == "42"
            assert await call(json.dumps({"code": "x"})) == "6"
            assert "ZeroDivisionError" in await call(json.dumps({"code": "1 / 0"}))
            for wrong in ("", "{", "[]", "{}", "null", '"code"', "[" * 100_000):
                assert await call(wrong) == f'{MARK}want the arguments {{"code": "..."}} as JSON'
            assert (await call('{"code": 3}')).startswith(f"{MARK}code: want source text (str), got 3")
            other = openai_agents.python_tool(python, name="run", description="Runs.")
            assert (other.name, other.description) == ("run", "Runs.")

    anyio.run(main)


def test_openai_agents_with_a_model() -> None:
    pytest.importorskip("agents", reason="openai-agents is not installed")
    from agents import Agent, ModelResponse, RunConfig, Runner, Usage
    from agents.models.interface import Model
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    from proxybox.agents import openai_agents

    class Scripted(Model):
        """Calls the tool once, and then returns the tool's answer as text."""

        async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
            heard = options["input"] if "input" in options else args[1]
            if isinstance(heard, str) or len(heard) == 1:
                call = ResponseFunctionToolCall(
                    arguments='{"code": "print(6 * 7)"}', call_id="1", name="python", type="function_call"
                )
                return ModelResponse(output=[call], usage=Usage(), response_id=None)
            text = ResponseOutputText(annotations=[], text=f"read {heard[-1]['output']}", type="output_text")
            said = ResponseOutputMessage(id="2", content=[text], role="assistant", status="completed", type="message")
            return ModelResponse(output=[said], usage=Usage(), response_id=None)

        def stream_response(self, *args: Any, **options: Any) -> Any:
            raise NotImplementedError

    async def main() -> str:
        async with AsyncPythonTool() as python:
            agent = Agent(name="analyst", model=Scripted(), tools=[openai_agents.python_tool(python)])
            done = await Runner.run(agent, "what?", run_config=RunConfig(tracing_disabled=True))
            return str(done.final_output)

    assert anyio.run(main) == "read 42"


def test_pydantic_ai() -> None:
    pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed")
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import AgentInfo, FunctionModel
    from pydantic_ai.models.test import TestModel

    from proxybox.agents import pydantic_ai

    def scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        assert [each.name for each in info.function_tools] == ["python"]
        read = [part.content for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        if read:
            return ModelResponse(parts=[TextPart(" and ".join(map(str, read)))])
        codes = ("n = globals().get('n', 0) + 1; print(n)", "n = globals().get('n', 0) + 1; print(n)")
        return ModelResponse(parts=[ToolCallPart("python", {"code": code}) for code in codes])

    async def main() -> None:
        async with AsyncPythonTool() as python:
            tool = pydantic_ai.python_tool(python)
            assert tool.tool_def.description == python.description
            assert tool.tool_def.parameters_json_schema["required"] == ["code"]
            done = await Agent(FunctionModel(scripted), tools=[tool]).run("what?")
            assert sorted(done.output.split(" and ")) == ["1", "2"]
            tested = await Agent(TestModel(), tools=[tool]).run("what?")  # TestModel calls each tool with "a"
            assert "NameError: name 'a' is not defined" in tested.output
            assert pydantic_ai.python_tool(python, name="run", description="Runs.").tool_def.name == "run"

    anyio.run(main)


def test_langchain() -> None:
    pytest.importorskip("langchain_core", reason="langchain-core is not installed")
    from langchain_core.tools import BaseTool

    from proxybox.agents import langchain

    with PythonTool(limits={"wall_time": 5}) as python:
        tool = langchain.python_tool(python)
        assert isinstance(tool, BaseTool)
        assert (tool.name, tool.description, list(tool.args)) == ("python", python.description, ["code"])
        assert tool.invoke({"code": "x = 6\nx * 7"}) == "42"
        assert anyio.run(tool.ainvoke, {"code": "x"}) == "6"
        answer = tool.invoke({"name": "python", "args": {"code": "1 / 0"}, "id": "1", "type": "tool_call"})
        assert answer.tool_call_id == "1"
        assert answer.status == "success"
        assert answer.content.endswith("ZeroDivisionError: division by zero")
        assert langchain.python_tool(python, name="run", description="Runs.").name == "run"
