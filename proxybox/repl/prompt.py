"""The prompt itself, made with prompt_toolkit: keys, completion, history and the bar at the bottom."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition, has_completions, has_selection
from prompt_toolkit.formatted_text import FormattedText, StyleAndTextTuples
from prompt_toolkit.history import DummyHistory, FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import ConditionalContainer, Float, FloatContainer, FormattedTextControl, Window, walk
from prompt_toolkit.lexers import Lexer, PygmentsLexer
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth, is_dumb_terminal
from prompt_toolkit.widgets import Frame

from proxybox import ProxyboxError
from proxybox.repl import commands
from proxybox.repl.screen import LEAVING, MARK, PS1, PS2, harmless, one_line
from proxybox.terminal.colouring import PYTHON

if TYPE_CHECKING:
    from proxybox.repl.loop import Shell

_Handler: TypeAlias = Callable[[KeyPressEvent], None]

_INDENT = "    "
#: The most lines and columns of the pop-up.
_POPUP = (12, 76)
_STYLE = Style.from_dict(
    {
        "prompt": "ansigreen bold",
        "mark": "reverse",
        "bottom-toolbar": "noreverse ansibrightblack",
        "popup": "noreverse",
        **{f"pygments.{kind.lower()}": f"ansi{colour}" for kind, colour in PYTHON.items() if colour},
    }
)


def history_file() -> Path:
    """Returns the path of the history (XDG Base Directory Specification): on the host, where no box sees it."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(state) / "proxybox" / "repl_history"


def open_history(path: Path | None) -> tuple[History, str]:
    """Returns the history in a file that only its owner can read, and why it is not stored if that fails.

    path: None for a history in memory.
    """
    if path is None:
        return InMemoryHistory(), ""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return InMemoryHistory(), f"the history is not stored: {path}: {error.strerror}"
    return FileHistory(str(path)), ""


@contextlib.contextmanager
def plain_output(file: TextIO) -> Iterator[None]:
    """Writes no escape sequences within the block when the terminal knows none."""
    if not is_dumb_terminal():
        yield
        return
    with create_app_session(output=PlainTextOutput(file)):
        yield


class Python(Lexer):
    """Colours Python. Pygments is loaded when something is typed, so that the prompt appears without waiting for it."""

    def __init__(self) -> None:
        self._lexer: Lexer | None = None

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """Returns the function that colours a line, as Lexer says."""
        if self._lexer is None:
            if not document.text:
                return lambda line: []
            from pygments.lexers.python import PythonLexer

            self._lexer = PygmentsLexer(PythonLexer)
        return self._lexer.lex_document(document)


class Names(Completer):
    """Completes from the live objects of the session: only when Tab is pressed, since that runs the program's code."""

    def __init__(self, shell: "Shell") -> None:
        self._shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yields completions at the cursor. Names that a terminal cannot show are left out."""
        text = document.text_before_cursor
        if text.startswith("%"):
            start, matches = commands.completions(self._shell, text)
        else:
            try:
                found = self._shell.console.session.complete(document.text, document.cursor_position)
            except ProxyboxError:
                return
            start, matches = found.start, found.matches
        for match in matches:
            if match.isprintable() and harmless(match) == match:
                yield Completion(match, start_position=start - document.cursor_position, display=one_line(match, 60))


class TerminalPrompter:
    """A `Prompter` at a terminal."""

    def __init__(self, shell: "Shell", *, vi: bool = False, history: Path | None = None, **options: Any) -> None:
        """options: options of PromptSession that tests set: input and output."""
        self._shell = shell
        self._popup = ""
        colours = shell.screen.paint.wanted
        self._depth = None if colours else ColorDepth.DEPTH_1_BIT
        opened, self.warning = open_history(history)
        self._session: PromptSession[str] = PromptSession(
            [("class:prompt", PS1)],
            multiline=True,
            prompt_continuation=lambda width, line, wrapped: [("class:prompt", PS2)],
            lexer=Python() if colours else None,
            completer=Names(shell),
            complete_while_typing=False,
            enable_history_search=True,
            enable_suspend=True,
            history=opened,
            auto_suggest=AutoSuggestFromHistory(),
            key_bindings=self._keys(),
            bottom_toolbar=self._bar,
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            style=_STYLE,
            include_default_pygments_style=False,
            color_depth=self._depth,
            **options,
        )
        self._options = options
        self._input: PromptSession[str] | None = None
        self._add_popup()

    def read(self) -> str:
        """Reads a block of code, or a command."""
        text = self._session.prompt()
        lines = text.split("\n")
        while len(lines) > 1 and not lines[-1].strip():
            lines.pop()
        return "\n".join(lines)

    def ask(self, message: str, *, echo: bool) -> str:
        """Reads a line for the program, after a mark that the program cannot replace by something like the prompt."""
        if self._input is None:
            self._input = PromptSession(
                history=DummyHistory(), style=_STYLE, color_depth=self._depth, enable_suspend=True, **self._options
            )
        # If it were wrapped, its second row could look like the prompt.
        if get_cwidth(MARK + message) >= self._input.app.output.get_size().columns:
            self._shell.screen.say(message)
            message = ""
        shown = FormattedText([("class:mark", MARK), ("", message)])
        return self._input.prompt(shown, is_password=not echo)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        add: Callable[..., Callable[[_Handler], _Handler]] = keys.add

        @add("enter", filter=~has_selection)
        def _(event: KeyPressEvent) -> None:
            """Runs a complete block, and continues an incomplete one; the guest's own compiler decides which it is."""
            buffer = event.current_buffer
            if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
                buffer.complete_state = None
                return
            document = buffer.document
            if document.cursor_position_row < document.line_count - 1:
                buffer.newline(copy_margin=True)
                return
            indent = self._missing(buffer.text)
            if indent is None:
                buffer.validate_and_handle()
            else:
                buffer.insert_text("\n" + indent)

        @add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            """Runs the block, whether it is complete or not."""
            event.current_buffer.validate_and_handle()

        @add("c-o")
        def _(event: KeyPressEvent) -> None:
            """Inserts a new line."""
            event.current_buffer.newline(copy_margin=True)

        before_code = Condition(lambda: not self._session.default_buffer.document.current_line_before_cursor.strip())

        @add("tab", filter=before_code & ~has_completions)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text(_INDENT)

        @add("backspace", filter=before_code & ~has_selection)
        def _(event: KeyPressEvent) -> None:
            """Deletes an indent, or one character."""
            buffer = event.current_buffer
            line = buffer.document.current_line_before_cursor
            count = len(_INDENT) if line and len(line) % len(_INDENT) == 0 and set(line) == {" "} else 1
            buffer.delete_before_cursor(count)

        @add("f1")
        def _(event: KeyPressEvent) -> None:
            """Shows what is known about the object at the cursor; a second time, hides it."""
            self._popup = "" if self._popup else self._told(event.current_buffer.document)

        @add("<any>", filter=Condition(lambda: bool(self._popup)))
        def _(event: KeyPressEvent) -> None:
            self._popup = ""
            event.key_processor.feed(event.key_sequence[0], first=True)

        return keys

    def _missing(self, text: str) -> str | None:
        """Returns the indent for the next line of an incomplete block; None for a block that can be run."""
        line = text.strip()
        if not line or line.startswith("%") or line.endswith("?") or line in LEAVING:  # decided without the guest
            return None
        try:
            found = self._shell.console.session.is_complete(text)
        except ProxyboxError:
            return None
        return found.indent if found.status == "incomplete" else None

    # --- what is shown ------------------------------------------------------------------------------------------------

    def _told(self, document: Document) -> str:
        try:
            found = self._shell.console.session.inspect(document.text, document.cursor_position)
        except ProxyboxError:
            found = None
        if found is None:
            return "nothing is known of it"
        lines = [one_line(found.name + (found.signature or f": {found.type}"), 300)]
        for text in (found.text, found.doc):
            if text:
                lines += ["", *harmless(text).split("\n")]
        height, width = _POPUP
        cut = [line[:width] for line in lines[:height]]
        return "\n".join([*cut, "..."] if len(lines) > height else cut)

    def _add_popup(self) -> None:
        content = Window(FormattedTextControl(lambda: self._popup), style="class:popup", dont_extend_width=True)
        popup = ConditionalContainer(Frame(content), filter=Condition(lambda: bool(self._popup)))
        for container in walk(self._session.layout.container):
            if isinstance(container, FloatContainer):
                container.floats.append(Float(popup, xcursor=True, ycursor=True, transparent=False))
                return

    def _bar(self) -> str:
        """Returns the text of the bar: the used resources, and their limits."""
        console = self._shell.console
        branch = "" if len(console.branches) == 1 else f"{console.current}  "
        used_of = {name: (used, most) for name, used, most in commands.usage(self._shell)}
        parts = []
        for name, what in (("time of the last block", "time"), ("memory (resident)", "memory"),
                           ("output of the last block", "output"), ("OS calls", "calls")):  # fmt: skip
            used, most = used_of[name]
            parts.append(f"{what} {used}" + ("" if most == "none" else f" of {most}"))
        return f" {branch}{'   '.join(parts)}   %help"
