"""What the core wants done, in order. The carrier puts every `Journal` on disk before it sends a `Desire`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ryzen_coordinator.core.events import Endpoint

Place: TypeAlias = Literal["unspecified", "member", "parked", "dismissed"]
Kind: TypeAlias = Literal["node", "job", "incident"]
Level: TypeAlias = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class WorldFor:
    """A formed world as one of its nodes is given it."""

    generation: int
    nodes: tuple[str, ...]
    group_rank: int
    store: Endpoint
    uniform: bool
    join_id: int
    resume_at_most: int | None = None


@dataclass(frozen=True, slots=True)
class DesiredJob:
    """What a node should do for one job; the fields are those of the message of that name."""

    run_id: str
    user: str
    generation: int = 0
    go: bool = False
    place: Place = "unspecified"
    world: WorldFor | None = None
    inquiry: int = 0
    stop_pids: tuple[int, ...] = ()
    exit_code: int = 0
    reason: str = ""
    torchrun_pid: int = 0
    evidence: bool = False


@dataclass(frozen=True, slots=True)
class DesiredNode:
    """Everything that a node should be now."""

    phase: str
    reason: str = ""
    jobs: tuple[DesiredJob, ...] = ()


@dataclass(frozen=True, slots=True)
class Desire:
    """Send this level to the node, unless a newer one is waiting already."""

    node: str
    desired: DesiredNode


@dataclass(frozen=True, slots=True)
class Journal:
    """Keep `body` as the newest record of (kind, key); None forgets it. A body is plain JSON."""

    kind: Kind
    key: str
    body: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class IncidentChanged:
    """Whoever watches incidents should see this one again."""

    incident_id: int


@dataclass(frozen=True, slots=True)
class Say:
    """A line for the log, in words."""

    level: Level
    text: str
    fields: tuple[tuple[str, str], ...] = field(default=())


Effect: TypeAlias = Desire | Journal | IncidentChanged | Say
