"""A lower power limit for a GPU that throttles for heat: a slower GPU costs less than a lost node. Off by default.

It goes back up when the GPU has been well for ten minutes, and when the agent ends. What was lowered is also kept in a
file, so that an agent that was killed puts it back when it comes again. Changing a limit needs root; a refusal is one
line among the conditions, and training goes on as it would have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ryzen_agent.health.gpu.reading import HARDWARE_SLOWDOWN, HARDWARE_THERMAL, SOFTWARE_THERMAL, GpuReading
from ryzen_agent.health.gpu.rules.beside import CAPPED, REFUSED
from ryzen_agent.health.gpu.rules.rule import Kind
from ryzen_agent.health.model import Condition

THERMAL = HARDWARE_SLOWDOWN | SOFTWARE_THERMAL | HARDWARE_THERMAL
WELL_S = 600.0
"""So long without throttling before the limit goes back up: sooner and it would go up and down with the load."""


SetLimit = Callable[[int, float], str]
"""(index of a GPU, watts) -> "" or why it cannot be."""


class PowerCaps:
    """Which GPUs' limits this agent has lowered, and from what."""

    def __init__(self, share: float | None, folder: Path | None, vendor: str, set_limit: SetLimit) -> None:
        """`share` of the default limit, None: never lower, only put back. `folder` where it is kept, None: nowhere."""
        self._share = share
        self._path = folder / file_name(vendor) if folder is not None else None
        self._set_limit = set_limit
        self._lowered = self._read()  # UUID -> watts before
        self._throttled_at_s: dict[str, float] = {}
        self._indices: dict[str, int] = {}

    def act(self, readings: Sequence[GpuReading], conditions: Sequence[Condition]) -> tuple[Condition, ...]:
        """Lower, put back, and say what is lowered or was refused."""
        throttled = {each.device for each in conditions if each.name == "gpu.throttled"}
        said = []
        for reading in readings:
            uuid = reading.identity.uuid
            if not uuid or reading.power_limit_w is None:
                continue
            self._indices[uuid] = reading.identity.index
            if reading.throttling & THERMAL and uuid in throttled:
                self._throttled_at_s[uuid] = reading.at_s
            condition = self._lower(reading) if self._throttled_at_s.get(uuid) == reading.at_s else None
            if uuid in self._lowered and self._is_well(reading):
                self._put_back(uuid)
            if condition is None and uuid in self._lowered:
                condition = _said(reading, CAPPED, "its power limit is lowered for heat",
                                  reading.power_limit_w, self._lowered[uuid])  # fmt: skip
            if condition is not None:
                said.append(condition)
        return tuple(said)

    def close(self) -> None:
        """Put everything back."""
        for uuid in list(self._lowered):
            self._put_back(uuid)

    def _lower(self, reading: GpuReading) -> Condition | None:
        identity, now_w = reading.identity, reading.power_limit_w
        default_w = identity.default_power_limit_w
        if self._share is None or default_w is None or now_w is None or identity.uuid in self._lowered:
            return None
        wanted_w = self._share * default_w
        if identity.power_limits_w is not None:
            wanted_w = max(wanted_w, identity.power_limits_w[0])
        if wanted_w >= now_w:
            return None
        # Written down before it is done: an agent that is killed in between still knows.
        refused = self._keep({**self._lowered, identity.uuid: now_w}) or self._set_limit(identity.index, wanted_w)
        if not refused:
            return None
        self._keep({uuid: watts for uuid, watts in self._lowered.items() if uuid != identity.uuid})
        message = f"its power limit cannot be lowered to {wanted_w:.0f} W: {refused} (it takes root)"
        return _said(reading, REFUSED, message, now_w, wanted_w)

    def _is_well(self, reading: GpuReading) -> bool:
        if self._share is None:
            return True
        uuid = reading.identity.uuid
        return reading.at_s - self._throttled_at_s.setdefault(uuid, reading.at_s) >= WELL_S

    def _put_back(self, uuid: str) -> None:
        """A GPU that is gone, or a refusal, leaves it lowered: the next agent tries again."""
        index = self._indices.get(uuid)
        if index is not None and not self._set_limit(index, self._lowered[uuid]):
            self._keep({each: watts for each, watts in self._lowered.items() if each != uuid})

    def _keep(self, lowered: dict[str, float]) -> str:
        """Remember, here and on disk. "" or why the disk does not take it."""
        self._lowered = lowered
        if self._path is None:
            return ""
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            with aside.open("w") as file:
                json.dump(lowered, file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self._path)
        except OSError as error:
            return f"{self._path} cannot be written ({error.strerror})"
        return ""

    def _read(self) -> dict[str, float]:
        """Nothing where there is no file, or one that does not say watts of GPUs."""
        if self._path is None:
            return {}
        try:
            kept = json.loads(self._path.read_text())
            return {str(uuid): float(watts) for uuid, watts in dict(kept).items() if 0 < float(watts) < 10_000}
        except (OSError, ValueError, TypeError):
            return {}


def file_name(vendor: str) -> str:
    """In the state folder: one for each vendor, whose collectors know nothing of each other."""
    return f"power-limits-{vendor.lower()}.json"


def _said(reading: GpuReading, kind: Kind, message: str, value: float, limit: float) -> Condition:
    identity = reading.identity
    text = f"GPU {identity.index}: {message}"
    return Condition(kind.name, text, identity.uuid, kind.severity, kind.action, identity.pci, value, limit)
