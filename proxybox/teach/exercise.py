"""An exercise: a folder with `exercise.toml`, the files for students, the tests, and solutions to try the tests with.

Rules: every fault of the file, and of what must be beside it, is reported at once, as for policies: where it is, what
is allowed, what was probably meant. A key that does not exist is a fault. No path leads out of the folder, except for
what a policy mounts.
"""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import attrs

from proxybox.policies import PRESETS, Policy, Problem, from_dict
from proxybox.policies.building import build, model
from proxybox.policies.checks import refusal
from proxybox.policies.errors import PolicyError, ProxyboxError, nearest, shown, unknown_key
from proxybox.policies.overrides import find_key, is_file_name
from proxybox.teach.rules import Rules
from proxybox.teach.submissions import Submission, SubmissionError, read_submission

FILE: Final = "exercise.toml"
_MOST_SETTINGS, _MOST_CASE = 1 << 20, 16 << 20
_POLICY_KEYS: Final = frozenset(field.name for field in attrs.fields(Policy))
_SKIPPED: Final = (".", "__")  # names that begin so are not part of an exercise: .DS_Store, __pycache__
_DATA: Final = ("sample", "secret")


class ExerciseError(ProxyboxError, ValueError):
    """An exercise that makes no sense. `problems` holds every fault that was found, and the text names each."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__(*problems)

    @classmethod
    def of(cls, key: str, message: str, file: object) -> ExerciseError:
        """An error with one fault."""
        return cls(Problem(key=key, message=message, file=str(file)))

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        return f"{len(self.problems)} problems:\n" + "\n".join(f"  {problem}" for problem in self.problems)


# --- the keys of exercise.toml ----------------------------------------------------------------------------------------


def _to_title(value: str) -> str:
    if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= 200:
        return value.strip()
    raise refusal("want a title: one line of at most 200 characters", value)


def _to_text(value: str) -> str:
    if isinstance(value, str) and value.strip():
        return value if "\n" in value or not value.endswith(".md") else _to_path(value)
    raise refusal('want the name of a Markdown file, such as "text.md", or the text itself', value)


def _to_path(value: str) -> str:
    """A path that stays in the exercise's folder."""
    if not isinstance(value, str) or not value or "\0" in value or "\\" in value or len(value) > 80:
        raise refusal("want a path in the exercise's folder: at most 80 characters, with / in between", value)
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise refusal("want a path in the exercise's folder, neither absolute nor with ..", value)
    return str(path)


def _to_file(value: str) -> str:
    path = _to_path(value)
    if not path.endswith(".py") or "/" in path:
        meant = PurePosixPath(path).stem + ".py"
        raise refusal("want the name of a Python file, without folders", value, meant=f'"{meant}"')
    return path


def _to_paths(value: str | list[str]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        return (_to_path(value),)
    problems: list[Problem] = []
    for at, name in enumerate(value):
        try:
            _to_path(name)
        except PolicyError as error:
            problems += error.under(f"[{at}]").problems
    if problems:
        raise PolicyError(*problems)
    return tuple(dict.fromkeys(map(_to_path, value)))


def _to_policy(value: str) -> str:
    if isinstance(value, str) and is_file_name(value):
        return _to_path(value)
    if not isinstance(value, str) or value not in PRESETS:
        meant = nearest(value, PRESETS) if isinstance(value, str) else ""
        words = "want the name of a preset, or of a TOML file in the folder"
        raise refusal(words, value, meant=f'"{meant}"' if meant else "", allowed=", ".join(PRESETS))
    return value


def _to_number(value: float) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if 0 <= number <= 1e6:
        return number
    raise refusal("want a number from 0 to 1,000,000", value)


def _to_tolerance(value: float | None) -> float | None:
    if value is None:
        return None
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if 0 < number < 1:
        return float(number)
    raise refusal("want a number between 0 and 1, such as 1e-6", value)


def _to_prompts(value: bool) -> bool:
    if isinstance(value, bool):
        return value
    raise refusal("want true or false", value)


def _to_deadline(value: datetime.datetime | None) -> datetime.datetime | None:
    if value is None or (isinstance(value, datetime.datetime) and value.tzinfo is not None):
        return value
    example = "2026-10-01T23:59:00+02:00"
    if isinstance(value, datetime.datetime):
        raise refusal(f"want a time with its offset from UTC, such as {example}", str(value), meant=f"{value}+00:00")
    raise refusal(f"want a date and time without quotes, such as {example}", value)


def _to_rules(value: Rules | Mapping[str, Any]) -> Rules:
    return build(Rules, value)


@model("")
@attrs.frozen(kw_only=True)
class _Settings:
    """The keys of the file, except for those of the policy."""

    title: str = attrs.field(converter=_to_title)
    text: str = attrs.field(default="text.md", converter=_to_text)
    file: str = attrs.field(default="solution.py", converter=_to_file)
    starter: tuple[str, ...] = attrs.field(default=("starter",), converter=_to_paths)
    files: str = attrs.field(default="files", converter=_to_path)
    policy: str = attrs.field(default="classroom", converter=_to_policy)
    points: float = attrs.field(default=1.0, converter=_to_number)
    deadline: datetime.datetime | None = attrs.field(default=None, converter=_to_deadline)
    rules: Rules = attrs.field(factory=Rules, converter=_to_rules)
    tests: str = attrs.field(default="tests", converter=_to_path)
    data: str = attrs.field(default="data", converter=_to_path)
    float_tolerance: float | None = attrs.field(default=None, converter=_to_tolerance)
    prompts: bool = attrs.field(default=True, converter=_to_prompts)
    solutions: str = attrs.field(default="solutions", converter=_to_path)
    wrong: str = attrs.field(default="wrong", converter=_to_path)


_KEYS: Final = frozenset(field.name for field in attrs.fields(_Settings))


# --- the exercise -----------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class DataCase:
    """One input and the output that is expected.

    name: such as "sample/1". secret: whether students may not see it. float_tolerance, prompts: the exercise's.
    """

    name: str
    input: bytes
    answer: bytes
    secret: bool
    float_tolerance: float | None = None
    prompts: bool = True


@attrs.frozen(kw_only=True)
class Exercise:
    """An exercise, as `load_exercise` finds it; docs/exercises.md describes each key.

    text: in Markdown. file: the name of the submission's main file. points: for a test without a mark points. policy:
    of the boxes. tests, data, solutions, wrong, files: folders; None where there is none. starter: files and folders.
    """

    folder: Path
    title: str
    text: str
    file: str = "solution.py"
    starter: tuple[Path, ...] = ()
    files: Path | None = None
    policy: Policy
    points: float = 1.0
    deadline: datetime.datetime | None = None
    rules: Rules = attrs.field(factory=Rules)
    tests: Path | None = None
    data: Path | None = None
    float_tolerance: float | None = None
    prompts: bool = True
    solutions: Path | None = None
    wrong: Path | None = None

    def data_cases(self) -> tuple[DataCase, ...]:
        """The cases, samples first, each kind by name. Raises ExerciseError for a case that cannot be read."""
        if self.data is None:
            return ()
        return tuple(
            DataCase(
                name=path.relative_to(self.data).with_suffix("").as_posix(),
                input=_read(path, _MOST_CASE),
                answer=_read(path.with_suffix(".ans"), _MOST_CASE),
                secret=kind == "secret",
                float_tolerance=self.float_tolerance,
                prompts=self.prompts,
            )
            for kind in _DATA
            for path in _case_files(self.data / kind, ".in")
        )

    def starter_files(self) -> dict[str, bytes]:
        """The files that students are given, by path. Raises ExerciseError when they cannot be read."""
        return {name: data for path in self.starter for name, data in _submission(path).files.items()}

    def box_files(self) -> dict[str, bytes]:
        """The files beside the submission in its box, by path. Raises ExerciseError when they cannot be read."""
        return {} if self.files is None else dict(_submission(self.files).files)

    def model_solutions(self) -> tuple[Submission, ...]:
        """Right solutions, by name. Raises ExerciseError when one cannot be read."""
        return _submissions(self.solutions)

    def wrong_solutions(self) -> tuple[Submission, ...]:
        """Solutions each of which must fail, by name. Raises ExerciseError when one cannot be read."""
        return _submissions(self.wrong)


def load_exercise(folder: Path) -> Exercise:
    """The exercise in a folder. Raises ExerciseError, which names all faults, or says why the file cannot be read."""
    path = folder / FILE
    data = _parsed(path)
    problems = _unknown(data)
    settings: _Settings | None = _collect(problems, lambda: _settings(data))
    beside = _Beside(folder, data, problems)
    policy: Policy | None = _collect(problems, lambda: _policy(data, path, beside))
    text, starter = beside.text(), beside.starter()
    folders = {key: beside.folder(key) for key in ("files", "tests", "data", "solutions", "wrong")}
    beside.check_grading(folders["tests"], folders["data"])
    if problems or settings is None or policy is None:
        raise ExerciseError(*(each if each.file else attrs.evolve(each, file=str(path)) for each in problems))
    return Exercise(
        folder=folder,
        title=settings.title,
        text=text,
        file=settings.file,
        starter=starter,
        policy=policy,
        points=settings.points,
        deadline=settings.deadline,
        rules=settings.rules,
        float_tolerance=settings.float_tolerance,
        prompts=settings.prompts,
        **folders,
    )


def _parsed(path: Path) -> dict[str, Any]:
    raw = _read(path, _MOST_SETTINGS)
    try:
        return tomllib.loads(raw.decode())
    except RecursionError:
        message = "nested too deeply"
    except ValueError as error:  # a TOMLDecodeError, bytes that are not UTF-8, an int of over 4,300 digits
        message = f"not TOML: {error}"
    raise ExerciseError(Problem(key="", message=message, file=str(path)))


def _unknown(data: Mapping[str, Any]) -> list[Problem]:
    problems = [unknown_key(key, _KEYS | _POLICY_KEYS) for key in data if key not in _KEYS | _POLICY_KEYS]
    inner = {field.name: f"rules.{field.name}" for field in attrs.fields(Rules)}
    return [attrs.evolve(each, meant=inner.get(each.key) or find_key(each.key) or each.meant) for each in problems]


def _collect(problems: list[Problem], make: Callable[[], Any]) -> Any:
    """The result of `make`; None where it fails, and then its faults are added to the problems."""
    try:
        return make()
    except PolicyError as error:
        problems += error.problems
        return None


def _settings(data: Mapping[str, Any]) -> _Settings:
    return _Settings(**{key: value for key, value in data.items() if key in _KEYS})


def _policy(data: Mapping[str, Any], path: Path, beside: _Beside) -> Policy:
    """The policy that the file names, with the file's own sections over it, as in a policy that extends another."""
    base = beside.value("policy")
    if base is not None and is_file_name(base) and beside.existing("policy", base) is None:
        base = None
    own = {key: value for key, value in data.items() if key in _POLICY_KEYS}
    # A missing base has been reported already; the faults of the sections over it are reported, too.
    return from_dict({"extends": base or "classroom", **own}, name=str(path), folder=str(path.parent))


# --- files beside exercise.toml ---------------------------------------------------------------------------------------


class _Beside:
    """Finds the files and folders that the settings name, and adds what is missing to the problems.

    Values that make no sense are skipped here: they are reported with the settings.
    """

    def __init__(self, folder: Path, data: Mapping[str, Any], problems: list[Problem]) -> None:
        self._folder = folder
        self._data = data
        self._problems = problems

    def value(self, key: str) -> Any:
        """A key's value, or its default; None where it makes no sense."""
        field = getattr(attrs.fields(_Settings), key)
        try:
            return field.converter(self._data[key]) if key in self._data else field.default
        except PolicyError:
            return None

    def existing(self, key: str, name: str) -> Path | None:
        """The path of something that must exist; None where it does not."""
        path = self._folder / name
        if path.exists():
            return path
        try:
            names = [each.name for each in path.parent.iterdir() if not each.name.startswith(_SKIPPED)]
        except OSError:
            names = []
        meant = nearest(path.name, names)
        self._tell(key, "there is no such file or folder", given=shown(name), meant=f'"{meant}"' if meant else "")
        return None

    def folder(self, key: str) -> Path | None:
        """The path of a folder; a folder that the file does not name need not exist."""
        name = self.value(key)
        if name is None or (key not in self._data and not (self._folder / name).exists()):
            return None
        path = self.existing(key, name)
        if path is not None and not path.is_dir():
            self._tell(key, "want a folder, and this is a file", given=shown(name))
            return None
        return path

    def starter(self) -> tuple[Path, ...]:
        """The paths of what students are given."""
        names = self.value("starter") or ()
        if "starter" not in self._data:
            names = [name for name in names if (self._folder / name).exists()]
        found = (self.existing("starter", name) for name in names)
        return tuple(path for path in found if path is not None)

    def text(self) -> str:
        """The text, from its file or inline."""
        value: str | None = self.value("text")
        if value is None or "\n" in value or not value.endswith(".md"):
            return value or ""
        path = self._folder / value
        if "text" not in self._data and not path.exists():
            self._tell("text", "this key is needed, or a file text.md")
            return ""
        if self.existing("text", value) is None:
            return ""
        try:
            return _read(path, _MOST_SETTINGS).decode()
        except ExerciseError as error:
            self._problems += error.problems
        except UnicodeDecodeError as error:
            self._tell("text", f"{value} is no text in UTF-8 (byte {error.start})")
        return ""

    def check_grading(self, tests: Path | None, data: Path | None) -> None:
        """Checks that there are tests or data to grade by, and that the data is complete."""
        if tests is None and data is None:
            if not {"tests", "data"} & self._data.keys():
                self._tell("tests", "there is nothing to grade by: want a folder tests, or data, or both")
            return
        if tests is not None and not any(tests.rglob("test_*.py")):
            self._tell("tests", f"there is no file test_*.py in {tests.name}")
        if data is None:
            if "float_tolerance" in self._data and self.value("float_tolerance") is not None:
                self._tell("float_tolerance", "is for data, and there is none")
            if self.value("prompts") is False:
                self._tell("prompts", "is for data, and there is none: run_student(prompts=False) is for tests")
            return
        inputs, answers = ({path.with_suffix("") for path in _all_cases(data, end)} for end in (".in", ".ans"))
        if not inputs | answers:
            self._tell("data", f"there are no cases: want files such as {data.name}/sample/1.in and 1.ans")
            return
        for path in sorted(path for end in (".in", ".ans") for path in data.rglob(f"*{end}")):
            name = path.relative_to(data).as_posix()
            if not name.startswith(tuple(f"{kind}/" for kind in _DATA)):
                self._tell("data", f"{name} stands neither in {data.name}/sample nor in {data.name}/secret")
        for path in sorted(inputs ^ answers):
            there, missing = (".in", ".ans") if path in inputs else (".ans", ".in")
            name = path.relative_to(data).as_posix()
            self._tell("data", f"there is {name}{there}, and no {path.name}{missing}")

    def _tell(self, key: str, message: str, **more: str) -> None:
        self._problems.append(Problem(key=key, message=message, **more))


def _all_cases(data: Path, end: str) -> list[Path]:
    return [path for kind in _DATA for path in _case_files(data / kind, end)]


def _case_files(folder: Path, end: str) -> list[Path]:
    """The cases in the folder and in groups below it, in natural order: 10 comes after 9."""
    found = [path for path in folder.rglob(f"*{end}") if path.is_file()]
    return sorted(found, key=lambda path: _in_order(path.relative_to(folder).as_posix()))


def _in_order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(most + 1)
    except OSError as error:
        raise ExerciseError(Problem(key="", message=f"cannot be read: {error.strerror}", file=str(path))) from None
    if len(raw) > most:
        raise ExerciseError(Problem(key="", message=f"larger than {most >> 20} MiB", file=str(path)))
    return raw


def _submissions(folder: Path | None) -> tuple[Submission, ...]:
    if folder is None:
        return ()
    found = sorted(path for path in folder.iterdir() if not path.name.startswith(_SKIPPED))
    return tuple(map(_submission, found))


def _submission(path: Path) -> Submission:
    try:
        return read_submission(path)
    except SubmissionError as error:
        raise ExerciseError(Problem(key="", message=str(error))) from None
