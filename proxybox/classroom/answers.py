"""What pages get as JSON, in answers and in events: each object is declared here, once.

The functions that make these objects return them by these types, which mypy checks. Routes name them, so tests compare
every answer with them (tests/classroom/declared.py). `tools/javascript/answers.py` makes the types of the pages'
JavaScript from them, which have the same names without "Json". Times are in seconds since the epoch.
"""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

RunKind = Literal["run", "repl", "check"]

# --- grades -----------------------------------------------------------------------------------------------------------


class ScoreJson(TypedDict):
    """How many tests have passed, of how many, and points, of those that could be had."""

    passed: int
    total: int
    points: float
    possible: float


class TestResultJson(TypedDict):
    """One test. hidden, fault: whether students cannot see it, and a mistake in it; for teachers."""

    name: str
    status: str
    message: str
    output: str
    line: int | None
    points: float
    possible: float
    hidden: NotRequired[bool]
    fault: NotRequired[str]


class HiddenTestsJson(TypedDict):
    """Tests of which students see only these numbers."""

    passed: int
    total: int


class ResultsJson(ScoreJson):
    """The results of the tests. is_outdated: the tests have changed since."""

    at: float
    tests: list[TestResultJson]
    hidden: HiddenTestsJson
    message: str
    is_outdated: NotRequired[bool]


class EarlierGradeJson(TypedDict):
    """A grade by the tests of before."""

    at: float
    score: ScoreJson | None


class MarkJson(TypedDict):
    """A hand-in in short. graded: when it was graded. is_due: whether it is to be graded. earlier: the grade before."""

    at: float
    late: bool
    score: ScoreJson | None
    graded: float | None
    is_due: bool
    has_failed: bool
    is_outdated: bool
    earlier: EarlierGradeJson | None


class HandedInJson(MarkJson):
    """A hand-in with the results of its tests."""

    id: str
    results: ResultsJson | None


class ProgressJson(TypedDict):
    """How far a seat has come with an exercise: what the tests say now, and of its hand-in."""

    now: ScoreJson | None
    handed_in: MarkJson | None


# --- runs -------------------------------------------------------------------------------------------------------------


class RunBegunJson(TypedDict):
    """What runs. at: when it began."""

    run: str
    kind: RunKind
    exercise: str
    at: float


class RunErrorJson(TypedDict):
    """The exception that a program has ended with."""

    type: str
    message: str
    traceback: str
    line: int | None


class EndedJson(TypedDict):
    """How a run has ended.

    status: as a Result has it. line: where it was, or where its error arose. loop: the line of the loop around that,
    where time was up.
    """

    status: str
    why: str
    hint: str
    truncated: bool
    line: int | None
    loop: int | None
    error: RunErrorJson | None


class FinishedJson(EndedJson):
    """The event at the end of a run."""

    run: str
    kind: RunKind
    exercise: str
    seconds: float


class RunEventJson(TypedDict):
    """An event of a run (pageevents.py)."""

    event: str
    data: Any


class WatchedJson(RunEventJson):
    """An event of a seat, for the teacher who watches it."""

    seat: str


# --- files ------------------------------------------------------------------------------------------------------------


class SavedVersionJson(TypedDict):
    """The number and the time of a version."""

    version: int
    at: float


class SavedJson(TypedDict):
    """The version that was saved. conflict: the one that another page had saved meanwhile."""

    version: int
    conflict: NotRequired[SavedVersionJson]


class SavedFilesJson(SavedJson):
    """The answer to a save."""

    at: float


class SavedRunJson(SavedJson):
    """The answer to a run, for which the files were saved. run: its id."""

    run: str


class SavedHandInJson(SavedJson):
    """The answer to a hand-in."""

    handed_in: HandedInJson


class VersionJson(SavedVersionJson):
    """A version as it is listed. why: what it was saved for. size: in characters."""

    why: str
    size: int


class VersionsJson(TypedDict):
    """The versions of an exercise's files, the latest first."""

    versions: list[VersionJson]


class FilesJson(TypedDict):
    """Files, by their names."""

    at: float
    files: Mapping[str, str]


class TextJson(FilesJson):
    """A version with its files."""

    version: int


# --- a seat's page ----------------------------------------------------------------------------------------------------


class SeatJson(TypedDict):
    """A student's own seat. hand: when it went up."""

    id: str
    name: str
    personal: str
    hand: float | None
    exercise: str | None
    locked: bool


class SeatedJson(TypedDict):
    """The answer to a request for a seat."""

    seat: SeatJson


class HandJson(TypedDict):
    """When the hand went up; None for one that is down."""

    hand: float | None


class RunIdJson(TypedDict):
    """The id of what was started."""

    run: str


class HintJson(TypedDict):
    """The next hint, and how many there are."""

    number: int
    total: int
    html: str


class MatchesJson(TypedDict):
    """What may stand at the cursor, in place of the text from `start` on."""

    start: int
    matches: list[str]


class ListedJson(TypedDict):
    """An exercise as the list of a course has it, for a seat with how far it has come."""

    id: str
    title: str
    deadline: float | None
    now: NotRequired[ScoreJson | None]
    handed_in: NotRequired[MarkJson | None]


class CourseJson(TypedDict):
    """What there is to do."""

    title: str
    syllabus_html: str
    exercises: list[ListedJson]


class ShareJson(TypedDict):
    """Code that all are shown. by: "teacher" or "student"."""

    id: str
    title: str
    exercise: str
    files: Mapping[str, str]
    by: str
    at: float


class MeJson(TypedDict):
    """What a seat's page begins with. event: the last event that it contains; time: the server's clock."""

    seat: SeatJson
    course: CourseJson
    frozen: bool
    pushed: str | None
    shares: list[ShareJson]
    run: RunBegunJson | None
    event: str
    time: float


class HintsJson(TypedDict):
    """How many hints there are, and those that were shown."""

    total: int
    shown: tuple[str, ...]


class SheetJson(TypedDict):
    """What an exercise is. file: the main one. others: files that a program finds beside its own."""

    id: str
    title: str
    text_html: str
    file: str
    deadline: float | None
    others: list[str]


class ExerciseJson(SheetJson):
    """An exercise with what a student has made of it. output: the events of the last run."""

    files: Mapping[str, str]
    version: int
    hints: HintsJson
    results: ResultsJson | None
    handed_in: HandedInJson | None
    output: list[RunEventJson]
    event: str


# --- the teacher's page -----------------------------------------------------------------------------------------------


_OfClass = TypedDict("_OfClass", {"class": str})  # a keyword of Python


class RowJson(_OfClass):
    """What the teacher sees of a seat at a glance. progress: by exercise. error_at, active: when."""

    id: str
    name: str
    personal: str
    exercise: str | None
    progress: dict[str, ProgressJson]
    hints: int
    error: str
    error_at: float | None
    active: float
    online: bool
    running: bool
    hand: float | None
    locked: bool
    removed: bool


class JoiningJson(TypedDict):
    """How one joins."""

    code: str
    addresses: list[str]
    locked: bool


class TaughtClassJson(TypedDict):
    """A class of a learning platform."""

    id: str
    title: str


class RoomStateJson(TypedDict):
    """What holds for all. `join` and `course_fault` are for who has the key; an event for instructors has no classes.

    grading_faults: mistakes in tests, by exercise.
    """

    frozen: bool
    pushed: str | None
    grading_faults: dict[str, str]
    classes: NotRequired[list[TaughtClassJson]]
    whole: NotRequired[bool]
    join: NotRequired[JoiningJson]
    course_fault: NotRequired[str]


class TeacherStateJson(RoomStateJson):
    """What the teacher's page begins with. event: the last event that it contains; time: the server's clock."""

    course: CourseJson
    seats: list[RowJson]
    shares: list[ShareJson]
    event: str
    time: float


class SeatSeenJson(TypedDict):
    """What a teacher sees of a seat and an exercise."""

    seat: RowJson
    exercise: str
    file: str
    files: Mapping[str, str]
    version: int
    results: ResultsJson | None
    handed_in: HandedInJson | None
    output: list[RunEventJson]
    versions: list[VersionJson]


class ClassErrorJson(TypedDict):
    """An error of the class. count, seats: of those who had it."""

    error: str
    example: str
    count: int
    seats: list[str]


class ErrorsJson(TypedDict):
    """The commonest errors."""

    errors: list[ClassErrorJson]


class CountJson(TypedDict):
    """How many hand-ins are graded again."""

    count: int


class PairJson(TypedDict):
    """Two hand-ins that are alike. share: of their text, 0 to 1."""

    first: str
    second: str
    share: float
    is_identical: bool


class SimilarJson(TypedDict):
    """Hand-ins that are alike, of how many. too_short: the seats whose code is too short to say."""

    pairs: list[PairJson]
    count: int
    too_short: list[str]


class FormatJson(TypedDict):
    """A format of grades."""

    name: str
    title: str


class FormatsJson(TypedDict):
    """The formats of grades that there are."""

    formats: list[FormatJson]
