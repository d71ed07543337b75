"""The plot of a race: a panel a fault, a row a contestant, a mark a trial, on a logarithmic axis of seconds.

Made by matplotlib (the extra `plot`), which is asked for only here. The same result gives the same bytes.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from ryzen_lab.bench.race_table import OURS, has_recovered, recoveries, trials_of
from ryzen_lab.errors import LabError

NAME = "peers.svg"
_OURS_COLOUR, _OTHERS_COLOUR, _LOST_COLOUR = "#0b6e4f", "#5b6770", "#c1440e"
_ROW_INCHES, _WIDTH_INCHES = 0.34, 9.0


def shown(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The contestants that got as far as a fault, in the order of the table, from top to bottom."""
    started = {each["contestant"] for each in result["trials"] if not each.get("not_started")}
    return [each for each in result["contestants"] if each["id"] in started]


def write(result: dict[str, Any], path: Path) -> None:
    """Raises LabError where matplotlib is not there."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise LabError("no plot: matplotlib is not installed: pip install 'ryzen[plot]'") from None
    rows = shown(result)
    height = _ROW_INCHES * (len(rows) + 1.5) * len(result["faults"]) + 0.8
    with mpl.rc_context({"svg.hashsalt": "ryzen", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        panels = figure.subplots(len(result["faults"]), 1, sharex=True, squeeze=False)[:, 0]
        for panel, fault in zip(panels, result["faults"], strict=True):
            _panel(panel, result, fault, rows)
        panels[-1].set_xlabel(
            f"seconds from the fault to the first new step; × not recovered in {result['patience_s']:.0f} s"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(panel: Any, result: dict[str, Any], fault: str, rows: list[dict[str, Any]]) -> None:
    panel.set_xscale("log")
    panel.set_title(fault, loc="left", fontweight="bold")
    panel.set_yticks(range(len(rows)), [each["name"] for each in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xlim(0.2, result["patience_s"] * 1.4)
    panel.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    panel.grid(axis="x", which="both", linewidth=0.3, alpha=0.6)
    panel.spines[["top", "right", "left"]].set_visible(False)
    for row, contestant in enumerate(rows):
        trials = trials_of(result, fault, contestant["id"])
        found = recoveries(trials)
        lost = sum(not has_recovered(each) for each in trials)
        colour = _OURS_COLOUR if contestant["id"] == OURS else _OTHERS_COLOUR
        panel.plot(found, [row] * len(found), "o", color=colour, markersize=5, alpha=0.65)
        if found:
            panel.plot([statistics.median(found)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2)
        spots = [result["patience_s"] * (1 + 0.05 * each) for each in range(lost)]
        panel.plot(spots, [row] * lost, "x", color=_LOST_COLOUR, markersize=6)
