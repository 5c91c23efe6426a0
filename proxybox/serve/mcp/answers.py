"""The answers to clients, made from results: structured content, and blocks for the model.

The first block has our own words (proxybox/modelsummary.py): how the code has ended, and notes about the box. The
second has the text that the program printed and showed. Pictures follow; the first bytes of each are checked.
Everything is bounded, so that a program cannot fill a model's context.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

import attrs
import mcp_types as types
from pydantic import BaseModel, Field

from proxybox.explanations import name
from proxybox.modelsummary import NOTHING, Made, cut, marked, notes, of_files, together, trace_of
from proxybox.policies import Policy
from proxybox.remote.answers import result_of
from proxybox.sandbox import policy_of_run
from proxybox.streamevents import DisplayEvent
from proxybox.terminal.harmless import harmless_lines, on_one_line
from proxybox.terminal.pictures import KINDS, NoPicture, picture

#: The most characters of each stream, of a value and of an error; of all texts of files; and of a name.
_MOST_TEXT, _MOST_FILES_TEXT, _NAME = 20_000, 20_000, 500
#: The most files in an answer, the most pictures, and the characters of these in base64.
_MOST_FILES, _MOST_PICTURES, _PICTURE_BYTES = 100, 8, 6 << 20
#: The most objects shown while the code runs, their characters, and the most types that are reported of one.
_MOST_SHOWN, _SHOWN_SIZE, _MOST_TYPES = 1_000, 16 << 20, 10
#: The types of pictures by the suffixes of files' names.
_ENDS: Final = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif"}


class Failure(BaseModel):
    """The exception that the code ended with. Untrusted text."""

    type: str
    message: str = ""


class McpFile(BaseModel):
    """A file. kind, text: in a fresh box, whether it was added, changed or deleted, and its content.

    uri: its resource in a kept box.
    """

    path: str
    size: int | None = None
    kind: str | None = None
    text: str | None = None
    uri: str | None = None


class McpAnswer(BaseModel):
    """How code has ended. Fields that do not apply are omitted."""

    status: str = Field(description="ok, error, syntax_error, time_limit, memory_limit, output_limit, ...")
    ok: bool = False
    notes: list[str] = Field([], description="What the box refused, which limits were reached, and what to do then.")
    stdout: str = ""
    stderr: str = ""
    value: str | None = Field(None, description="The value of the expression at the end, as text (execute).")
    shown: str | None = Field(None, description="What was displayed as text (execute).")
    error: Failure | None = None
    files: list[McpFile] = Field(
        [], description="run_python: the files that have changed. execute: what is in the current folder."
    )
    truncated: bool = Field(False, description="Whether text was left out.")
    session: str | None = Field(None, description="Name it in further calls of execute to go on with this box.")


@attrs.frozen
class _Shown:
    """An object that was shown: text and pictures (base64) by type. untold: its types, if it has neither."""

    data: Mapping[str, str]
    untold: Sequence[str] = ()
    identity: object = None
    is_value: bool = False

    @property
    def picture(self) -> str:
        """The type of its picture; empty without one."""
        return next((kind for kind in KINDS if kind in self.data), "")

    @property
    def size(self) -> int:
        """The number of its characters."""
        return sum(map(len, (*self.data.values(), *self.untold)))


class Displays:
    """The objects that statements have shown, as in a notebook: an update replaces one, and clearing removes all."""

    def __init__(self) -> None:
        self._shown: list[_Shown] = []
        self._is_to_clear = False
        self.missed = 0  # how many objects were dropped for lack of room

    def take(self, event: DisplayEvent) -> None:
        """Adds, replaces or removes objects for an event."""
        if event.kind == "clear":
            self._is_to_clear = True
            if not event.wait:
                self._clear()
            return
        if self._is_to_clear:
            self._clear()
        data = event.data
        kept = {kind: text for kind in (*KINDS, "text/plain") if isinstance(text := data.get(kind), str)}
        untold = () if kept else tuple(kind[:_NAME] for kind in islice(data, _MOST_TYPES))
        new = _Shown(kept, untold, event.metadata.get("display_id"), event.kind == "value")
        shown = [*self._shown, new]
        if event.kind == "update":
            is_same = [new.identity is not None and each.identity == new.identity for each in self._shown]
            shown = [new if same else each for each, same in zip(self._shown, is_same, strict=True)]
        if len(shown) > _MOST_SHOWN or sum(each.size for each in shown) > _SHOWN_SIZE:
            self.missed += 1
        else:
            self._shown = shown

    def _clear(self) -> None:
        self._shown, self._is_to_clear = [], False

    def texts(self, *, values: bool) -> str:
        """Returns the text of the objects without a picture. values: the value at the end, or all others."""
        shown = [each for each in self._shown if each.is_value is values and not each.picture]
        return "\n".join(each.data["text/plain"] for each in shown if each.data)

    def untold(self) -> tuple[str, ...]:
        """Returns the types of the objects that had neither a picture nor a text, as the program named them."""
        return tuple(dict.fromkeys(kind for each in self._shown for kind in each.untold))

    def pictures(self) -> list[tuple[str, str]]:
        """Returns the pictures that were shown: their types and contents."""
        return [(kind, each.data[kind]) for each in self._shown if (kind := each.picture)]


def answer_of(
    result: Mapping[str, Any], policy: Policy, timeout: float | None, *, shown: Displays | None = None,
    entries: Sequence[Mapping[str, Any]] = (), folder: str = "", session: str | None = None,
) -> types.CallToolResult:  # fmt: skip
    """Returns the answer to a client.

    result: in the form of a worker. timeout: that of the call. entries: the entries of the current folder, whose URI is
    `folder`. session: the id of the session, for a client that has to name it.
    """
    ended, shown = result_of({**result, "files": [], "value": None}), shown or Displays()
    ours = notes(
        ended, policy_of_run(policy, timeout, None, None), untold=shown.untold(), goes_on=result.get("alive")
    )  # fmt: skip
    texts = {
        "stdout": ended.stdout, "stderr": ended.stderr + trace_of(ended),  # a session's interpreter prints no traceback
        "value": shown.texts(values=True), "shown": shown.texts(values=False),
    }  # fmt: skip
    cuts = {key: cut(text, _MOST_TEXT) for key, text in texts.items()}
    wrong = None if ended.error is None else Failure(
        type=name(ended.error.type), message=cut(ended.error.message, _NAME)[0]
    )  # fmt: skip
    files = _present(entries, folder) if folder else _changed(result["files"])
    pictures, left_out = _pictures([*shown.pictures(), *_drawn(result["files"])])
    if left_out:
        ours.append(f"{left_out} more of the pictures are left out, or are none: show fewer, or smaller ones")
    if shown.missed:
        ours.append(f"{shown.missed:,} more of what was shown is left out: show less")
    if session is not None:
        ours.append(f'session: {session} (pass session="{session}" to go on with this box)')
    answer = McpAnswer(
        status=ended.status, ok=ended.ok, notes=ours, stdout=cuts["stdout"][0], stderr=cuts["stderr"][0],
        value=cuts["value"][0] or None, shown=cuts["shown"][0] or None, error=wrong, files=files,
        truncated=ended.truncated or any(is_cut for _, is_cut in cuts.values()), session=session,
    )  # fmt: skip
    blocks: list[types.ContentBlock] = [types.TextContent(text=_first_words(answer))]
    if wrote := together(answer.stdout, answer.stderr, answer.shown or "", answer.value or ""):
        blocks.append(types.TextContent(text=wrote))
    return types.CallToolResult(
        content=[*blocks, *pictures], structured_content=answer.model_dump(mode="json", exclude_none=True)
    )


def _first_words(answer: McpAnswer) -> str:
    """Our own words: a line about the end, unless a note is about it, and one for each note."""
    ended = [answer.status.replace("_", " ")] if answer.status in ("ok", "error", "syntax_error") else []
    made = [Made(file.path, file.size) for file in answer.files]
    title = "files" if made and answer.files[0].uri else "files made or changed"
    lines = [
        *(ended if answer.error is None else [f"{each}: {answer.error.type}" for each in ended]),
        *answer.notes, *of_files(title, made),
    ]  # fmt: skip
    is_silent = not (answer.stdout or answer.stderr or answer.value or answer.shown)
    return "\n".join([marked(lines), *([NOTHING] if is_silent else [])])


# --- files ------------------------------------------------------------------------------------------------------------


def _changed(files: Iterable[Mapping[str, Any]]) -> list[McpFile]:
    """Returns the files that a fresh box has changed, with the texts of small files."""
    room = _MOST_FILES_TEXT
    found: list[McpFile] = []
    for file in files:
        if file["type"] != "file" or len(found) >= _MOST_FILES:
            continue
        text = file.get("text")
        if text is not None and len(text) > room:
            text = None
        room -= len(text or "")
        found.append(
            McpFile(
                path=on_one_line(file["path"])[:_NAME], size=file.get("size"), kind=file["kind"],
                text=None if text is None else harmless_lines(text),
            )
        )  # fmt: skip
    return found


def _present(entries: Iterable[Mapping[str, Any]], folder: str) -> list[McpFile]:
    """Returns the files in the current folder of a kept box."""
    return [
        McpFile(
            path=on_one_line(entry["name"])[:_NAME], size=entry["size"],
            uri=f"{folder}/{quote(entry['name'], errors='surrogateescape')}",
        )
        for entry in islice((entry for entry in entries if entry["type"] == "file"), _MOST_FILES)
    ]  # fmt: skip


def _drawn(files: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, Any]]:
    """Returns the pictures among the files that a fresh box has written."""
    for file in files:
        kind = _ENDS.get(file["path"].rpartition(".")[2].lower())
        if kind and "size" in file:
            yield kind, file["text"].encode("utf-8", "surrogatepass") if "text" in file else file["base64"]


def _pictures(found: Iterable[tuple[str, Any]]) -> tuple[list[types.ImageContent], int]:
    """Returns the blocks of pictures, within bounds, and how many pictures are omitted."""
    room, left_out = _PICTURE_BYTES, 0
    blocks: list[types.ImageContent] = []
    for kind, content in found:
        try:
            data = picture(kind, content)
        except NoPicture:
            data = ""
        if data and len(data) <= room and len(blocks) < _MOST_PICTURES:
            blocks.append(types.ImageContent(data=data, mime_type=kind))
            room -= len(data)
        else:
            left_out += 1
    return blocks, left_out
