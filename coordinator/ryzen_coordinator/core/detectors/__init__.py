"""Detectors: pure functions from the state to suspicions, one a file, all of them in this list.

A detector changes nothing and decides nothing. It is called with the member that has just reported, or with
None when time alone has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ryzen_coordinator.core.detectors import corruption, desync, divergence, exits, node_loss, stall
from ryzen_coordinator.core.detectors.suspicion import Suspicion
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.state import Cluster, Job

Detector: TypeAlias = Callable[[Cluster, Job, Member | None], list[Suspicion]]

DETECTORS: tuple[tuple[str, Detector], ...] = (
    ("exits", exits.find),
    ("stall", stall.find),
    ("desync", desync.find),
    ("corruption", corruption.find),
    ("divergence", divergence.find),
    ("node_loss", node_loss.find),
)

__all__ = ["DETECTORS", "Detector", "Suspicion"]
