"""pydantic-ai: Python in a box as a tool.

    async with AsyncPythonTool() as python:
        agent = Agent("...", tools=[python_tool(python)])
        await agent.run("...")

See https://ai.pydantic.dev/tools/. Code that fails is no failure of the tool, and asks for no retry: the model reads
what went wrong.
"""

from typing import Annotated, Any

try:
    from pydantic import Field
    from pydantic_ai import Tool
except ModuleNotFoundError as error:
    raise ImportError("python_tool needs pydantic-ai: pip install pydantic-ai-slim") from error

from proxybox.agents.interface import CODE, NAME, AsyncPythonTool


def python_tool(python: AsyncPythonTool, *, name: str = NAME, description: str | None = None) -> Tool[Any]:
    """Returns a tool whose calls run in `python`, which the caller closes.

    name, description: what the model knows it by; by default it is told what the box allows.
    """

    async def run(code: Annotated[str, Field(description=CODE)]) -> str:
        return await python(code)

    return Tool(run, name=name, description=python.description if description is None else description)
