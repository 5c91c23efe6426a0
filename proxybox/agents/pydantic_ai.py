"""pydantic-ai: Python in a box as a tool.

    async with AsyncPythonTool() as python:
        agent = Agent("...", tools=[python_tool(python)])
        await agent.run("...")

See https://ai.pydantic.dev/tools/. If code fails, the tool does not, and does not request a retry: the model reads the
error.
"""

from typing import Annotated, Any

try:
    from pydantic import Field
    from pydantic_ai import Tool
except ModuleNotFoundError as error:
    raise ImportError("python_tool needs pydantic-ai: pip install pydantic-ai-slim") from error

from proxybox.agents.interface import CODE, NAME, AsyncPythonTool


def python_tool(python: AsyncPythonTool, *, name: str = NAME, description: str | None = None) -> Tool[Any]:
    """Returns a tool whose calls run in `python`; the caller closes that.

    name, description: of the tool, for the model; the default description says what the box allows.
    """

    async def run(code: Annotated[str, Field(description=CODE)]) -> str:
        return await python(code)

    return Tool(run, name=name, description=python.description if description is None else description)
