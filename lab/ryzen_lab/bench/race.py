"""Ryzen and other tools in one race: the same script, the same faults, the same clock, in turn on one machine.

For each round and each fault every contestant has one trial, and who begins changes from round to round: what else
the machine does strikes all alike, and ratios within one race are what counts. All trials of a round have one seed,
so that the same rank is struck within the same step. A job that has made no new step `patience_s` after the fault is
cut off and counts as not recovered. Who has not recovered from a fault `GIVE_UP_AFTER` times and never did is not
struck by it again, for that takes most of the time; who does not get as far as a first step is not started again.

The result is one JSON object, written anew after each trial, from which the table and the plot can be made again.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ryzen_lab.bench.document import processor
from ryzen_lab.bench.peers import Contestant
from ryzen_lab.bench.race_table import has_recovered, trials_of
from ryzen_lab.errors import LabError, NotStarted, UsageError
from ryzen_lab.settings import TrialSettings
from ryzen_lab.trial import Trial

FAULTS: dict[str, dict[str, Any]] = {
    "kill": {},
    "exit": {},
    "stop": {},
    # Node 1, for node 0 hosts the store of a c10d rendezvous and its loss is the end of such a job. Enough steps
    # for every launcher's spare to be ready before the fault.
    "node-kill": {"fault_node": "node-1", "spares": 1, "min_nodes": 1, "steps": 400},
}
"""Fault -> options of its trials. Two nodes of two ranks."""
GIVE_UP_AFTER = 2
_AFTER_RECOVERY_S = 240.0
"""Beside the patience: start, the steps before the fault and those after the recovery."""
_WHY_MAX = 200


@dataclass(frozen=True)
class Race:
    """Who, what, how often."""

    contestants: list[Contestant]
    faults: list[str]
    repeat: int
    patience_s: float = 100.0
    seed: int = 1


def parse_faults(text: str) -> list[str]:
    """`kill,stop`. Raises UsageError for a fault that is not in `FAULTS`, or none at all."""
    names = [each.strip() for each in text.split(",") if each.strip()]
    for name in names:
        if name not in FAULTS:
            raise UsageError(f"option --faults: {name!r} is not among the faults; allowed: {', '.join(FAULTS)}")
    if not names:
        raise UsageError(f"option --faults: none given; allowed: {', '.join(FAULTS)}")
    return list(dict.fromkeys(names))


async def run(race: Race, command: str, told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The result. `told` hears of it whenever a trial has been added."""
    result = _head(race, command)
    out = {each.id: missing for peer, each in race.contestants if (missing := peer.missing())}
    for number in range(race.repeat):
        for fault in race.faults:
            for peer, variant in rotated(race.contestants, number):
                if variant.id in out or is_hopeless(trials_of(result, fault, variant.id)):
                    continue
                trial = await _trial(race, (peer, variant), fault, number)
                if trial.get("not_started"):
                    out[variant.id] = trial["error"]
                result["trials"].append(trial)
                result["out"] = out
                told(result)
    return {**result, "out": out, "ended": _now()}


def command_line(race: Race, out: Path | None) -> str:
    """The command that runs this race again."""
    names = ",".join(each.id for _peer, each in race.contestants[1:])
    options = f"--peers {names} --faults {','.join(race.faults)} --repeat {race.repeat}"
    options += f" --patience-s {race.patience_s:g} --seed {race.seed}"
    return f"ryzen-lab bench {options}" + (f" --json {out.name}" if out is not None else "")


def in_words(trial: dict[str, Any]) -> str:
    """One trial in a line."""
    seconds = trial.get("recovered_s")
    said = trial.get("error") or (f"{seconds:.2f} s" if seconds is not None else "not recovered")
    return f"{trial['race_fault']}, round {trial['round'] + 1}: {trial['contestant']}: {said}"


def is_hopeless(trials: Sequence[dict[str, Any]]) -> bool:
    """Whether there is no point in another trial."""
    return len(trials) >= GIVE_UP_AFTER and not any(has_recovered(each) for each in trials)


def rotated(contestants: Sequence[Contestant], number: int) -> list[Contestant]:
    """The order of a round: each begins in turn."""
    first = number % len(contestants)
    return [*contestants[first:], *contestants[:first]]


async def _trial(race: Race, contestant: Contestant, fault: str, number: int) -> dict[str, Any]:
    """A trial's result with who, what and when; what could not be brought to an end has an `error`."""
    _peer, variant = contestant
    options = {**FAULTS[fault], **variant.options}
    settings = TrialSettings(
        fault=fault,
        seed=race.seed + number,
        patience_s=race.patience_s,
        timeout_s=race.patience_s + _AFTER_RECOVERY_S,
        **options,
    )
    known = {"contestant": variant.id, "race_fault": fault, "round": number, "at": _now()}
    try:
        return {**known, **await Trial(settings, launcher=variant.launcher).run()}
    except NotStarted as error:
        return {**known, "error": _why(error), "not_started": True, "load_average": _load()}
    except LabError as error:
        return {**known, "error": _why(error), "load_average": _load()}


def _why(error: LabError) -> str:
    """Its first line, and the last word of a log: the reason that a program gave for its end."""
    lines = [each.strip() for each in str(error).splitlines() if each.strip()]
    said = [each for each in lines[1:] if "Error" in each]
    return ": ".join([lines[0], *said[-1:]])[:_WHY_MAX]


def _head(race: Race, command: str) -> dict[str, Any]:
    peers = {peer.name: peer for peer, _variant in race.contestants}
    return {
        "command": command,
        "began": _now(),
        "cpus": os.cpu_count(),
        "processor": processor(),
        "patience_s": race.patience_s,
        "faults": race.faults,
        "contestants": [{"id": each.id, "name": each.name, "note": each.note} for _peer, each in race.contestants],
        "versions": {name: peer.versions(sys.executable) for name, peer in peers.items()},
        "out": {},
        "trials": [],
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _load() -> float:
    return round(os.getloadavg()[0], 2)
