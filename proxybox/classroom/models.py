"""What browsers send, checked: unknown fields are refused, and everything has a bound."""

import re
import unicodedata
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from proxybox.teach.filenames import is_device

#: The most characters of one file and of all together, and how many there may be.
MOST_FILE: Final = 1 << 20
MOST_TOGETHER: Final = 2 << 20
MOST_FILES: Final = 50
#: One part of a file's path: letters of any language, digits, and a few signs; it begins with none of these.
_PART: Final = re.compile(r"\w[\w .+-]{0,63}\Z")
_MOST_PATH, _MOST_FOLDERS = 100, 3
#: Categories of characters that a name cannot have: controls, formats (such as changes of direction), surrogates.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Characters of other categories that show nothing: fillers, joiners, selectors of variants, a blank.
#: https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt (Default_Ignorable_Code_Point)
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
#: How many marks (accents) may follow one another: more are drawn over the lines around.
_MOST_MARKS: Final = 4


def file_name(text: str) -> str:
    """Returns the path of a file, below its exercise's folder. Raises ValueError."""
    parts = text.split("/")
    plain = all(_PART.match(part) and not part.endswith((".", " ")) and not is_device(part) for part in parts)
    if not plain or len(text) > _MOST_PATH or len(parts) > _MOST_FOLDERS + 1:
        raise ValueError("want a name such as solution.py or data/list.txt, of letters, digits, and -_. inside")
    return text


def person(text: str) -> str:
    """Returns a name in the one form in which it is kept. Raises ValueError."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    kinds = [unicodedata.category(sign) for sign in name]
    marks = "".join("M" if kind.startswith("M") else " " for kind in kinds)
    is_hidden = _BLANK.search(name) or not _HIDDEN.isdisjoint(kinds) or "M" * (_MOST_MARKS + 1) in marks
    if not 1 <= len(name) <= 40 or is_hidden or all(kind[0] in "MZ" for kind in kinds):
        raise ValueError("want a name of 1 to 40 letters")
    return name


def _few(files: Any) -> Any:
    """Refuses many files at once: each of them would be looked at, and a fault of each be told."""
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
    """The base of all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, body: Any) -> Any:
        """Refuses more fields than there are: a fault of each would be told."""
        if isinstance(body, dict) and len(body) > len(cls.model_fields) + 10:
            raise ValueError(f"want at most these fields: {', '.join(cls.model_fields) or 'none'}")
        return body


class Nothing(StrictBody):
    """A change that needs no more words."""


class Join(StrictBody):
    """Takes a seat. framed: within a page of another site."""

    name: Name
    code: Code
    framed: bool = False


class Return(StrictBody):
    """Takes one's own seat, on another device. framed: within a page of another site."""

    personal: Code
    framed: bool = False


class Save(StrictBody):
    """Changed files. client: the page that sends them. base: the version that they were made from. save: once each."""

    client: Id = ""
    base: int = Field(default=0, ge=0, le=1 << 40)
    save: Id = ""
    files: Changes = Field(default_factory=dict)


class OpenBody(StrictBody):
    """Which exercise is looked at."""

    exercise: Id


class PromptBody(StrictBody):
    """Statements for the box of the last run."""

    exercise: Id
    code: Source


class InputBody(StrictBody):
    """What a program reads; an empty text is the end of its input."""

    run: Id
    text: Annotated[str, StringConstraints(max_length=1 << 16), AfterValidator(_whole)]


class StopBody(StrictBody):
    """Stops a run."""

    run: Id


class CompleteBody(StrictBody):
    """Asks what may stand at the cursor."""

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
    """A seat that is kept for somebody."""

    name: Name


class SeatChange(StrictBody):
    """What the teacher changes of a seat."""

    name: Name | None = None
    locked: bool | None = None
    removed: bool | None = None
    hand: bool | None = None


class WatchBody(StrictBody):
    """Whose events a stream gets besides its own. page: which of the pages that share the stream shows them."""

    stream: Id
    seat: Id | None
    page: Id = ""


class Lock(StrictBody):
    """Whether nobody else can join."""

    locked: bool


class Freeze(StrictBody):
    """Whether all look at the teacher."""

    frozen: bool


class Push(StrictBody):
    """The exercise that all are to open."""

    exercise: Id | None


class GradeAgain(StrictBody):
    """The exercise whose hand-ins are to be graded once more; none: all of them."""

    exercise: Id | None = None


class ShareRequest(StrictBody):
    """Code for all to see: a student's, or the teacher's own. by: whose, as it is told."""

    seat: Id | None = None
    exercise: Id
    title: Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(person)] = "Code"
    files: Files | None = None
