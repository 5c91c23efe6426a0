"""The JSON objects that pages get, in answers and in events: each is declared here, once.

The functions that make these objects have these types as return types, which mypy checks. Routes name them, so tests
compare every answer with them (tests/classroom/declared.py). `tools/javascript/answers.py` makes the types of the
pages' JavaScript from them. These have the same names without "Json". Times are in seconds since the epoch.
"""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic accepts that of typing only from Python 3.12 on

RunKind = Literal["run", "repl", "check"]

# --- grades -----------------------------------------------------------------------------------------------------------


class ScoreJson(TypedDict):
    """How many tests of how many have passed, and how many points of the possible ones were earned."""

    passed: int
    total: int
    points: float
    possible: float


class TestResultJson(TypedDict):
    """One test. hidden: students cannot see it. fault: a mistake in the test, for teachers."""

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
    """Hidden tests: students see only these numbers."""

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
    """A grade that earlier tests have given."""

    at: float
    score: ScoreJson | None


class MarkJson(TypedDict):
    """A hand-in in short. graded: when it was graded. is_due: it is still to be graded. earlier: the earlier grade."""

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
    """How far a seat has come with an exercise: the results of the tests now, and the hand-in."""

    now: ScoreJson | None
    handed_in: MarkJson | None


# --- runs -------------------------------------------------------------------------------------------------------------


class RunBegunJson(TypedDict):
    """A run that has begun. at: when."""

    run: str
    kind: RunKind
    exercise: str
    at: float


class RunErrorJson(TypedDict):
    """The exception that ended a program."""

    type: str
    message: str
    traceback: str
    line: int | None


class EndedJson(TypedDict):
    """How a run has ended.

    status: as in a Result. line: where the run was, or where its error was raised. loop: the line of the loop around
    that line, for a run that had no time left.
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
    """The saved version. conflict: the version that another page has saved in the meantime."""

    version: int
    conflict: NotRequired[SavedVersionJson]


class SavedFilesJson(SavedJson):
    """The answer to a save."""

    at: float


class SavedRunJson(SavedJson):
    """The answer to a run: its files were saved first. run: its id."""

    run: str


class SavedHandInJson(SavedJson):
    """The answer to a hand-in."""

    handed_in: HandedInJson


class VersionJson(SavedVersionJson):
    """A version in a list. why: the reason why it was saved. size: in characters."""

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
    """A student's own seat. hand: since when it is raised."""

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
    """Since when the hand is raised; None if it is not."""

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
    """The completions at the cursor. They replace the text from `start` on."""

    start: int
    matches: list[str]


class ListedJson(TypedDict):
    """An exercise in the list of a course; for a seat, with the student's progress."""

    id: str
    title: str
    deadline: float | None
    now: NotRequired[ScoreJson | None]
    handed_in: NotRequired[MarkJson | None]


class CourseJson(TypedDict):
    """The exercises of a course."""

    title: str
    syllabus_html: str
    exercises: list[ListedJson]


class ShareJson(TypedDict):
    """Code that is shown to all students. by: "teacher" or "student"."""

    id: str
    title: str
    exercise: str
    files: Mapping[str, str]
    by: str
    at: float


class MeJson(TypedDict):
    """The first state of a seat's page. event: the last event that it contains. time: the server's clock."""

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
    """The description of an exercise. file: the main one. others: further files in a program's folder."""

    id: str
    title: str
    text_html: str
    file: str
    deadline: float | None
    others: list[str]


class ExerciseJson(SheetJson):
    """An exercise with the student's files and results. output: the events of the last run."""

    files: Mapping[str, str]
    version: int
    hints: HintsJson
    results: ResultsJson | None
    handed_in: HandedInJson | None
    output: list[RunEventJson]
    event: str


# --- the teacher's page -----------------------------------------------------------------------------------------------


_OfClass = TypedDict("_OfClass", {"class": str})  # `class` is a keyword of Python


class RowJson(_OfClass):
    """A row of the teacher's overview: one seat. progress: by exercise. error_at, active: when."""

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
    """How to join."""

    code: str
    addresses: list[str]
    locked: bool


class TaughtClassJson(TypedDict):
    """A class of a learning platform."""

    id: str
    title: str


class RoomStateJson(TypedDict):
    """The state of the class. `join` and `course_fault` are only for the teacher with the key.

    An event for instructors has no classes. grading_faults: mistakes in tests, by exercise.
    """

    frozen: bool
    pushed: str | None
    grading_faults: dict[str, str]
    classes: NotRequired[list[TaughtClassJson]]
    whole: NotRequired[bool]
    join: NotRequired[JoiningJson]
    course_fault: NotRequired[str]


class TeacherStateJson(RoomStateJson):
    """The first state of the teacher's page. event: the last event that it contains. time: the server's clock."""

    course: CourseJson
    seats: list[RowJson]
    shares: list[ShareJson]
    event: str
    time: float


class SeatSeenJson(TypedDict):
    """A seat and an exercise, as the teacher sees them."""

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
    """An error of the class. count: how many seats had it. seats: their ids."""

    error: str
    example: str
    count: int
    seats: list[str]


class ErrorsJson(TypedDict):
    """The commonest errors."""

    errors: list[ClassErrorJson]


class CountJson(TypedDict):
    """How many hand-ins will be graded again."""

    count: int


class PairJson(TypedDict):
    """Two similar hand-ins. share: the part of their text that is the same, 0 to 1."""

    first: str
    second: str
    share: float
    is_identical: bool


class SimilarJson(TypedDict):
    """Similar hand-ins, and how many were compared. too_short: the seats whose code is too short to compare."""

    pairs: list[PairJson]
    count: int
    too_short: list[str]


class FormatJson(TypedDict):
    """A format of grades."""

    name: str
    title: str


class FormatsJson(TypedDict):
    """The formats of grades."""

    formats: list[FormatJson]
