"""openai-agents: Python in a box as a function tool.

    async with AsyncPythonTool() as python:
        agent = Agent(name="analyst", tools=[python_tool(python)])
        await Runner.run(agent, "...")

The tool is a FunctionTool (https://openai.github.io/openai-agents-python/tools/). If code fails, the tool does not: the
model reads the error.
"""

import json
from typing import Any

try:
    from agents import FunctionTool
    from agents.tool_context import ToolContext
except ModuleNotFoundError as error:
    raise ImportError("python_tool needs openai-agents: pip install openai-agents") from error

from proxybox.agents.interface import NAME, SCHEMA, AsyncPythonTool, marked


def python_tool(python: AsyncPythonTool, *, name: str = NAME, description: str | None = None) -> FunctionTool:
    """Returns a tool whose calls run in `python`; the caller closes that.

    name, description: of the tool, for the model; the default description says what the box allows.
    """

    async def invoke(_: ToolContext[Any], arguments: str) -> str:
        try:
            code = json.loads(arguments)["code"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return marked(['want the arguments {"code": "..."} as JSON'])
        return await python(code)

    return FunctionTool(
        name=name,
        description=python.description if description is None else description,
        params_json_schema=dict(SCHEMA),
        on_invoke_tool=invoke,
    )
