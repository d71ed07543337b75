"""How soon each kind of hang is suspected, named and recovered from, and whether the right rank was named.

The table can be made of trials that were run before: `ryzen-lab trial ... --repeat 5 --json OUT`, then
`ryzen-lab bench hang --from OUT`. What was run with another stall floor is a row of its own and says so.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ryzen_lab.bench.document import conditions
from ryzen_lab.errors import LabError
from ryzen_lab.faults import KINDS
from ryzen_lab.measure import ACTING
from ryzen_lab.settings import TrialSettings
from ryzen_lab.trial import run_trials

FLOOR_S = 60.0
"""For the kinds that nothing tells from a long evaluation: the product's own floor of 300 s would take hours here."""
_TRIALS = (
    {"fault": "stop"},
    {"fault": "deadlock"},
    {"fault": "backward", "timeout_s": 150.0},
    {"fault": "loader", "timeout_s": 150.0},
    {"fault": "save", "timeout_s": 150.0},
    {"fault": "skip", "steps": 200},
    {"fault": "gil", "timeout_s": 150.0},
    {"fault": "spin", "stall_floor_s": FLOOR_S, "timeout_s": 200.0},
    {"fault": "pause", "steps": 300},
    {"fault": "partition", "steps": 200},
)


async def measure(repeat: int) -> list[dict[str, Any]]:
    """Results of all kinds, each `repeat` times; most of an hour for three."""
    return [
        {"fault": {"kind": options["fault"]}, **result}
        for options in _TRIALS
        async for result in run_trials(TrialSettings(**options, seed=1), repeat)
    ]


def read(files: list[Path]) -> list[dict[str, Any]]:
    """Results as `trial --json` writes them: one object, or one a line. Raises LabError."""
    return [each for file in files for each in _objects(file)]


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{file}: cannot be read: {error}") from None
    try:
        found = [json.loads(text)]
    except ValueError:
        found = _lines(file, text)
    for each in found:
        if not isinstance(each, dict) or not ("error" in each or "fault" in each):
            raise LabError(f"{file}: not the result of a trial")
        yield each


def _lines(file: Path, text: str) -> list[Any]:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        raise LabError(f"{file}: neither one JSON object nor one a line") from None


def table(results: list[dict[str, Any]], command: str) -> str:
    """A row for each kind and stall floor; median (longest) in seconds from the injection."""
    rows: dict[tuple[str, float | None], list[dict[str, Any]]] = {}
    for each in results:
        kind = each.get("fault", {}).get("kind", "?")
        rows.setdefault((kind, each.get("stall_floor_s")), []).append(each)
    lines = [
        "## Hangs: suspected, named, recovered from",
        "",
        conditions(command),
        "Trials on one machine; median (longest) in seconds from the injection, measured from outside. Suspected: the",
        "first word about it; acted on: the verdict that interrupts training. Right: that verdict named exactly the",
        "rank (or node) that was struck; for what is innocent, that there was none. A trial without an end in its",
        "time counts as failed.",
        "",
        "| fault | stall floor | n | failed | suspected | acted on | first new step | right | class and action "
        "| false actions | load |",
        "|---|" + "---|" * 10,
    ]
    lines += [_row(kind, floor, each) for (kind, floor), each in rows.items()]
    return "\n".join(lines)


def _row(kind: str, floor: float | None, results: list[dict[str, Any]]) -> str:
    ended = [each for each in results if "error" not in each]
    cells = [
        kind,
        "default" if floor is None else f"{floor:.0f} s",
        str(len(results)),
        str(len(results) - len(ended)),
        _spread([each.get("suspected_s") for each in ended]),
        _spread([each["detected_s"] if _acted(each) else None for each in ended]),
        _spread([each["recovered_s"] for each in ended]),
        f"{sum(is_right(each) for each in ended)} of {len(ended)}",
        ", ".join(sorted({_word(each) for each in ended})) or "-",
        str(sum(each["false_actions"] for each in ended)),
        f"{statistics.median(each['load_average'] for each in ended):.1f}" if ended else "-",
    ]
    return f"| {' | '.join(cells)} |"


def is_right(result: dict[str, Any]) -> bool:
    """The verdict that was acted on names whom the lab struck, and nobody else; of an innocent kind there is none."""
    if is_innocent(result["fault"]["kind"]):
        return not _acted(result)
    fault, verdict = result["fault"], result["verdict"]
    if verdict is None or not _acted(result):
        return False
    if fault["rank"] is None:
        return bool(verdict["nodes"] == [fault["node"]])
    struck = sorted(each["rank"] for each in fault.get("all", [fault]) if each["rank"] is not None)
    return sorted(verdict["ranks"]) == struck


def is_innocent(kind: str) -> bool:
    """Whether nothing that was done needs an interruption."""
    kinds = [KINDS.get(each.partition("@")[0]) for each in kind.split(",")]
    return all(each is not None and not each.interrupts for each in kinds)


def _acted(result: dict[str, Any]) -> bool:
    return result["verdict"] is not None and result["verdict"]["action"] in ACTING


def _word(result: dict[str, Any]) -> str:
    verdict = result["verdict"]
    return "none" if verdict is None else f"{verdict['class']} {verdict['action']}"


def _spread(values: list[float | None]) -> str:
    found = [each for each in values if each is not None]
    return f"{statistics.median(found):.2f} ({max(found):.2f})" if found else "-"
