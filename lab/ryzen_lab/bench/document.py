"""Tables in docs/benchmarks.md: each between two markers of its own, so that one can be made anew alone."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from pathlib import Path

HEAD = """# Benchmarks

Made by `ryzen-lab bench`; each table says by which command, how often, and how loaded the machine was.
"""


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
    return f"`{command}` on {today}, {os.cpu_count()} CPUs ({processor()}), load average {load} at the end."


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
            f"{conditions(command)} Eight ranks, twenty steps a second each with four sections, and",
            "eight GPUs of the mock driver with every collector at its default interval; over 30 s. Then 50 lines in",
            "the kernel log, each until the coordinator logs what it has made of it.",
            "",
            "| RSS | PSS | share of a core | kernel log to coordinator, median | longest |",
            "|---|---|---|---|---|",
            f"| {figures['rss_mb']:.0f} MB | {figures['pss_mb']:.0f} MB | {figures['cpu_percent']:.2f} % "
            f"| {figures['line_ms']:.0f} ms | {figures['line_ms_max']:.0f} ms |",
        ]
    )


def spread(found: list[float], places: int = 2) -> str:
    """Median (least to most)."""
    if not found:
        return "-"
    low, middle, high = (f"{each:.{places}f}" for each in (min(found), statistics.median(found), max(found)))
    return f"{middle} ({low} to {high})"


def processor() -> str:
    """Its name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
