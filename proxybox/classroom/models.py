"""The bodies of browsers' requests, validated: unknown fields are refused, and everything has a bound."""

import re
import unicodedata
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from proxybox.teach.filenames import is_device

#: The most characters of one file and of all together, and the most files.
MOST_FILE: Final = 1 << 20
MOST_TOGETHER: Final = 2 << 20
MOST_FILES: Final = 50
#: One part of a file's path: it begins with a letter of any language, a digit or _, and may contain a few other signs.
_PART: Final = re.compile(r"\w[\w .+-]{0,63}\Z")
_MOST_PATH, _MOST_FOLDERS = 100, 3
#: Categories of characters that a name must not contain: controls, formats (such as changes of direction), surrogates.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Invisible characters of other categories: fillers, joiners, selectors of variants, a blank.
#: https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt (Default_Ignorable_Code_Point)
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
#: How many marks (accents) may follow one another: more would cover the lines around.
_MOST_MARKS: Final = 4


def file_name(text: str) -> str:
    """Returns the path of a file, below its exercise's folder. Raises ValueError."""
    parts = text.split("/")
    plain = all(_PART.match(part) and not part.endswith((".", " ")) and not is_device(part) for part in parts)
    if not plain or len(text) > _MOST_PATH or len(parts) > _MOST_FOLDERS + 1:
        raise ValueError("want a name such as solution.py or data/list.txt, of letters, digits, and -_. inside")
    return text


def person(text: str) -> str:
    """Returns a name in its normal form. Raises ValueError."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    kinds = [unicodedata.category(sign) for sign in name]
    marks = "".join("M" if kind.startswith("M") else " " for kind in kinds)
    is_hidden = _BLANK.search(name) or not _HIDDEN.isdisjoint(kinds) or "M" * (_MOST_MARKS + 1) in marks
    if not 1 <= len(name) <= 40 or is_hidden or all(kind[0] in "MZ" for kind in kinds):
        raise ValueError("want a name of 1 to 40 letters")
    return name


def _few(files: Any) -> Any:
    """Refuses very many files: pydantic would check each of them, and report a fault for each."""
    if isinstance(files, dict) and len(files) > 2 * MOST_FILES:
        raise ValueError(f"want at most {MOST_FILES} files")
    return files


def _files(files: dict[str, Any]) -> dict[str, Any]:
    if sum(len(text or "") for text in files.values()) > MOST_TOGETHER:
        raise ValueError(f"all files together may have {MOST_TOGETHER:,} characters")
    return files


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("want a text of whole characters") from None
    return text


Name = Annotated[str, StringConstraints(max_length=200), AfterValidator(person)]
FileName = Annotated[str, AfterValidator(file_name)]
Code = Annotated[str, StringConstraints(max_length=64)]
Id = Annotated[str, StringConstraints(max_length=64)]
Source = Annotated[str, StringConstraints(max_length=MOST_FILE), AfterValidator(_whole)]
Files = Annotated[dict[FileName, Source], Field(max_length=MOST_FILES), AfterValidator(_files), BeforeValidator(_few)]
Changes = Annotated[
    dict[FileName, Source | None], Field(max_length=2 * MOST_FILES), AfterValidator(_files), BeforeValidator(_few)
]


class StrictBody(BaseModel):
    """The base of all bodies."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, body: Any) -> Any:
        """Refuses more fields than the body has: pydantic would report a fault for each."""
        if isinstance(body, dict) and len(body) > len(cls.model_fields) + 10:
            raise ValueError(f"want at most these fields: {', '.join(cls.model_fields) or 'none'}")
        return body


class Nothing(StrictBody):
    """A change without further data."""


class Join(StrictBody):
    """Takes a seat. framed: in a page of another site."""

    name: Name
    code: Code
    framed: bool = False


class Return(StrictBody):
    """Returns to one's own seat on another device. framed: in a page of another site."""

    personal: Code
    framed: bool = False


class Save(StrictBody):
    """Changed files. client: the page that sends them. base: the version that they change. save: its unique id."""

    client: Id = ""
    base: int = Field(default=0, ge=0, le=1 << 40)
    save: Id = ""
    files: Changes = Field(default_factory=dict)


class OpenBody(StrictBody):
    """The exercise that the student opens."""

    exercise: Id


class PromptBody(StrictBody):
    """Statements for the box of the last run."""

    exercise: Id
    code: Source


class InputBody(StrictBody):
    """Input of a program; an empty text is the end of the input."""

    run: Id
    text: Annotated[str, StringConstraints(max_length=1 << 16), AfterValidator(_whole)]


class StopBody(StrictBody):
    """Stops a run."""

    run: Id


class CompleteBody(StrictBody):
    """A request for completions at the cursor."""

    exercise: Id
    code: Source
    cursor: int = Field(ge=0, le=MOST_FILE)


class HandBody(StrictBody):
    """Raises or lowers one's hand."""

    up: bool


class KeyBody(StrictBody):
    """The teacher's key."""

    key: Code


class NewSeat(StrictBody):
    """A seat that is reserved for a student."""

    name: Name


class SeatChange(StrictBody):
    """The teacher's changes of a seat."""

    name: Name | None = None
    locked: bool | None = None
    removed: bool | None = None
    hand: bool | None = None


class WatchBody(StrictBody):
    """The seat whose events a stream also gets. page: the page that shows them, of those that share the stream."""

    stream: Id
    seat: Id | None
    page: Id = ""


class Lock(StrictBody):
    """Whether joining is locked."""

    locked: bool


class Freeze(StrictBody):
    """Whether everybody is paused."""

    frozen: bool


class Push(StrictBody):
    """The exercise that is opened for all."""

    exercise: Id | None


class GradeAgain(StrictBody):
    """The exercise whose hand-ins are graded again; None: all exercises."""

    exercise: Id | None = None


class ShareRequest(StrictBody):
    """Code to show to all: a student's, or the teacher's own."""

    seat: Id | None = None
    exercise: Id
    title: Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(person)] = "Code"
    files: Files | None = None
