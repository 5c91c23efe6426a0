"""The kernel: turns Jupyter's messages into calls of a session, and its output and displayed data into messages.

The main thread runs cells and waits for them. Interrupts and the shutdown come in ipykernel's control thread.
https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

import asyncio
import re
import signal
import threading
import time
from typing import Any

import zmq
from ipykernel._version import kernel_protocol_version
from ipykernel.kernelbase import Kernel
from IPython.core.error import StdinNotImplementedError

import proxybox
from proxybox import Displayed, Inspection, Policy, Result
from proxybox.kernel.box import KernelBox
from proxybox.kernel.budget import StepBudget
from proxybox.kernel.cellerrors import NO_WIDGETS, CellError, cell_error, cut_off
from proxybox.kernel.history import History
from proxybox.kernel.sanitising import Sanitiser
from proxybox.kernel.spec import KernelOptions
from proxybox.kernel.streams import StreamSender
from proxybox.terminal.harmless import on_one_line

#: `name?` and `?name`; two marks ask for the source.
_QUESTION = re.compile(r"(\?{0,2}) ?([^\W\d][\w.]*) ?(\?{0,2})")
_LONGEST_QUESTION = 200
#: Names (display_id) by which displayed data can be replaced.
_DISPLAY_ID = re.compile(r"[\w.-]{1,100}", re.ASCII)
#: Seconds after an interrupt in which a read of the program fails: the program may have been about to read.
_FRESH = 0.1


class ProxyboxKernel(Kernel):
    """A kernel whose cells run in a box. The policy and the options are set on the class before it is made."""

    implementation = "proxybox"
    implementation_version = proxybox.__version__
    banner = f"proxybox {proxybox.__version__}: Python in a box"
    language_info = {  # noqa: RUF012 - as ipykernel has it
        "name": "python",
        "mimetype": "text/x-python",
        "file_extension": ".py",
        "pygments_lexer": "ipython3",
        "codemirror_mode": {"name": "python", "version": 3},
        "nbconvert_exporter": "python",
    }
    policy: Policy
    choice = KernelOptions()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shell_handlers |= {"comm_open": self._refuse_comm, "comm_msg": self._refuse_comm, "comm_close": _heed_not}
        self._box = KernelBox(self.policy, self._read, self.choice)
        self.language_info = {**self.language_info, "version": self._box.python_version()}
        output = self.policy.output
        self._sanitiser = Sanitiser(output.display, raw=output.escapes == "raw")
        self._streams = StreamSender(self._send_stream)
        self._history = History()
        self._parent: dict[str, Any] = {}
        self._silent = self._in_cell = self._no_input = False
        self._asking = self._freeing = False
        self._interrupted_at = float("-inf")

    @property
    def kernel_info(self) -> dict[str, Any]:
        """Returns the reply to kernel_info_request. ipykernel's own would import a debugger, which prints on stderr."""
        return {
            "protocol_version": kernel_protocol_version,
            "implementation": self.implementation,
            "implementation_version": self.implementation_version,
            "language_info": self.language_info,
            "banner": self.banner,
            "help_links": [],
            "supported_features": [],
        }

    # --- cells --------------------------------------------------------------------------------------------------------

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        """Runs a cell."""
        self._parent, self._silent, self._allow_stdin = self.get_parent("shell"), silent, allow_stdin
        self._no_input = False
        if store_history and not silent:
            self._history.add(self.execution_count, code)
        reply: dict[str, Any] = {"execution_count": self.execution_count, "payload": [], "user_expressions": {}}
        try:
            trouble = self._answer_question(code, reply) if _is_question(code) else self._run(code)
        except (proxybox.ProxyboxError, ValueError) as error:  # ValueError: the cell is too large to be sent
            trouble = CellError.of(type(error).__name__, on_one_line(str(error)))
        if trouble is not None:
            self._send("error", trouble.content())
            return {**reply, "status": "error", **trouble.content()}
        for name, expression in (user_expressions or {}).items():
            reply["user_expressions"][name] = self._value_of(expression)
        return {**reply, "status": "ok"}

    def _run(self, code: str) -> CellError | None:
        self._in_cell = True
        self._streams.begin()
        try:
            result: Result = self._box.run(
                lambda session: session.exec(
                    code, echo=True, on_display=self._show,
                    on_stdout=lambda text: self._streams.write("stdout", text),
                    on_stderr=lambda text: self._streams.write("stderr", text),
                )
            )  # fmt: skip
        finally:
            self._in_cell = False
            self._streams.flush()
        for text in cut_off(result):
            self._send("display_data", {"data": {"text/plain": text}, "metadata": {}})
        return cell_error(result, self._box.is_alive, self._no_input, code)

    def _show(self, shown: Displayed) -> None:
        self._streams.flush()
        if shown.kind == "clear":
            self._send("clear_output", {"wait": shown.wait})
            return
        began = time.monotonic()
        budget = StepBudget(is_stopped=lambda: self._interrupted_at >= began)
        data, metadata = self._sanitiser.bundle(shown.data, shown.metadata, budget)
        content: dict[str, Any] = {"data": data, "metadata": metadata}
        if shown.kind == "value":
            self._history.add_output(data["text/plain"])
            self._send("execute_result", {**content, "execution_count": self.execution_count})
            return
        name = shown.metadata.get("display_id")
        if isinstance(name, str) and _DISPLAY_ID.fullmatch(name):
            content["transient"] = {"display_id": f"box-{name}"}
            self._send("update_display_data" if shown.kind == "update" else "display_data", content)
        elif shown.kind == "display":
            self._send("display_data", content)

    def _send_stream(self, stream: str, text: str) -> None:
        self._send("stream", {"name": stream, "text": self._sanitiser.text(text)})

    def _send(self, kind: str, content: dict[str, Any]) -> None:
        """Sends a message to all front ends, as output of the current cell; from any thread."""
        if self.session is not None and not self._silent:
            self.session.send(self.iopub_socket, kind, content, parent=self._parent, ident=self._topic(kind))

    def _answer_question(self, code: str, reply: dict[str, Any]) -> CellError | None:
        found = _question(code)
        if found is None:
            return None
        detail = 1 if "??" in (found[1], found[3]) else 0
        known = self._box.session.inspect(found[2], detail=detail)
        if known is None:
            self._send_stream("stdout", f"Object `{on_one_line(found[2])}` not found.\n")
        else:
            reply["payload"] = [{"source": "page", "data": {"text/plain": _described(known)}, "start": 0}]
        return None

    def _value_of(self, expression: str) -> dict[str, Any]:
        try:
            result: Result = self._box.run(
                lambda session: session.eval(f"__import__('builtins').repr((\n{expression}\n))")
            )
        except (proxybox.ProxyboxError, ValueError) as error:
            trouble: CellError | None = CellError.of(type(error).__name__, on_one_line(str(error)))
        else:
            trouble = cell_error(result, self._box.is_alive, no_input=True)
            if trouble is None and isinstance(result.value, str):
                return {"status": "ok", "data": {"text/plain": self._sanitiser.text(result.value)}, "metadata": {}}
        return {"status": "error", **(trouble or CellError.of("TypeError", "no value")).content()}

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        """Aborts the waiting cells, after a cell has failed.

        A cell that a front end sends after it got the answer is not aborted. ipykernel's own method would abort it,
        too, if it came at once.
        """
        if self.shell_stream is not None:
            self._aborting = True
            self.shell_stream.flush(zmq.POLLIN)
            # Each message that has been read is a task, which makes another task to dispatch it (ipykernel.utils). So
            # _stop_aborting, two turns of the loop later, runs after all of these, and before any later message.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._stop_aborting)

    def _stop_aborting(self) -> None:
        self._aborting = False

    def _refuse_comm(self, stream: Any, ident: Any, parent: Any) -> None:
        """Refuses the connection to the code that a widget of the page asks for (a comm).

        It is closed at once, as the protocol says for unknown targets, so that the page does not wait for an answer.
        The data of the reply says why.
        """
        if self.session is not None:
            why = {"status": "error", "ename": "NoComms", "evalue": NO_WIDGETS}
            content = {"comm_id": parent["content"].get("comm_id", ""), "data": why}
            self.session.send(self.iopub_socket, "comm_close", content, parent, ident=self._topic("comm_close"))

    # --- input --------------------------------------------------------------------------------------------------------

    def _read(self, size: int, echo: bool) -> str:
        """Reads a line from the front end for the program; called by the main thread, which serves the program."""
        if self._is_interrupted():
            raise InterruptedError
        if not self._allow_stdin or not self._in_cell:
            self._no_input = True
            return ""
        question = self._sanitiser.text(self._streams.take_question())
        try:
            self._asking = True
            try:
                if self._is_interrupted():  # the interrupt came before _asking was set, so it did not raise here
                    raise KeyboardInterrupt
                line: str = self.raw_input(question) if echo else self.getpass(question)
            finally:
                self._asking = False
        except (EOFError, StdinNotImplementedError):
            return ""
        except KeyboardInterrupt:
            self._asking = False
            raise InterruptedError from None
        return line + "\n"

    def _is_interrupted(self) -> bool:
        return time.monotonic() - self._interrupted_at < _FRESH

    # --- interrupts, the end ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to take messages, in the main thread."""
        signal.signal(signal.SIGINT, self._on_sigint)
        super().start()

    def pre_handler_hook(self) -> None:
        """Does nothing: ipykernel's own would replace the handler of SIGINT, which always belongs to the cell here."""

    def post_handler_hook(self) -> None:
        """Does nothing, as `pre_handler_hook`."""

    def interrupt(self) -> None:
        """Raises KeyboardInterrupt in the cell that runs, wherever it is; can be called from any thread."""
        self._interrupted_at = time.monotonic()
        self._box.interrupt()
        self._free()

    def _free(self) -> None:
        """Ends the wait for an answer of a front end: ipykernel waits in the main thread until SIGINT arrives there."""
        if self._asking:
            self._freeing = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _on_sigint(self, *_: object) -> None:
        if not self._freeing:
            self._interrupted_at = time.monotonic()
            self._box.interrupt()
        self._freeing = False
        if self._asking:
            raise KeyboardInterrupt

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Handles an interrupt that comes as a message."""
        self.interrupt()
        if self.session is not None:
            self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """Ends the box, even if a cell runs in it."""
        self._interrupted_at = time.monotonic()
        self._box.close()
        self._free()
        return {"status": "ok", "restart": restart}

    def settle(self) -> None:
        """Releases all resources, after the last message."""
        self._streams.close()
        self._box.settle()

    # --- what a person wants to know ----------------------------------------------------------------------------------

    async def do_complete(self, code: str, cursor_pos: int | None) -> dict[str, Any]:
        """Returns names that can complete the word at the cursor."""
        cursor = len(code) if cursor_pos is None else cursor_pos
        try:
            found = self._box.session.complete(code, cursor)
        except proxybox.ProxyboxError:
            found = proxybox.Completion(cursor, ())
        return {
            "status": "ok",
            "matches": [on_one_line(match) for match in found.matches],
            "cursor_start": max(0, min(found.start, cursor)),
            "cursor_end": cursor,
            "metadata": {},
        }

    async def do_inspect(
        self, code: str, cursor_pos: int | None, detail_level: int = 0, omit_sections: object = ()
    ) -> dict[str, Any]:
        """Returns a description of the object at the cursor."""
        try:
            known = self._box.session.inspect(code, cursor_pos, detail=detail_level)
        except proxybox.ProxyboxError:
            known = None
        data = {} if known is None else {"text/plain": _described(known)}
        return {"status": "ok", "found": known is not None, "data": data, "metadata": {}}

    async def do_is_complete(self, code: str) -> dict[str, Any]:
        """Returns whether a cell is complete, for a front end that runs complete cells at the Enter key."""
        try:
            found = self._box.session.is_complete(code)
        except proxybox.ProxyboxError:
            return {"status": "unknown"}
        if found.status == "incomplete":
            return {"status": "incomplete", "indent": found.indent}
        return {"status": found.status if found.status in ("complete", "invalid") else "unknown"}

    async def do_history(  # type: ignore[override]
        self, hist_access_type: str, output: bool, raw: bool, **wanted: Any
    ) -> dict[str, Any]:
        """Returns earlier cells."""
        return {"status": "ok", "history": self._history.find(hist_access_type, output, **wanted)}


def _heed_not(stream: Any, ident: Any, parent: Any) -> None:
    """Ignores a message that needs no answer."""


def _question(code: str) -> re.Match[str] | None:
    line = code.strip()
    return _QUESTION.fullmatch(line) if len(line) <= _LONGEST_QUESTION else None


def _is_question(code: str) -> bool:
    found = _question(code)
    return found is not None and bool(found[1] or found[3])


_ESCAPED = Sanitiser(())


def _described(known: Inspection) -> str:
    """Describes an object in words, all of which come from the guest."""
    parts = [
        ("Signature", f"{known.name}{known.signature}" if known.signature else None),
        ("Type", known.type),
        ("Value", known.text),
        ("Docstring", known.doc),
        ("Source", known.source),
    ]
    return "\n\n".join(
        f"{title}:{chr(10) if chr(10) in text else ' '}{_ESCAPED.text(text)}" for title, text in parts if text
    )
