"""The GPUs of a node over time: readings in, conditions out. The same for every vendor's driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ryzen_agent.health.gpu import access
from ryzen_agent.health.gpu.history import History, Look
from ryzen_agent.health.gpu.reading import GpuReading
from ryzen_agent.health.gpu.rules import Subject, heat, judge, links
from ryzen_agent.health.model import Condition


@dataclass(slots=True)
class Panel:
    """Remembers by UUID: a GPU that is replaced begins anew."""

    _histories: dict[str, History] = field(default_factory=dict)

    def judge(self, readings: Sequence[GpuReading]) -> tuple[Condition, ...]:
        """Conditions of all GPUs, from one look at each."""
        said: list[Condition] = []
        for reading in readings:
            identity = reading.identity
            peers = tuple(
                each for each in readings
                if each is not reading and identity.model and each.identity.model == identity.model
            )  # fmt: skip
            history = self._histories.setdefault(identity.uuid or str(identity.index), History())
            history.add(_look(reading, history, peers), reading)
            said.extend(judge(Subject(reading, history, peers)))
        return tuple(said)


def _look(reading: GpuReading, history: History, peers: tuple[GpuReading, ...]) -> Look:
    return Look(
        at_s=reading.at_s,
        temperature_c=reading.temperature_c,
        throttling=reading.throttling,
        busy=reading.busy,
        above_maximum=bool(heat.above_maximum(reading)),
        above_peers=heat.above_peers(reading, peers) is not None,
        links_down=links.links_down(reading, history.links_seen_active, peers),
        link_errors=sum(reading.link_errors.values()) if reading.link_errors else None,
        pcie_replays=reading.pcie_replays,
        slow_pcie=links.slow_pcie(reading),
        fabric_incomplete=links.fabric_incomplete(reading.fabric),
        unknown=len(reading.grave.get(access.UNKNOWN, ())),
    )
