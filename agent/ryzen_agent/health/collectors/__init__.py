"""Collectors, one a file, all of them in this list. Each look is contained: none knows of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ryzen_agent.health.collector import Collector
from ryzen_agent.health.collectors.amd_gpu import AmdGpuCollector
from ryzen_agent.health.collectors.checkpoint import CheckpointCollector
from ryzen_agent.health.collectors.clock import ClockCollector
from ryzen_agent.health.collectors.gpu import GpuCollector
from ryzen_agent.health.collectors.gpu_count import GpuCountCollector
from ryzen_agent.health.collectors.gpu_events import GpuEventsCollector
from ryzen_agent.health.collectors.host import HostCollector
from ryzen_agent.health.collectors.infiniband import InfinibandCollector
from ryzen_agent.health.collectors.kernel_log import KernelLog
from ryzen_agent.health.collectors.memory import MemoryCollector
from ryzen_agent.health.collectors.network import NetworkCollector
from ryzen_agent.health.collectors.storage import StorageCollector
from ryzen_agent.health.settings import HealthSettings

Maker: TypeAlias = Callable[[HealthSettings], Collector]
"""Makes a collector in the agent's event loop: what may block is for `collect`."""

COLLECTORS: tuple[Maker, ...] = (
    KernelLog,
    GpuCollector,
    GpuEventsCollector,
    GpuCountCollector,
    AmdGpuCollector,
    InfinibandCollector,
    NetworkCollector,
    MemoryCollector,
    HostCollector,
    StorageCollector,
    CheckpointCollector,
    ClockCollector,
)

__all__ = ["COLLECTORS", "Maker"]
