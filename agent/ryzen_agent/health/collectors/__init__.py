"""Collectors, one a file, all of them in this list. Each look is contained: none knows of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ryzen_agent.health.collector import Collector
from ryzen_agent.health.collectors.kernel_log import KernelLog
from ryzen_agent.health.settings import HealthSettings

Maker: TypeAlias = Callable[[HealthSettings], Collector]

COLLECTORS: tuple[Maker, ...] = (KernelLog,)

__all__ = ["COLLECTORS", "Maker"]
