"""Compares a report with an earlier one: finds figures that got slower by more than two runs usually differ."""

import json
import textwrap
from pathlib import Path
from typing import Any

from benchmarks.figures import number
from proxybox.terminal import tables

#: Percent by which two runs of the same code differ on an idle machine, in nearly all figures.
NOISE = 10


class NoReport(Exception):
    """The file is not a report; the text says why."""


def read_report(path: Path) -> dict[str, Any]:
    """Reads the output of `python -m benchmarks --json`. Raises NoReport."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        for group in report["benchmarks"].values():
            for figure in group["figures"]:
                _ = figure["name"], figure["unit"], float(figure["value"])
    except OSError as error:
        raise NoReport(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NoReport(f"{path}: no report of `python -m benchmarks --json`") from error
    found: dict[str, Any] = report
    return found


def _key(figure: dict[str, Any]) -> tuple[Any, ...]:
    """Returns the key of a figure: one name may have several floors."""
    return figure["name"], figure.get("floor")


def compare(old: dict[str, Any], new: dict[str, Any], noise: float = NOISE) -> tuple[str, list[str]]:
    """Returns a table of the figures that differ by more than `noise` percent, and the names of those that got slower.

    If both reports have a floor, the ratios to it are compared, otherwise the values. Figures that are not in both
    reports are ignored.
    """
    rows, slower, compared = [], [], 0
    for name, group in new["benchmarks"].items():
        before = {_key(each): each for each in old["benchmarks"].get(name, {"figures": ()})["figures"]}
        for figure in group["figures"]:
            then = before.get(_key(figure))
            if then is None or then["unit"] != figure["unit"]:
                continue
            compared += 1
            change = _worse_by(then, figure)
            if abs(change) <= noise:
                continue
            word = "slower" if change > 0 else "faster"
            if change > 0:
                slower.append(f"{name}: {figure['name']}")
            rows.append((name, figure["name"], _shown(then), _shown(figure), f"{abs(change):.0f} %", word))
    title = f"{compared} figures compared, {len(rows)} differ by more than {noise:g} %"
    if not rows:
        return title, slower
    shown = tables.table(("", "", "before", "now", "", ""), rows, right=(2, 3, 4))
    return f"{title}\n{textwrap.indent(shown, '  ')}", slower


def _worse_by(then: dict[str, Any], now: dict[str, Any]) -> float:
    """Returns by how many percent a figure got worse; negative if it got better."""
    key = "ratio" if then.get("ratio") and now.get("ratio") else "value"
    before, after = float(then[key]), float(now[key])
    if not before or not after:
        return 0.0
    worse = before / after if _is_speed(now) else after / before
    return (worse - 1) * 100


def _is_speed(figure: dict[str, Any]) -> bool:
    """Returns whether a higher value is better."""
    return str(figure["unit"]).endswith("/s") or str(figure.get("target") or "").startswith(">=")


def _shown(figure: dict[str, Any]) -> str:
    ratio = "" if not figure.get("ratio") else f" ({figure['ratio']:.2f}x)"
    return f"{number(figure['value'])} {figure['unit']}{ratio}"
