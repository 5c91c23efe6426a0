"""LangChain: Python in a box as a tool, for agents of LangChain and LangGraph.

    with PythonTool() as python:
        agent = create_agent(model, tools=[python_tool(python)])
        agent.invoke(...)

The tool is a StructuredTool of langchain-core (https://reference.langchain.com/python/langchain_core/tools/). `ainvoke`
runs it in a thread of LangChain's own.
"""

from typing import Annotated

try:
    from langchain_core.tools import StructuredTool
except ModuleNotFoundError as error:
    raise ImportError("python_tool needs langchain-core: pip install langchain-core") from error

from proxybox.agents.interface import CODE, NAME, PythonTool


def python_tool(python: PythonTool, *, name: str = NAME, description: str | None = None) -> StructuredTool:
    """Returns a tool whose calls run in `python`; the caller closes that.

    name, description: of the tool, for the model; the default description says what the box allows.
    """

    def run(code: Annotated[str, CODE]) -> str:
        return python(code)

    return StructuredTool.from_function(
        run, name=name, description=python.description if description is None else description
    )
