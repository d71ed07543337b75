"""The tables of a race, from its JSON. Pure: plain values in, Markdown out."""

from __future__ import annotations

import collections
import json
import statistics
from pathlib import Path
from typing import Any

from ryzen_lab.bench.document import spread
from ryzen_lab.errors import LabError

OURS = "ryzen"
_TITLES = {
    "kill": "A rank is killed (SIGKILL)",
    "exit": "A rank raises an exception",
    "stop": "A rank is frozen (SIGSTOP)",
    "node-kill": "A node is lost, a spare waits",
}
_MOMENTS = {
    "stopped": "old ranks dead",
    "execed": "new ranks exec'd",
    "imported": "torch imported",
    "restored": "state loaded",
}


def read(file: Path) -> dict[str, Any]:
    """The result of a race as it was written. Raises LabError, one line."""
    try:
        found = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{file}: cannot be read: {error}") from None
    except ValueError:
        raise LabError(f"{file}: not one JSON object") from None
    if not isinstance(found, dict) or not {"contestants", "trials", "faults", "versions"} <= found.keys():
        raise LabError(f"{file}: not the result of `ryzen-lab bench peers`")
    return found


def trials_of(result: dict[str, Any], fault: str, contestant: str) -> list[dict[str, Any]]:
    return [each for each in result["trials"] if (each["race_fault"], each["contestant"]) == (fault, contestant)]


def has_recovered(trial: dict[str, Any]) -> bool:
    """A new world has made a step in time, and the job came to its end."""
    return trial.get("recovered_s") is not None and bool(trial.get("finished"))


def recoveries(trials: list[dict[str, Any]]) -> list[float]:
    """Seconds from the fault to the first new step, of those that recovered."""
    return [each["recovered_s"] for each in trials if has_recovered(each)]


def common_digest(trials: list[dict[str, Any]]) -> str | None:
    """The parameters that most trials of a fault end with, among those whose world kept its size."""
    digests = [each["state_digest"] for each in trials if _comparable(each)]
    return collections.Counter(digests).most_common(1)[0][0] if digests else None


def document(result: dict[str, Any], plot: str | None) -> str:
    """The section of docs/benchmarks.md. `plot`: where it lies, from the document; None: none was made."""
    loads = [each["load_average"] for each in result["trials"]] or [0.0]
    broken = "" if "ended" in result else f", broken off after {len(result['trials'])} trials"
    lines = [
        "## Beside other tools: from the fault to the first new step",
        "",
        f"`{result['command']}`, begun {result['began'][:16].replace('T', ' ')} UTC{broken}, {result['cpus']} CPUs "
        f"({result['processor']}), load average {min(loads):.1f} to {max(loads):.1f} over the trials.",
        "Two nodes of two ranks on this one machine, the reference trainer with `configs/demo.yaml` for all; in turn, "
        "a trial each, the first",
        "changing from round to round. Median (least to most) in seconds from the injection, measured from outside; "
        f"what has made no new step {result['patience_s']:.0f} s",
        "after the fault is cut off and counts as not recovered; who never recovered from one is struck by it no third "
        "time. Ratio: of the",
        "medians, to Ryzen's. Moments of the recovery are medians since the fault. Same bits: trials whose final "
        "parameters are those that most",
        "end with, of those that ended with as many ranks as they began.",
        "",
    ]
    if plot is not None:
        lines += [f"![Seconds from the fault to the first new step, a mark a trial]({plot})", ""]
    for fault in result["faults"]:
        lines += [f"### {_TITLES.get(fault, fault)}", "", *_table(result, fault), ""]
    return "\n".join([*lines, *_notes(result)])


def _table(result: dict[str, Any], fault: str) -> list[str]:
    columns = ["recovered", "first new step", "ratio", "steps lost", *_MOMENTS.values(), "same bits", "load"]
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    digest = common_digest([each for each in result["trials"] if each["race_fault"] == fault])
    ours = recoveries(trials_of(result, fault, OURS))
    for contestant in result["contestants"]:
        trials = trials_of(result, fault, contestant["id"])
        if trials and not all(each.get("not_started") for each in trials):
            lines.append(_row(contestant["name"], trials, ours, digest))
        else:
            why = result["out"].get(contestant["id"], "not run")
            lines.append(f"| {contestant['name']} | - | {why.replace('|', '/')} |{' |' * (len(columns) - 2)}")
    return lines


def _row(name: str, trials: list[dict[str, Any]], ours: list[float], digest: str | None) -> str:
    good = [each for each in trials if has_recovered(each)]
    found = recoveries(trials)
    comparable = [each for each in good if _comparable(each)]
    cells = [
        name,
        f"{len(good)} of {len(trials)}",
        spread(found),
        f"{statistics.median(found) / statistics.median(ours):.1f}" if found and ours else "-",
        _median([each["steps_lost"] for each in good], places=0),
        *(_median([each["moments_s"].get(moment) for each in good]) for moment in _MOMENTS),
        f"{sum(each['state_digest'] == digest for each in comparable)} of {len(comparable)}",
        f"{statistics.median(each['load_average'] for each in trials):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _median(values: list[float | None], places: int = 2) -> str:
    found = [each for each in values if each is not None]
    return f"{statistics.median(found):.{places}f}" if found else "-"


def _comparable(trial: dict[str, Any]) -> bool:
    return bool(trial.get("digest_comparable")) and trial.get("state_digest") is not None


def _notes(result: dict[str, Any]) -> list[str]:
    lines = []
    for contestant in result["contestants"]:
        why = result["out"].get(contestant["id"])
        lines.append(f"- **{contestant['name']}**: {contestant['note']}" + (f" Not measured: {why}." if why else ""))
    versions = [
        f"{name} {', '.join(f'{what} {version}' for what, version in found.items())}"
        for name, found in result["versions"].items()
        if found
    ]
    return [*lines, "", f"Versions: {'; '.join(versions)}."]
