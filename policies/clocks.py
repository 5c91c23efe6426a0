"""The time that a box sees."""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from proxybox.policies import checks
from proxybox.policies.building import model, rename
from proxybox.policies.checks import between, one_of, refusal
from proxybox.policies.declaring import Measure, declare
from proxybox.policies.moments import MOMENTS, Moment, to_moment
from proxybox.policies.sizes import to_duration

VIRTUAL_START: Final = 1_767_225_600.0
"""2026-01-01: where virtual time begins when the policy names no start."""


def _to_rate(value: float | str) -> float:
    return checks.limited(
        lambda given: to_duration(given) if isinstance(given, int | float) else None,
        value,
        "a number above 0, such as 2.0",
    )


def _sleeps(self: Time) -> str:
    return "skip" if self.kind in ("frozen", "virtual") else "real"


def _time_form(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else rename(value, "at", "start", to_moment)


@model("time", _time_form)
@attrs.frozen(kw_only=True)
class Time:
    """The box's clocks. Build one with `real`, `frozen`, `virtual` or `scaled`."""

    kind: Literal["real", "frozen", "virtual", "scaled"] = attrs.field(
        default="real", validator=one_of("real", "frozen", "virtual", "scaled"),
        metadata=declare(Measure.WORD, "whether the clocks are the host's, stand still, move by sleeps, or run faster"),
    )  # fmt: skip
    start: float | None = attrs.field(
        default=attrs.Factory(lambda self: VIRTUAL_START if self.kind == "virtual" else None, takes_self=True),
        converter=to_moment,
        metadata=declare(
            Measure.MOMENT,
            "the first reading of the wall clock: seconds since 1970 UTC, a datetime (UTC where it has no zone) or an "
            "ISO 8601 text; for `frozen` it is also called `at`",
            values=MOMENTS, default="by kind", example="2026-01-01T12:00:00Z",
        ),
    )  # fmt: skip
    rate: float = attrs.field(
        default=1.0, converter=_to_rate, validator=between(0, 1e6, "a rate above 0, at most 1,000,000", above=True),
        metadata=declare(Measure.NUMBER, "for `scaled`: how many seconds of the box are in a real one"),
    )  # fmt: skip
    sleep: Literal["real", "skip"] = attrs.field(
        default=attrs.Factory(_sleeps, takes_self=True), validator=one_of("real", "skip"), metadata=declare(
            Measure.WORD, "whether a sleep waits, or returns at once and moves the clock on", default="by kind"
        ),
    )  # fmt: skip

    def __attrs_post_init__(self) -> None:
        if self.kind == "frozen" and self.start is None:
            raise refusal('frozen time needs the time it stands at, such as "2026-01-01T12:00:00Z"', key="at")
        if self.kind == "virtual" and self.start is None:
            raise refusal("virtual time needs a time to start at", key="start")
        if self.kind == "real" and self.start is not None:
            raise refusal('real time starts at the real time; want kind "virtual" or "scaled"', key="start")
        if self.kind != "scaled" and self.rate != 1.0:
            raise refusal(f'only for kind "scaled", not "{self.kind}"', self.rate, key="rate")

    @classmethod
    def real(cls, *, sleep: Literal["real", "skip"] = "real") -> Time:
        """The host's clocks. With sleep="skip" each sleep advances the box's clocks instead of waiting."""
        return cls(kind="real", sleep=sleep)

    @classmethod
    def frozen(cls, at: Moment, *, sleep: Literal["real", "skip"] = "skip") -> Time:
        """Clocks that always show `at`."""
        return cls(kind="frozen", start=at, sleep=sleep)

    @classmethod
    def virtual(cls, start: Moment = VIRTUAL_START, *, sleep: Literal["real", "skip"] = "skip") -> Time:
        """Clocks that begin at `start` and advance by sleeps and by reads, never by real time."""
        return cls(kind="virtual", start=start, sleep=sleep)

    @classmethod
    def scaled(cls, rate: float, start: Moment | None = None, *, sleep: Literal["real", "skip"] = "real") -> Time:
        """Clocks that run `rate` times as fast as real ones, beginning at `start` or at the real time."""
        return cls(kind="scaled", rate=rate, start=start, sleep=sleep)
