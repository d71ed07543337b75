"""Tables in docs/benchmarks.md: each between two markers of its own, so that one can be made anew alone."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from ryzen_lab.summary import values

HEAD = """# Benchmarks

Made by `ryzen-lab bench`; each table says by which command, how often, and how loaded the machine was.
"""
_COLUMNS = {
    "detected_s": "noticed and named",
    "known_to_exec_s": "known to exec",
    "recovered_s": "first new step",
    "steps_lost": "steps lost",
}


def put(document: str, name: str, table: str) -> str:
    """`document` with the table `name` replaced, or added at the end."""
    begin, end = f"<!-- bench {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{table.strip()}\n{end}"
    if begin in document and end in document:
        before, _, rest = document.partition(begin)
        return before + section + rest.partition(end)[2]
    return f"{document.rstrip()}\n\n{section}\n"


def write(path: Path, name: str, table: str) -> None:
    """Put the table into the file, which is made where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = path.read_text() if path.exists() else HEAD
    path.write_text(put(document, name, table))


def conditions(command: str) -> str:
    """The command and the machine, now."""
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"`{command}` on {today}, {os.cpu_count()} CPUs ({_processor()}), load average {load} at the end."


def beat_table(figures: dict[str, float], command: str) -> str:
    return "\n".join(
        [
            "## What a beat costs the training loop",
            "",
            conditions(command),
            "",
            "| median, µs | back to back | paced 1 ms |",
            "|---|---|---|",
            f"| one beat | {figures['beat_us']:.2f} | {figures['beat_paced_us']:.2f} |",
            f"| a step with 4 sections and a report | {figures['step_us']:.1f} | {figures['step_paced_us']:.1f} |",
        ]
    )


def footprint_table(figures: dict[str, float], command: str) -> str:
    return "\n".join(
        [
            "## What the agent of a node costs",
            "",
            f"{conditions(command)} Eight ranks, twenty steps a second each with four sections; over 30 s.",
            "",
            "| RSS | PSS | share of a core |",
            "|---|---|---|",
            f"| {figures['rss_mb']:.0f} MB | {figures['pss_mb']:.0f} MB | {figures['cpu_percent']:.2f} % |",
        ]
    )


def spine_table(rows: list[dict[str, Any]], command: str) -> str:
    """Medians with least and most, in seconds from the injection; measured by the lab, not by the product."""
    lines = [
        "## From the fault to the first new step",
        "",
        conditions(command),
        "Two nodes of two ranks on this one machine, the reference trainer with `configs/demo.yaml`; median (least to",
        "most) in seconds from the injection, measured from outside. An exec is timed by the kernel in ticks of 10 ms.",
        "Stock torchrun names no culprit: its first column is the first death of a rank that was not struck.",
        "",
        "| | " + " | ".join(_COLUMNS.values()) + " | recovered | load |",
        "|---|" + "---|" * (len(_COLUMNS) + 2),
    ]
    for row in rows:
        results = row["results"]
        cells = [_cell(values(results, name), name) for name in _COLUMNS]
        tried = len(results) + len(row["failures"])
        recovered = sum(each["recovered_s"] is not None and each["exit_code"] == 0 for each in results)
        loads = [each["load_average"] for each in results]
        load = f"{statistics.median(loads):.1f}" if loads else "-"
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {recovered} of {tried} | {load} |")
    return "\n".join(lines)


def _cell(found: list[float], name: str) -> str:
    return spread(found, places=0 if name == "steps_lost" else 2)


def spread(found: list[float], places: int) -> str:
    """Median (least to most)."""
    if not found:
        return "-"
    low, middle, high = (f"{each:.{places}f}" for each in (min(found), statistics.median(found), max(found)))
    return f"{middle} ({low} to {high})"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
