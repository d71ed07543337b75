"""One look at all GPUs of a driver, whoever made it: read, judge, perhaps lower a power limit, measure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from ryzen_agent.health.gpu.panel import Panel
from ryzen_agent.health.gpu.power_cap import PowerCaps
from ryzen_agent.health.gpu.reading import GpuReading
from ryzen_agent.health.gpu.samples import samples
from ryzen_agent.health.model import Reading
from ryzen_agent.health.settings import HealthSettings


class Gpu(Protocol):
    """A GPU that can be read."""

    def read(self, now_s: float) -> GpuReading: ...

    def set_power_limit(self, watts: float) -> str: ...


class Looks:
    """Remembers from look to look."""

    def __init__(self, settings: HealthSettings, vendor: str) -> None:
        self._vendor = vendor
        self._gpus: Sequence[Gpu] = ()
        self._panel = Panel()
        self._reasons: dict[str, int] = {}
        self._caps = PowerCaps(settings.power_cap_share, settings.state_folder, vendor, self._set_power_limit)

    def look(self, gpus: Sequence[Gpu]) -> Reading:
        """At each of them, in their order."""
        self._gpus = gpus
        readings = [gpu.read(time.monotonic()) for gpu in gpus]
        conditions = self._panel.judge(readings)
        conditions += self._caps.act(readings, conditions)
        found = []
        for reading in readings:
            uuid = reading.identity.uuid
            self._reasons[uuid] = self._reasons.get(uuid, 0) | (reading.reasons or 0)
            found += samples(reading, conditions, self._vendor, self._reasons[uuid])
        met = [each.identity for each in readings if each.identity.uuid]
        return Reading(
            conditions,
            samples=tuple(found),
            devices=tuple((each.pci, each.uuid) for each in met),
            processes=tuple((pid, each.identity.uuid) for each in readings for pid in each.processes),
        )

    def close(self) -> None:
        """Put back the power limits that were lowered."""
        self._caps.close()

    def _set_power_limit(self, index: int, watts: float) -> str:
        return self._gpus[index].set_power_limit(watts)
