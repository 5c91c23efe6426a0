"""smolagents: an executor for CodeAgent whose code runs in a box.

    with CodeAgent(tools=[...], model=model, executor=BoxExecutor()) as agent:
        agent.run("...")

smolagents (https://huggingface.co/docs/smolagents) hands tools and variables to its executor, and then one piece of
code after another. Tools stay on the trusted side: the code finds functions of their names, and what it passes to them
and gets from them is plain data. Which answer is final is known by the call of the agent's tool `final_answer`, which
comes here, and never by what the code prints.
"""

import keyword
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

try:
    from smolagents.local_python_executor import CodeOutput, InterpreterError, PythonExecutor
except ModuleNotFoundError as error:
    raise ImportError("BoxExecutor needs smolagents: pip install smolagents") from error

import attrs

from proxybox import ExecutionError, Session, Status
from proxybox.agents.interface import MOST, NOTHING, PythonTool, ToolResult, harmless

FINAL_ANSWER: Final = "final_answer"

#: What a session is told first; TOOLS has the name and the description of each tool.
_EQUIP: Final = """
def equip(tools, names):
    import host

    class FinalAnswerException(BaseException):
        "Ends the code that has called final_answer."

    def function_of(name, words):
        def tool(*args, **kwargs):
            value = call(name, args, kwargs)
            if name == "final_answer":
                raise FinalAnswerException(*args)
            return value

        tool.__name__ = tool.__qualname__ = name
        tool.__doc__ = words
        return tool

    call = host.tool
    for name, words in tools.items():
        names[name] = function_of(name, words)

equip(TOOLS, globals())
del equip, TOOLS
"""
#: Prints which modules of its arguments cannot be imported.
_MISSING: Final = """
import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])
"""


class BoxExecutor(PythonExecutor):
    """Runs an agent's code in one session of a box, which keeps names and files from step to step.

    additional_authorized_imports: modules that the code will need besides the standard library's; `packages` has to
    bring them. They are looked for now. What code imports is not restricted otherwise: the box protects, and not a
    list. max_print_outputs_length: how many characters of what it prints are told. policy, options: as for
    `proxybox.Sandbox`.

    When a session ends, at a limit that the code did not heed or by a crash, the model is told so, and the next step
    begins another one, with the agent's tools and variables. Raises ValueError for modules that are not in the box.
    """

    def __init__(
        self,
        additional_authorized_imports: Sequence[str] = (),
        *,
        policy: Any = None,
        max_print_outputs_length: int | None = None,
        **options: Any,
    ) -> None:
        self._tools: dict[str, Callable[..., Any]] = {}
        self._variables: dict[str, Any] = {}
        self._equipped: Session | None = None
        self._has_new_tools = False
        self._answer: tuple[Any, ...] = ()  # the final one, once there is one
        functions = {**options.pop("functions", {}), "tool": self._call_tool}
        most = MOST if max_print_outputs_length is None else max_print_outputs_length
        self._python = PythonTool(policy, most=most, functions=functions, **options)
        self._check_imports(additional_authorized_imports)

    def send_tools(self, tools: Mapping[str, Callable[..., Any]]) -> None:
        """Makes the agent's tools known to the code, as functions by these names."""
        for name in tools:
            if not name.isidentifier() or keyword.iskeyword(name):
                raise ValueError(f"tools: {name!r} cannot be the name of a function")
        self._tools, self._has_new_tools = dict(tools), True

    def send_variables(self, variables: Mapping[str, Any]) -> None:
        """Sets variables of the code to copies of plain data. Raises TypeError for what is none."""
        session = self._session()
        for name, value in variables.items():
            try:
                session.set(name, value)
            except (TypeError, ValueError) as error:
                raise type(error)(f"variable {name}: {error}") from None
            self._variables[name] = value

    def __call__(self, code_action: str) -> CodeOutput:
        """Runs one step. Raises InterpreterError, with what the model should read, for code that fails."""
        if refusal := self._python.refusal(code_action):
            raise InterpreterError(refusal)
        session, self._answer = self._session(), ()
        ran = self._python.ran(code_action)
        if self._answer:  # what follows a final answer, and how it ended the code, is of no interest
            ran = attrs.evolve(ran, result=attrs.evolve(ran.result, status=Status.OK, exit_code=0, error=None))
            return CodeOutput(output=self._answer[0], logs=self._logs(ran), is_final_answer=True)
        if not ran.result.ok:
            raise InterpreterError(self._python.told(ran))
        return CodeOutput(output=_value(ran, session), logs=self._logs(ran), is_final_answer=False)

    def cleanup(self) -> None:
        """Ends the box."""
        self._python.close()

    def _session(self) -> Session:
        """Returns the session, which knows the tools; a new one has the variables, too."""
        session = self._python.session()
        if session is self._equipped and self._has_new_tools:
            try:
                self._equip(session)
            except ExecutionError:  # earlier code has broken what this needs
                session.close()
                session = self._python.session()
        if session is not self._equipped:
            self._equip(session)
            for name, value in self._variables.items():
                session.set(name, value)
        self._equipped, self._has_new_tools = session, False
        return session

    def _equip(self, session: Session) -> None:
        """Makes functions of the tools. Raises ExecutionError."""
        session.set("TOOLS", {name: _description(tool) for name, tool in self._tools.items()})
        session.exec(_EQUIP, name="<tools>", check=True)

    def _call_tool(self, name: object, args: Any, kwargs: Any) -> Any:
        """The host function by which the code calls a tool. All arguments are the program's choice."""
        tool = self._tools.get(name) if isinstance(name, str) else None
        if tool is None or not isinstance(args, tuple) or not isinstance(kwargs, dict):
            raise ValueError("tool: want the name of a tool, a tuple and a dict")
        value = tool(*args, **kwargs)
        if name == FINAL_ANSWER:
            self._answer = self._answer or (value,)
            return None
        return str(value) if isinstance(value, str) else value  # AgentText is a str; only plain ones cross

    def _logs(self, ran: ToolResult) -> str:
        printed = self._python.told(ran, with_value=False)
        return "" if printed == NOTHING else f"{printed}\n"

    def _check_imports(self, modules: Sequence[str]) -> None:
        names = [module.partition(".")[0] for module in modules if module != "*"]
        result = self._python.sandbox.run(_MISSING, names, check=True) if names else None
        if result is not None and (missing := result.stdout.split()):
            raise ValueError(
                f"additional_authorized_imports: {', '.join(missing)}: not in the box; "
                "name what brings them (packages=)"
            )


def _description(tool: object) -> str:
    words = getattr(tool, "description", "")
    return str(words) if isinstance(words, str) else ""


def _value(ran: ToolResult, session: Session) -> Any:
    """Returns the last expression's value, if it is plain data; else its text. Untrusted: the program wrote it."""
    if not any(each.kind == "value" for each in ran.shown) or not session.alive:
        return None
    found = session.eval("_")
    value = found.value if found.ok else ran.value
    return harmless(value) if isinstance(value, str) else value
