"""Figures of repeated trials: median, least, most, and of how many."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from ryzen_lab.measure import STAGES

FIGURES = ("detected_s", "known_to_exec_s", "recovered_s", "steps_lost")


def values(results: Sequence[dict[str, Any]], name: str) -> list[float]:
    """What is known of one figure or stage."""
    found = [each["stages_s"].get(name) if name in STAGES else each.get(name) for each in results]
    return [float(each) for each in found if each is not None]


def table(results: Sequence[dict[str, Any]]) -> str:
    """Plain text, a figure a line. Trials that failed are counted at the end."""
    failed = sum("error" in each for each in results)
    results = [each for each in results if "error" not in each]
    lines = [f"{'':18}{'median':>9}{'min':>9}{'max':>9}{'n':>5}"]
    for name in (*FIGURES, *STAGES):
        found = values(results, name)
        if found:
            spread = f"{statistics.median(found):9.3f}{min(found):9.3f}{max(found):9.3f}{len(found):5}"
            lines.append(f"{name:18}{spread}")
    false_actions = sum(each["false_actions"] for each in results)
    loads = [each["load_average"] for each in results] or [0.0]
    load = f"load average {min(loads):.1f} to {max(loads):.1f}"
    lines.append(f"false actions {false_actions}, trials that failed {failed}, {load}")
    return "\n".join(lines)
