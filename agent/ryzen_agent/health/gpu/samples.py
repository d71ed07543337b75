"""A GPU's reading as samples, under OpenTelemetry's names where it has one (semantic conventions 1.44, `hw.*`), else
under `ryzen.gpu.*`. `hw.id` is the UUID, the same string that DCGM's exporter uses, so that series join.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ryzen_agent.health.gpu.reading import REASONS, GpuReading
from ryzen_agent.health.model import Condition, Sample

Attributes: TypeAlias = tuple[tuple[str, str], ...]

STATES = ("ok", "degraded", "failed")
"""Of `hw.status`: nothing said; a warning; something critical."""


def samples(reading: GpuReading, conditions: tuple[Condition, ...], vendor: str, reasons_met: int) -> list[Sample]:
    """All of one GPU. `conditions` are those of the node; `reasons_met`: clock event reasons that it has had so far.

    Model, vendor and PCI address stand in `ryzen.gpu.info` alone, and `hw.type` where the conventions ask for it: an
    export checks and encodes each attribute of each series anew, and a GPU has some fifty. A reason that its clocks
    were never held back for has no series either.
    """
    identity = reading.identity
    device = identity.uuid or f"GPU {identity.index}"
    base: Attributes = (("hw.id", device), ("hw.name", f"GPU {identity.index}"))
    typed: Attributes = (*base, ("hw.type", "gpu"))
    told = (("hw.model", identity.model), ("hw.vendor", vendor), ("ryzen.gpu.pci", identity.pci))
    found = [Sample("ryzen.gpu.info", 1.0, (*base, *((name, value) for name, value in told if value)))]
    figures = (*((name, value, ()) for name, value in _plain(reading)), *_told_apart(reading, reasons_met))
    found += [
        Sample(name, float(value), (*(typed if name.startswith("hw.") else base), *extra))
        for name, value, extra in figures
        if value is not None
    ]
    severities = {each.severity for each in conditions if each.device == device}
    now = "failed" if "critical" in severities else "degraded" if "warning" in severities else "ok"
    found += [Sample("hw.status", float(state == now), (*typed, ("hw.state", state))) for state in STATES]
    return found


def _plain(reading: GpuReading) -> Iterator[tuple[str, float | None]]:
    yield "hw.gpu.utilization", reading.utilization
    yield "hw.gpu.memory.usage", reading.memory_used
    yield "hw.gpu.memory.limit", reading.memory_total
    yield "hw.power", reading.power_w
    yield "hw.energy", reading.energy_j
    yield "ryzen.gpu.power.limit", reading.power_limit_w
    yield "ryzen.gpu.temperature.margin", reading.margin_c
    yield "ryzen.gpu.retired_pages", reading.retired_pages
    yield "ryzen.gpu.pcie.width", reading.pcie_width
    yield "ryzen.gpu.pcie.generation", reading.pcie_generation
    yield "ryzen.gpu.pcie.replays", reading.pcie_replays
    yield "ryzen.gpu.recovery_action", reading.recovery_action
    yield "ryzen.gpu.mig", reading.mig
    yield "ryzen.gpu.persistence", reading.persistence
    yield "ryzen.gpu.processes", len(reading.processes)
    yield "ryzen.gpu.sram.threshold_exceeded", reading.sram_threshold
    if reading.rows is not None:
        yield "ryzen.gpu.rows.pending", reading.rows.pending
        yield "ryzen.gpu.rows.failed", reading.rows.failed
    if reading.fabric is not None and reading.fabric.state:
        yield "ryzen.gpu.fabric.state", reading.fabric.state
    if reading.links:
        yield "ryzen.gpu.nvlink.active", sum(reading.links.values())


def _told_apart(reading: GpuReading, reasons_met: int) -> Iterator[tuple[str, float | None, Attributes]]:
    identity, ecc = reading.identity, reading.ecc
    for location, value in (("gpu", reading.temperature_c), ("memory", reading.memory_temperature_c)):
        yield "hw.temperature", value, (("hw.sensor_location", location),)
    for location, kind, value in (
        ("gpu", "high.critical", identity.shutdown_c),
        ("gpu", "high.slowdown", identity.slowdown_c),
        ("gpu", "high.degraded", identity.gpu_max_c),
        ("memory", "high.degraded", identity.memory_max_c),
    ):
        yield "hw.temperature.limit", value, (("hw.sensor_location", location), ("hw.limit_type", kind))
    for kind, since_load, ever in (
        ("corrected", ecc.corrected, ecc.corrected_ever),
        ("uncorrected", ecc.uncorrected, ecc.uncorrected_ever),
    ):
        yield "hw.errors", since_load, (("error.type", kind),)
        yield "ryzen.gpu.ecc.lifetime", ever, (("error.type", kind),)
    for kind, count in reading.link_errors.items():
        yield "hw.errors", count, (("error.type", f"nvlink.{kind}"),)
    if reading.rows is not None:
        for kind, rows in (("corrected", reading.rows.corrected), ("uncorrected", reading.rows.uncorrected)):
            yield "ryzen.gpu.rows.remapped", rows, (("error.type", kind),)
    if reading.reasons is not None:
        for bit, reason in REASONS.items():
            if reasons_met & bit:
                yield "ryzen.gpu.clock.event_reason", bool(reading.reasons & bit), (("ryzen.reason", reason),)
