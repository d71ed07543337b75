"""The tables of phases, and the diagrams that are made from them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import ryzen_protos
from ryzen_coordinator.core.ending import DO_NOT_REQUEUE
from ryzen_coordinator.core.phases import (
    BARRED,
    JOB_PHASES,
    NODE_PHASES,
    OVER,
    RECOVERING,
    WORLD_UP,
    PhaseError,
    Table,
    follow,
    mermaid,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("table", [JOB_PHASES, NODE_PHASES])
def test_every_move_leads_to_a_phase_of_the_table(table: Table) -> None:
    assert {target for moves in table.values() for target in moves.values()} <= set(table)


@pytest.mark.parametrize("table", [JOB_PHASES, NODE_PHASES])
def test_every_phase_can_be_reached(table: Table) -> None:
    reached, frontier = set(), [next(iter(table))]
    while frontier:
        phase = frontier.pop()
        if phase not in reached:
            reached.add(phase)
            frontier += table[phase].values()
    assert reached == set(table)


def test_groups_of_phases_name_phases() -> None:
    assert set(JOB_PHASES) >= OVER | WORLD_UP | RECOVERING
    assert set(NODE_PHASES) >= BARRED


def test_every_phase_of_a_job_that_is_not_over_can_be_stopped_by_us() -> None:
    assert all("stopped by us" in moves for phase, moves in JOB_PHASES.items() if phase not in OVER)


def test_a_move_that_the_table_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(PhaseError, match="'formed' cannot happen in phase 'finished'"):
        follow(JOB_PHASES, "finished", "formed")


def test_quarantine_ends_by_readmission_alone() -> None:
    assert list(NODE_PHASES["quarantined"]) == ["readmitted"]


def test_a_diagram_shows_every_edge() -> None:
    assert mermaid({"a": {"x": "b", "y": "b"}, "b": {}}) == (
        "stateDiagram-v2\n    [*] --> a\n    a --> b: x, y\n    b --> [*]\n"
    )


def test_the_diagrams_in_the_architecture_are_those_of_the_tables() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "phase_diagram.py"))
    embedded = script["embedded"]((ROOT / "ARCHITECTURE.md").read_text())
    assert embedded == script["diagrams"](), "run: python scripts/phase_diagram.py --write"


def test_the_cores_do_not_requeue_code_is_the_contracts() -> None:
    assert DO_NOT_REQUEUE == ryzen_protos.DO_NOT_REQUEUE_EXIT_CODE
