"""python -m benchmarks.charts REPORT.json FOLDER: draws the report of `python -m benchmarks --json`.

Writes FOLDER/GROUP.svg for each group, with a chart for each figure: the measurement in the box, the floor, and the
goal. Each chart has a scale of its own, because the units differ. Needs matplotlib (the extra `bench`).
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.comparing import NoReport, read_report
from benchmarks.figures import number

BOX, FLOOR, GOAL = "#2a6f97", "#b8c4cc", "#c1121f"
#: Inches: the width of a picture, the width of the names in it, the height of a chart and of the title.
WIDTH, NAMES, CHART, HEAD = 9.0, 3.4, 0.62, 0.5


def main() -> int:
    """Returns the exit status: 2 without a report or without matplotlib."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.charts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path, metavar="REPORT.json")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    try:
        report = read_report(options.report)
        options.folder.mkdir(parents=True, exist_ok=True)
        for name, group in report["benchmarks"].items():
            draw(name, group["figures"], options.folder / f"{name}.svg")
            print(options.folder / f"{name}.svg")
    except ImportError as error:
        parser.error(f"{error}: pip install -e '.[bench]'")
    except (NoReport, OSError) as error:
        parser.error(str(error))
    return 0


def draw(name: str, figures: list[dict[str, Any]], path: Path) -> None:
    """Writes the charts of one group. Raises ImportError without matplotlib, and OSError."""
    import matplotlib
    from matplotlib.figure import Figure

    options = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": name,  # the same report gives the same bytes
        "font.family": "sans-serif",
        "font.size": 8.5,
    }
    with matplotlib.rc_context(options):
        height = HEAD + CHART * len(figures)
        picture = Figure(figsize=(WIDTH, height))
        charts = picture.subplots(len(figures), squeeze=False)[:, 0]
        picture.subplots_adjust(left=NAMES / WIDTH, right=0.97, top=1 - HEAD / height, bottom=0.0, hspace=0.35)
        for chart, figure in zip(charts, figures, strict=True):
            _draw_one(chart, figure)
        for left, colour, text in ((0.02, BOX, "in the box"), (0.14, FLOOR, "against"), (0.24, GOAL, "goal")):
            picture.text(left, 1 - 0.3 / height, "\N{BLACK SQUARE} ", color=colour, fontsize=12)
            picture.text(left + 0.02, 1 - 0.3 / height, text)
        picture.savefig(path, format="svg", metadata={"Date": None})


def _draw_one(chart: Any, figure: dict[str, Any]) -> None:
    value, against, goal = figure["value"], figure["floor_value"], figure.get("bound")
    most = max(each for each in (value, against, goal, 1e-9) if each is not None)
    _bar(chart, 1, value, BOX, f"{number(value)} {figure['unit']}", most)
    if against is not None:
        ratio = f" ({figure['ratio']:.2f}x)" if figure["ratio"] is not None else ""
        _bar(chart, 0, against, FLOOR, f"{number(against)} {figure['unit']}, {figure['floor']}{ratio}", most)
    if goal is not None:
        chart.plot([goal, goal], [-0.5, 1.5], color=GOAL, linewidth=1.4)
    chart.set_xlim(0, 1.75 * most)  # room for the text behind the bars
    chart.set_ylim(-0.6, 1.6)
    chart.set_axis_off()
    chart.text(-0.02, 0.5, figure["name"], ha="right", va="center", transform=chart.transAxes, wrap=True)


def _bar(chart: Any, place: int, value: float, colour: str, text: str, most: float) -> None:
    chart.barh(place, value, color=colour, height=0.8)
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # over the line of the goal
    chart.text(value + 0.012 * most, place, text, va="center", fontsize=7.5, bbox=behind)


if __name__ == "__main__":
    sys.exit(main())
