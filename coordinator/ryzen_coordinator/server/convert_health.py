"""What a node's kernel log and driver said, from the wire: bounded, one printable line each.

Called only for the few updates that say something of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from ryzen_coordinator.core.events import ConditionSeen, HealthSeen
from ryzen_protos.v1 import node_pb2 as pb

HEALTH = "health"
CONDITIONS_MAX, RANKS_MAX = 256, 64
"""Of one node, and of one event or condition: a node has a few dozen ranks and devices."""
NAME_CHARS, MESSAGE_CHARS = 64, 300
_CODE_MAX = 1 << 31
_SECONDS_MAX = 1e9


def events(messages: Iterable[pb.NodeEvent]) -> Iterator[HealthSeen]:
    """The health events among what a node has not yet been acknowledged, oldest first."""
    for message in messages:
        if message.kind == HEALTH and message.HasField("health"):
            yield _event(message, message.health)


def _event(message: pb.NodeEvent, health: pb.HealthEvent) -> HealthSeen:
    return HealthSeen(
        id=message.id,
        at_unix_s=message.unix_ns / 1e9,
        kind=_line(health.kind, NAME_CHARS),
        message=_line(health.message, MESSAGE_CHARS),
        code=min(health.code, _CODE_MAX),
        device=_line(health.device, NAME_CHARS),
        pci=_line(health.pci, NAME_CHARS),
        unit=_line(health.unit, NAME_CHARS),
        fault_class=_line(health.fault_class, NAME_CHARS),
        action=_line(health.action, NAME_CHARS),
        pid=health.pid if health.HasField("pid") else None,
        process=_line(health.process, NAME_CHARS),
        count=max(1, health.count),
        run_id=_line(message.run_id, NAME_CHARS),
        ranks=tuple(health.ranks[:RANKS_MAX]),
        foreign=health.foreign,
        ours=health.ours,
    )


def conditions(message: pb.Conditions) -> tuple[ConditionSeen, ...]:
    """All that stands; of two of the same name and device the last."""
    found = (_condition(each) for each in message.all[:CONDITIONS_MAX])
    return tuple({(each.name, each.device): each for each in found}.values())


def _condition(message: pb.HealthCondition) -> ConditionSeen:
    return ConditionSeen(
        name=_line(message.name, NAME_CHARS),
        device=_line(message.device, NAME_CHARS),
        severity=message.severity if message.severity in {"info", "warning", "critical"} else "warning",
        action=_line(message.action, NAME_CHARS),
        message=_line(message.message, MESSAGE_CHARS),
        age_s=message.age_s if 0.0 <= message.age_s <= _SECONDS_MAX else 0.0,
        value=_figure(message.value) if message.HasField("value") else None,
        limit=_figure(message.limit) if message.HasField("limit") else None,
        run_id=_line(message.run_id, NAME_CHARS),
        ranks=tuple(message.ranks[:RANKS_MAX]),
        foreign=message.foreign,
    )


def fields(event: pb.NodeEvent) -> dict[str, str]:
    """What the node's history keeps of an event."""
    kept = dict(event.fields)
    if event.HasField("health"):
        for field, value in event.health.ListFields():
            text = ",".join(map(str, value)) if field.name == "ranks" else str(value)
            kept[field.name] = _line(text, MESSAGE_CHARS)
    return kept


def _figure(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _line(text: str, length: int) -> str:
    """One printable line: no control character reaches a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:length])
