"""Figures: measurements, what they are compared with, and their goals. Nothing here is an assertion."""

import statistics
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from proxybox.terminal import tables


@attrs.frozen(kw_only=True)
class Target:
    """A bound from the project's plan, on a figure's ratio or on its value.

    of: "ratio" or "value". at_most, at_least: one of the two.
    """

    of: str
    at_most: float | None = None
    at_least: float | None = None

    def met(self, figure: "Figure") -> bool | None:
        """Returns whether the figure is within the bound; None if it has no ratio."""
        measured = figure.ratio if self.of == "ratio" else figure.value
        if measured is None:
            return None
        if self.at_most is not None:
            return measured <= self.at_most
        return measured >= (self.at_least or 0)

    def text(self, unit: str) -> str:
        """Returns the bound as text."""
        sign, bound = ("<=", self.at_most) if self.at_most is not None else (">=", self.at_least)
        return f"{sign} {bound:g}{'x' if self.of == 'ratio' else ' ' + unit}"


@attrs.frozen(kw_only=True)
class Figure:
    """One line of a benchmark.

    value: in `unit`, of the box. floor, floor_value: the name of its peer, and the peer's value in the same unit.
    """

    name: str
    value: float
    unit: str
    floor: str = ""
    floor_value: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """Value over floor."""
        return self.value / self.floor_value if self.floor_value else None

    @property
    def bound(self) -> float | None:
        """The goal in the figure's unit; None without a goal."""
        if self.target is None:
            return None
        bound = self.target.at_least if self.target.at_most is None else self.target.at_most
        if bound is None or self.target.of == "value":
            return bound
        return None if self.floor_value is None else bound * self.floor_value

    @property
    def verdict(self) -> str:
        """ "meets", "misses", or nothing where no bound was set."""
        met = None if self.target is None else self.target.met(self)
        return "" if met is None else "meets" if met else "misses"

    def to_dict(self) -> dict[str, Any]:
        """Returns the object that --json prints."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "floor": self.floor or None,
            "floor_value": self.floor_value,
            "ratio": self.ratio,
            "target": self.target.text(self.unit) if self.target else None,
            "bound": self.bound,
            "verdict": self.verdict or None,
        }


@attrs.frozen(kw_only=True)
class Benchmark:
    """A named group of figures. run: takes a function that shows progress, a line at a time."""

    name: str
    title: str
    run: Callable[[Callable[[str], None]], list[Figure]]


def interleaved(
    sides: Sequence[tuple[str, Callable[[], float]]], rounds: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Measures each side once per round, in turn: so a disturbance of the machine affects all of them."""
    taken: dict[str, list[float]] = {name: [] for name, _ in sides}
    for number in range(rounds):
        for name, measure in sides:
            say(f"{name}, {number + 1} of {rounds}")
            taken[name].append(measure())
    return taken


def medians(taken: dict[str, list[float]]) -> dict[str, float]:
    """Returns the median of each side's values."""
    return {name: statistics.median(values) for name, values in taken.items()}


def table(title: str, figures: Sequence[Figure]) -> str:
    """Returns the figures as text."""
    rows = []
    for figure in figures:
        against = "" if figure.floor_value is None else f"{number(figure.floor_value)} {figure.unit}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}x"
        wanted = figure.target.text(figure.unit) if figure.target else ""
        rows.append((figure.name, f"{number(figure.value)} {figure.unit}", against, figure.floor, ratio, wanted,
                     figure.verdict))  # fmt: skip
    shown = tables.table(("", "in the box", "against", "", "ratio", "wanted", ""), rows, right=(1, 2, 4))
    return "\n".join((title, textwrap.indent(shown, "  ")))


def number(value: float) -> str:
    """Returns a value with two digits or more."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
