"""Events and conditions as the coordinator's messages, and which conditions one stream has been told of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ryzen_agent.health.attribution import Owner
from ryzen_agent.health.model import MESSAGE_CHARS, Condition, Event
from ryzen_protos.v1 import node_pb2

CONDITIONS_EVERY_S = 10.0
"""Between two messages of conditions of which only the words or the measured values differ."""
NAME_CHARS = 64


def health_event(event: Event, owner: Owner, ours: bool) -> node_pb2.HealthEvent:
    return node_pb2.HealthEvent(
        kind=event.kind,
        code=event.code,
        device=event.device[:NAME_CHARS],
        pci=event.pci[:NAME_CHARS],
        unit=event.unit[:NAME_CHARS],
        fault_class=event.fault_class,
        action=event.action,
        message=_line(event.message, MESSAGE_CHARS),
        pid=event.pid,
        process=_line(event.process or "", NAME_CHARS),
        count=event.count,
        ranks=owner.ranks,
        foreign=owner.foreign,
        ours=ours,
    )


def health_condition(condition: Condition, owner: Owner, age_s: float) -> node_pb2.HealthCondition:
    return node_pb2.HealthCondition(
        name=condition.name,
        device=condition.device[:NAME_CHARS],
        severity=condition.severity,
        action=condition.action,
        message=_line(condition.message, MESSAGE_CHARS),
        age_s=age_s,
        value=condition.value,
        limit=condition.limit,
        ranks=owner.ranks,
        foreign=owner.foreign,
        run_id=owner.run_id,
    )


class ConditionNews:
    """Which conditions one stream has been told of. Its first message has them all, even where there are none."""

    def __init__(self) -> None:
        self._told: list[node_pb2.HealthCondition] | None = None
        self._shapes: list[bytes] = []
        self._at_s = 0.0

    def take(self, conditions: Sequence[node_pb2.HealthCondition], now_s: float) -> node_pb2.Conditions | None:
        """All of them where they are due: one has come, gone or changed, or its value has for a while."""
        shapes = [_shape(each) for each in conditions]
        if self._told is not None and shapes == self._shapes:
            stale = now_s - self._at_s >= CONDITIONS_EVERY_S
            if not stale or [_measured(each) for each in conditions] == [_measured(each) for each in self._told]:
                return None
        self._told, self._shapes, self._at_s = list(conditions), shapes, now_s
        return node_pb2.Conditions(all=conditions)


def of_jobs(
    conditions: Sequence[node_pb2.HealthCondition], run_ids: Collection[str]
) -> Iterator[node_pb2.HealthCondition]:
    """The node's conditions for a user who is told of these jobs only."""
    for each in conditions:
        if each.run_id in run_ids:
            yield each
        else:
            bare = node_pb2.HealthCondition()
            bare.CopyFrom(each)
            bare.ClearField("run_id")
            bare.ClearField("ranks")
            yield bare


def _shape(condition: node_pb2.HealthCondition) -> bytes:
    """All that makes it another condition: not its age, its measured value and its words."""
    bare = node_pb2.HealthCondition()
    bare.CopyFrom(condition)
    for name in ("age_s", "value", "message"):
        bare.ClearField(name)
    return bare.SerializeToString(deterministic=True)


def _measured(condition: node_pb2.HealthCondition) -> tuple[float, str]:
    return condition.value, condition.message


def _line(text: str, length: int) -> str:
    """One printable line: a kernel log holds what devices and users put there, and it ends up in a terminal."""
    return "".join(each if each.isprintable() else " " for each in text[:length])
