"""smolagents: an executor for CodeAgent whose code runs in a box.

    with CodeAgent(tools=[...], model=model, executor=BoxExecutor()) as agent:
        agent.run("...")

smolagents (https://huggingface.co/docs/smolagents) passes tools and variables to its executor, and then one piece of
code after another. Tools remain on the trusted side: the code has functions with their names; arguments and results are
plain data. An answer is final only if the code calls the agent's tool `final_answer`, which runs here; the text that
the code prints has no part in this.
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

#: The first code in a session; TOOLS has the name and the description of each tool.
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
#: Prints those of its arguments that are modules which cannot be imported.
_MISSING: Final = """
import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])
"""


class BoxExecutor(PythonExecutor):
    """Runs an agent's code in one session of a box, whose names and files remain from step to step.

    additional_authorized_imports: modules that the code will need besides the standard library's; `packages` has to
    contain them. The constructor checks that they exist. Imports are not restricted: the box protects the host, not a
    list. max_print_outputs_length: the most characters of printed text that are reported. policy, options: as for
    `proxybox.Sandbox`.

    When a session ends, because of a limit that the code did not respect or a crash, the model gets a note, and the
    next step begins a new session with the agent's tools and variables. Raises ValueError for modules that are not in
    the box.
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
        self._answer: tuple[Any, ...] = ()  # the final answer, once there is one
        functions = {**options.pop("functions", {}), "tool": self._call_tool}
        most = MOST if max_print_outputs_length is None else max_print_outputs_length
        self._python = PythonTool(policy, most=most, functions=functions, **options)
        self._check_imports(additional_authorized_imports)

    def send_tools(self, tools: Mapping[str, Callable[..., Any]]) -> None:
        """Makes the agent's tools available to the code, as functions of these names."""
        for name in tools:
            if not name.isidentifier() or keyword.iskeyword(name):
                raise ValueError(f"tools: {name!r} cannot be the name of a function")
        self._tools, self._has_new_tools = dict(tools), True

    def send_variables(self, variables: Mapping[str, Any]) -> None:
        """Sets variables of the code to copies of plain data. Raises TypeError for other values."""
        session = self._session()
        for name, value in variables.items():
            try:
                session.set(name, value)
            except (TypeError, ValueError) as error:
                raise type(error)(f"variable {name}: {error}") from None
            self._variables[name] = value

    def __call__(self, code_action: str) -> CodeOutput:
        """Runs one step. Raises InterpreterError, with a text for the model, for code that fails."""
        if refusal := self._python.refusal(code_action):
            raise InterpreterError(refusal)
        session, self._answer = self._session(), ()
        ran = self._python.ran(code_action)
        if self._answer:  # the rest of the step, and its end, do not matter after a final answer
            ran = attrs.evolve(ran, result=attrs.evolve(ran.result, status=Status.OK, exit_code=0, error=None))
            return CodeOutput(output=self._answer[0], logs=self._logs(ran), is_final_answer=True)
        if not ran.result.ok:
            raise InterpreterError(self._python.told(ran))
        return CodeOutput(output=_value(ran, session), logs=self._logs(ran), is_final_answer=False)

    def cleanup(self) -> None:
        """Ends the box."""
        self._python.close()

    def _session(self) -> Session:
        """Returns the session with the tools; a new session gets the variables, too."""
        session = self._python.session()
        if session is self._equipped and self._has_new_tools:
            try:
                self._equip(session)
            except ExecutionError:  # earlier code has broken something that this needs
                session.close()
                session = self._python.session()
        if session is not self._equipped:
            self._equip(session)
            for name, value in self._variables.items():
                session.set(name, value)
        self._equipped, self._has_new_tools = session, False
        return session

    def _equip(self, session: Session) -> None:
        """Defines functions for the tools. Raises ExecutionError."""
        session.set("TOOLS", {name: _description(tool) for name, tool in self._tools.items()})
        session.exec(_EQUIP, name="<tools>", check=True)

    def _call_tool(self, name: object, args: Any, kwargs: Any) -> Any:
        """The host function by which the code calls a tool. The program chooses all arguments."""
        tool = self._tools.get(name) if isinstance(name, str) else None
        if tool is None or not isinstance(args, tuple) or not isinstance(kwargs, dict):
            raise ValueError("tool: want the name of a tool, a tuple and a dict")
        value = tool(*args, **kwargs)
        if name == FINAL_ANSWER:
            self._answer = self._answer or (value,)
            return None
        return str(value) if isinstance(value, str) else value  # AgentText is a str, but only a plain str can be sent

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
    """Returns the last expression's value, if it is plain data; otherwise its text. Untrusted: the program wrote it."""
    if not any(each.kind == "value" for each in ran.shown) or not session.alive:
        return None
    found = session.eval("_")
    value = found.value if found.ok else ran.value
    return harmless(value) if isinstance(value, str) else value
