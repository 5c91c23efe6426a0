"""Reports of benchmarks, compared with each other."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import charts
from benchmarks.comparing import NoReport, compare, read_report
from benchmarks.figures import Figure, Target

ROOT = Path(__file__).resolve().parent.parent.parent


LEAST = Target(of="value", at_least=1)


def report(**figures: Figure) -> dict[str, Any]:
    return {"host": {}, "benchmarks": {"group": {"figures": [each.to_dict() for each in figures.values()]}}}


def one(value: float, unit: str = "us", **more: Any) -> dict[str, Any]:
    return report(it=Figure(name="it", value=value, unit=unit, **more))


@pytest.mark.parametrize(
    ("before", "now", "wanted"),
    [
        (one(10), one(12), "slower"),
        (one(10), one(8), "faster"),
        (one(10), one(10.9), ""),
        (one(100, "/s"), one(80, "/s"), "slower"),
        (one(100, "MB/s"), one(130, "MB/s"), "faster"),
        (one(1, "x", target=LEAST), one(0.5, "x", target=LEAST), "slower"),
        (one(10, floor="a", floor_value=5), one(20, floor="a", floor_value=10), ""),
        (one(10, floor="a", floor_value=5), one(10, floor="a", floor_value=4), "slower"),
        (one(10), one(10, "ms"), ""),
        (one(0), one(10), ""),
    ],
)  # fmt: skip
def test_what_got_slower(before: dict[str, Any], now: dict[str, Any], wanted: str) -> None:
    seen, slower = compare(before, now)
    assert slower == (["group: it"] if wanted == "slower" else [])
    assert (wanted or "0 differ") in seen


def test_figures_of_one_report_alone_are_left_out() -> None:
    other = report(other=Figure(name="other", value=1, unit="us"))
    assert compare(one(1), other)[0].startswith("0 figures compared")


def test_one_thing_is_held_against_each_floor_by_itself() -> None:
    both = [
        Figure(name="it", value=10, unit="us", floor=floor, floor_value=value) for floor, value in (("a", 5), ("b", 1))
    ]
    same = {"host": {}, "benchmarks": {"group": {"figures": [each.to_dict() for each in both]}}}
    assert compare(same, same) == ("2 figures compared, 0 differ by more than 10 %", [])


@pytest.mark.parametrize(
    ("target", "bound"),
    [
        (None, None), (Target(of="value", at_most=3), 3), (Target(of="ratio", at_most=1.5), 7.5),
        (Target(of="ratio", at_least=0.9), 4.5),
    ],
)  # fmt: skip
def test_goals_are_told_in_the_unit_of_the_figure(target: Target | None, bound: float | None) -> None:
    figure = Figure(name="it", value=10, unit="us", floor="a", floor_value=5, target=target)
    assert figure.bound == figure.to_dict()["bound"] == bound


def test_charts_say_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "report.json").write_text(json.dumps(one(10)))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(sys, "argv", ["charts", str(tmp_path / "report.json"), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as end:
        charts.main()
    assert end.value.code == 2
    assert "pip install -e '.[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"benchmarks": {"a": {"figures": [{}]}}}', '{"benchmarks": []}'])
def test_what_is_no_report_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(NoReport, match=r"old\.json: no report"):
        read_report(tmp_path / "old.json")
    with pytest.raises(NoReport, match="No such file"):
        read_report(tmp_path / "none.json")


def test_the_command_measures_nothing_for_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps([]))
    command = [sys.executable, "-m", "benchmarks", "--compare", str(tmp_path / "old.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no report of `python -m benchmarks --json`" in done.stderr
