"""An exercise: a folder with `exercise.toml`, the files for students, the tests, and solutions to try the tests with.

Rules: all faults of the file and of the other files that it needs are reported together, as for policies: the place,
what is allowed, what was probably meant. A key that does not exist is a fault. No path leads out of the folder, except
for the mounts of a policy.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import attrs

from proxybox.policies import PRESETS, Policy, from_dict
from proxybox.policies.building import build, model
from proxybox.policies.checks import refusal, to_flag
from proxybox.policies.errors import Problem, nearest
from proxybox.policies.named import is_file_name
from proxybox.policies.overrides import restricted
from proxybox.teach import folders
from proxybox.teach.folders import ExerciseError as ExerciseError
from proxybox.teach.folders import each_of, in_order, to_markdown, to_path, to_title
from proxybox.teach.rules import Rules
from proxybox.teach.submissions import Submission, SubmissionError, read_submission

FILE: Final = "exercise.toml"
MOST_HINTS: Final = 20
_MOST_HINT, _MOST_CASE = 2_000, 16 << 20
_POLICY_KEYS: Final = frozenset(field.name for field in attrs.fields(Policy))
_DATA: Final = ("sample", "secret")


# --- the keys of exercise.toml ----------------------------------------------------------------------------------------


def _to_file(value: str) -> str:
    path = to_path(value)
    if not path.endswith(".py") or "/" in path:
        meant = PurePosixPath(path).stem + ".py"
        raise refusal("want the name of a Python file, without folders", value, meant=f'"{meant}"')
    return path


def _to_paths(value: str | list[str]) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        return (to_path(value),)
    return tuple(dict.fromkeys(each_of(value, to_path)))


def _to_hint(value: str) -> str:
    if isinstance(value, str) and value.strip() and len(value) <= _MOST_HINT:
        return value.strip()
    raise refusal(f"want a text in Markdown of at most {_MOST_HINT:,} characters", value)


def _to_hints(value: list[str]) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and len(value) <= MOST_HINTS:
        return each_of(value, _to_hint)
    raise refusal(f"want a list of at most {MOST_HINTS} texts, which are shown one after another", value)


def _to_policy(value: str) -> str:
    if isinstance(value, str) and is_file_name(value):
        return to_path(value)
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

    title: str = attrs.field(converter=to_title)
    text: str = attrs.field(default="text.md", converter=to_markdown)
    file: str = attrs.field(default="solution.py", converter=_to_file)
    starter: tuple[str, ...] = attrs.field(default=("starter",), converter=_to_paths)
    files: str = attrs.field(default="files", converter=to_path)
    policy: str = attrs.field(default="classroom", converter=_to_policy)
    points: float = attrs.field(default=1.0, converter=_to_number)
    deadline: datetime.datetime | None = attrs.field(default=None, converter=_to_deadline)
    rules: Rules = attrs.field(factory=Rules, converter=_to_rules)
    hints: tuple[str, ...] = attrs.field(default=(), converter=_to_hints)
    tests: str = attrs.field(default="tests", converter=to_path)
    data: str = attrs.field(default="data", converter=to_path)
    float_tolerance: float | None = attrs.field(default=None, converter=_to_tolerance)
    prompts: bool = attrs.field(default=True, converter=to_flag)
    solutions: str = attrs.field(default="solutions", converter=to_path)
    wrong: str = attrs.field(default="wrong", converter=to_path)


_KEYS: Final = frozenset(field.name for field in attrs.fields(_Settings))


# --- the exercise -----------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class DataCase:
    """One input and its expected output.

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
    """An exercise, as `load_exercise` returns it; docs/exercises.md describes each key.

    text: in Markdown. file: the name of the submission's main file. points: for a test without a mark points. policy:
    of the boxes. tests, data, solutions, wrong, files: folders; None if there is none. starter: files and folders.
    hints: in Markdown, from a first hint to nearly the solution. over: policy keys of a course, which are combined with
    the policy.
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
    hints: tuple[str, ...] = ()
    tests: Path | None = None
    data: Path | None = None
    float_tolerance: float | None = None
    prompts: bool = True
    solutions: Path | None = None
    wrong: Path | None = None
    over: Mapping[str, Any] = attrs.field(factory=dict, hash=False)

    def data_cases(self) -> tuple[DataCase, ...]:
        """The cases, samples first, each kind by name. Raises ExerciseError for a case that cannot be read."""
        if self.data is None:
            return ()
        return tuple(
            DataCase(
                name=path.relative_to(self.data).with_suffix("").as_posix(),
                input=folders.read(path, _MOST_CASE),
                answer=folders.read(path.with_suffix(".ans"), _MOST_CASE),
                secret=kind == "secret",
                float_tolerance=self.float_tolerance,
                prompts=self.prompts,
            )
            for kind in _DATA
            for path in _case_files(self.data / kind, ".in")
        )

    def starter_files(self) -> dict[str, bytes]:
        """The starter's files for students, by path. Raises ExerciseError if they cannot be read."""
        return {name: data for path in self.starter for name, data in _submission(path).files.items()}

    def box_files(self) -> dict[str, bytes]:
        """The files beside the submission in its box, by path. Raises ExerciseError if they cannot be read."""
        return {} if self.files is None else dict(_submission(self.files).files)

    def model_solutions(self) -> tuple[Submission, ...]:
        """Right solutions, by name. Raises ExerciseError if one cannot be read."""
        return _submissions(self.solutions)

    def wrong_solutions(self) -> tuple[Submission, ...]:
        """Wrong solutions, by name: each must fail. Raises ExerciseError if one cannot be read."""
        return _submissions(self.wrong)


def load_exercise(folder: Path, *, over: Mapping[str, Any] | None = None) -> Exercise:
    """The exercise in a folder. Raises ExerciseError, which names all faults, or says why the file cannot be read.

    over: keys of a policy, which `restricted` combines with the exercise's own.
    """
    path = folder / FILE
    data = folders.parsed(path)
    problems = folders.unknown_keys(data, _KEYS | _POLICY_KEYS, Rules)
    settings: _Settings | None = folders.collect(problems, lambda: _settings(data))
    beside = _Beside(folder, _Settings, data, problems)
    policy: Policy | None = folders.collect(problems, lambda: restricted(_policy(data, path, beside), **(over or {})))
    text, starter = beside.markdown("text", needed=True), beside.starter()
    found = {key: beside.folder(key) for key in ("files", "tests", "data", "solutions", "wrong")}
    beside.check_grading(found["tests"], found["data"])
    if problems or settings is None or policy is None:
        raise ExerciseError(*folders.in_file(problems, path))
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
        hints=settings.hints,
        float_tolerance=settings.float_tolerance,
        prompts=settings.prompts,
        over=over or {},
        **found,
    )


def _settings(data: Mapping[str, Any]) -> _Settings:
    return _Settings(**{key: value for key, value in data.items() if key in _KEYS})


def _policy(data: Mapping[str, Any], path: Path, beside: _Beside) -> Policy:
    """The policy that the file names, with the file's own sections over it, like a policy that extends another."""
    base = beside.value("policy")
    if base is not None and is_file_name(base) and beside.existing("policy", base) is None:
        base = None
    own = {key: value for key, value in data.items() if key in _POLICY_KEYS}
    # A missing base has been reported already; the faults of the sections over it are reported, too.
    return from_dict({"extends": base or "classroom", **own}, name=str(path), folder=str(path.parent))


# --- other files ------------------------------------------------------------------------------------------------------


class _Beside(folders.Beside):
    """Finds the files that an exercise's settings name, and those for grading."""

    def starter(self) -> tuple[Path, ...]:
        """The paths of the starter's files and folders."""
        names = self.value("starter") or ()
        if "starter" not in self.data:
            names = [name for name in names if (self.root / name).exists()]
        found = (self.existing("starter", name) for name in names)
        return tuple(path for path in found if path is not None)

    def check_grading(self, tests: Path | None, data: Path | None) -> None:
        """Checks that there are tests or data to grade by, and that the data is complete."""
        if tests is None and data is None:
            if not {"tests", "data"} & self.data.keys():
                self.tell("tests", "there is nothing to grade by: want a folder tests, or data, or both")
            return
        if tests is not None and not any(tests.rglob("test_*.py")):
            self.tell("tests", f"there is no file test_*.py in {tests.name}")
        if data is None:
            if "float_tolerance" in self.data and self.value("float_tolerance") is not None:
                self.tell("float_tolerance", "is for data, and there is none")
            if self.value("prompts") is False:
                self.tell("prompts", "is for data, and there is none: run_student(prompts=False) is for tests")
            return
        inputs, answers = ({path.with_suffix("") for path in _all_cases(data, end)} for end in (".in", ".ans"))
        if not inputs | answers:
            self.tell("data", f"there are no cases: want files such as {data.name}/sample/1.in and 1.ans")
            return
        for path in sorted(path for end in (".in", ".ans") for path in data.rglob(f"*{end}")):
            name = path.relative_to(data).as_posix()
            if not name.startswith(tuple(f"{kind}/" for kind in _DATA)):
                self.tell("data", f"{name} stands neither in {data.name}/sample nor in {data.name}/secret")
        for path in sorted(inputs ^ answers):
            there, missing = (".in", ".ans") if path in inputs else (".ans", ".in")
            name = path.relative_to(data).as_posix()
            self.tell("data", f"there is {name}{there}, and no {path.name}{missing}")


def _all_cases(data: Path, end: str) -> list[Path]:
    return [path for kind in _DATA for path in _case_files(data / kind, end)]


def _case_files(folder: Path, end: str) -> list[Path]:
    """The cases in the folder and in groups below it, in natural order: 10 comes after 9."""
    found = [path for path in folder.rglob(f"*{end}") if path.is_file()]
    return sorted(found, key=lambda path: in_order(path.relative_to(folder).as_posix()))


def _submissions(folder: Path | None) -> tuple[Submission, ...]:
    if folder is None:
        return ()
    found = sorted(path for path in folder.iterdir() if not path.name.startswith(folders.SKIPPED))
    return tuple(map(_submission, found))


def _submission(path: Path) -> Submission:
    try:
        return read_submission(path)
    except SubmissionError as error:
        raise ExerciseError(Problem(key="", message=str(error))) from None
