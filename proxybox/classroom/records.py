"""The data of a class in the database: seats, texts, hand-ins with their grades, runs."""

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.define(kw_only=True)
class Seat:
    """A seat. hand: since when it is raised. locked: whether its student may not change anything at the moment.

    generation: how often its passes were made void. class_id: of its class; "" for students who have joined by code.
    """

    id: str
    name: str
    personal: str
    joined: float
    generation: int = 1
    exercise: str | None = None
    hand: float | None = None
    locked: bool = False
    removed: bool = False
    class_id: str = ""


@attrs.frozen(kw_only=True)
class SavedText:
    """One version of the files of an exercise."""

    version: int
    at: float
    why: str
    files: Mapping[str, str]


@attrs.frozen(kw_only=True)
class Saved:
    """A save. files: all of them. other: the version and time of another page's save in the meantime."""

    version: int
    at: float
    files: Mapping[str, str]
    other: tuple[int, float] | None = None


@attrs.frozen
class Checked:
    """The result of the tests. grade: as JSON. basis: of the tests (sheets.py); None if it is not known."""

    at: float
    grade: Any
    basis: str | None = None


@attrs.frozen(kw_only=True)
class HandIn:
    """A hand-in.

    grade: as JSON; None while there is none. graded: when it was given. basis: of its tests (sheets.py); None if it is
    not known. earlier: the grade by earlier tests. due: whether it is to be graded, or graded again.
    """

    id: str
    seat: str
    exercise: str
    at: float
    late: bool
    files: Mapping[str, str]
    grade: Any = None
    graded: float | None = None
    basis: str | None = None
    earlier: Checked | None = None
    due: bool = True


@attrs.frozen(kw_only=True)
class EndedRun:
    """A run that has ended. error: its last line."""

    seat: str
    exercise: str
    kind: str
    at: float
    seconds: float
    status: str
    error: str = ""


@attrs.frozen(kw_only=True)
class GradeLine:
    """Where grades of a seat go. exercise: its id; "" for the whole course. brought: the last grade that was sent."""

    seat: str
    exercise: str
    platform: str
    user: str
    url: str
    brought: str = ""


@attrs.frozen(kw_only=True)
class Class:
    """A class of a learning platform: one of its courses, which LTI calls a context. title: for people."""

    id: str
    platform: str
    context: str
    title: str
