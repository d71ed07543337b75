"""Phases of nodes and of jobs, as data: what affects state lives in one place.

Each table maps a phase to what may happen in it and to where that leads. Nothing else in the core sets a phase;
`follow` refuses a move that the table does not have. The diagrams in ARCHITECTURE.md are printed from these
tables by scripts/phase_diagram.py, and a test compares.

A node that is lost is only *suspect*: it is left out of the next world, and is healthy again as soon as it is
back. Quarantine is for nodes that a person (or, later, a hardware verdict) took out: it outlives reboots and
restarts of the coordinator, and ends by `readmit` alone.
"""

from __future__ import annotations

from typing import TypeAlias

Table: TypeAlias = dict[str, dict[str, str]]


class PhaseError(RuntimeError):
    """A move that its table does not have: a mistake in the core."""


NODE_PHASES: Table = {
    "joining": {"attached": "healthy", "silent": "suspect", "evicted": "draining", "forgotten": "retired"},
    "healthy": {"silent": "suspect", "evicted": "draining", "forgotten": "retired"},
    "suspect": {"returned": "healthy", "evicted": "draining", "forgotten": "retired"},
    "draining": {"drained": "quarantined", "readmitted": "probation"},
    "quarantined": {"readmitted": "probation"},
    "probation": {"proved": "healthy", "silent": "suspect", "evicted": "draining", "forgotten": "retired"},
    "retired": {"returned": "joining"},
}

JOB_PHASES: Table = {
    "forming": {"formed": "restoring", "adopted": "running", "left": "finished", "stopped by us": "given_up"},
    "restoring": {
        "stepped": "running",
        "adopted": "running",
        "announced": "stopping",
        "a node is done": "ending",
        "left": "finished",
        "stopped by us": "given_up",
    },
    "running": {
        "silent": "stalled",
        "adopted": "running",
        "announced": "stopping",
        "a node is done": "ending",
        "left": "finished",
        "stopped by us": "given_up",
    },
    "stalled": {
        "stepped": "running",
        "adopted": "running",
        "announced": "stopping",
        "a node is done": "ending",
        "left": "finished",
        "stopped by us": "given_up",
    },
    "stopping": {
        "old ranks gone": "rendezvous",
        "formed": "restoring",
        "adopted": "running",
        "all done": "finished",
        "failed": "finished",
        "left": "finished",
        "stopped by us": "given_up",
    },
    "rendezvous": {
        "formed": "restoring",
        "adopted": "running",
        "all done": "finished",
        "failed": "finished",
        "left": "finished",
        "stopped by us": "given_up",
    },
    "ending": {"all done": "finished", "failed": "finished", "left": "finished", "stopped by us": "given_up"},
    "finished": {},
    "given_up": {},
}

BARRED = frozenset({"draining", "quarantined", "retired"})
"""Phases in which a node belongs to no world."""

OVER = frozenset({"finished", "given_up"})
WORLD_UP = frozenset({"restoring", "running", "stalled"})
"""The world of the newest generation is formed and its ranks are at work: faults lead to a new generation."""
RECOVERING = frozenset({"stopping", "rendezvous"})


def follow(table: Table, phase: str, trigger: str) -> str:
    """Where `trigger` leads from `phase`. Raises PhaseError."""
    try:
        return table[phase][trigger]
    except KeyError:
        raise PhaseError(f"{trigger!r} cannot happen in phase {phase!r}") from None


def can(table: Table, phase: str, trigger: str) -> bool:
    return trigger in table[phase]


def mermaid(table: Table) -> str:
    """The table as a mermaid state diagram, edges of one pair of phases joined."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(table))}"]
    for phase, moves in table.items():
        targets: dict[str, list[str]] = {}
        for trigger, target in moves.items():
            targets.setdefault(target, []).append(trigger)
        lines += [f"    {phase} --> {target}: {', '.join(names)}" for target, names in targets.items()]
        if not moves:
            lines.append(f"    {phase} --> [*]")
    return "\n".join(lines) + "\n"
