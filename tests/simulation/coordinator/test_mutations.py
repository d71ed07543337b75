"""Each rule of the core is switched off once, and the check that guards it must notice: mutations.py has the list."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from ryzen_coordinator.core import brakes
from ryzen_coordinator.core.detectors import DETECTORS

from .cases import FAMILIES, case_of
from .checkers import CHECKERS
from .mutations import MUTATIONS, Mutation, Scenario, Seeds
from .simulator import Simulation
from .test_scenarios import replay as scenario_gives

FOLDER = Path(__file__).parent / "scenarios"
BY_CONSTRUCTION = {"one generation"}
"""A torchrun does not come back before its ranks are dead, so no rule of the core alone can break this one: it guards
what the agents and torchruns of the simulation make of the core's word."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_a_core_without_this_rule_is_caught(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.apply(monkeypatch)
    if isinstance(mutation.caught, Scenario):
        assert _scenario_differs(mutation.caught), f"{mutation.caught} has not noticed"
    else:
        assert _seed_breaks(mutation.caught), f"{mutation.caught} has not noticed"


def test_every_detector_brake_and_checker_has_its_mutation() -> None:
    covered = {name for mutation in MUTATIONS for name in mutation.covers}
    public = {name for name, _ in inspect.getmembers(brakes, inspect.isfunction) if not name.startswith("_")}
    own = {name for name in public if getattr(brakes, name).__module__ == brakes.__name__}
    needed = {name for name, _ in DETECTORS} | own
    assert needed <= covered, f"without a mutation: {needed - covered}"
    guards = {mutation.caught.checker for mutation in MUTATIONS if isinstance(mutation.caught, Seeds)}
    assert guards | BY_CONSTRUCTION >= {each.name for each in CHECKERS}


def _scenario_differs(scenario: Scenario) -> bool:
    written = (FOLDER / f"{scenario.name}.txt").read_text()
    try:
        return scenario_gives(written) != written
    except Exception:  # noqa: BLE001 - a scenario that cannot even run has noticed
        return True


def _seed_breaks(seeds: Seeds) -> bool:
    first = list(FAMILIES).index(seeds.family)
    for seed in range(first, first + seeds.most * len(FAMILIES), len(FAMILIES)):
        simulation = Simulation(case_of(seed), CHECKERS, replays=seeds.checker == "replay", enough=seeds.checker)
        simulation.run()
        if any(line.startswith(f"{seeds.checker}:") for line in simulation.broken):
            return True
    return False
