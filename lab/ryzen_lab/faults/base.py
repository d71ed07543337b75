"""What every kind of fault has: whom it strikes, whether training must be interrupted by it, how it is done."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from ryzen_lab.cluster import Cluster, Node
from ryzen_lab.record import Injection, Rank


class Target(Enum):
    RANK = "rank"
    NODE = "node"
    CONTROL = "control"


@dataclass(frozen=True)
class Aim:
    """Whom to strike: a rank and its node, or a node; neither for the coordinator."""

    chance: random.Random
    rank: Rank | None = None
    node: Node | None = None
    chosen: bool = False
    """The user named it; else a kind that needs a rank of some sort may take another one."""


class Fault(ABC):
    """One kind. Instances live for one trial."""

    kind: ClassVar[str]
    target: ClassVar[Target]
    interrupts: bool = True
    """Whether training must stop and go on from a checkpoint; if not, the death of any rank is a false action."""
    return_after_s: ClassVar[float | None] = None
    """When what was killed comes back, unless the user says otherwise. None: never."""
    needs_agent: ClassVar[bool] = False
    """Without an agent nobody would notice."""
    needs_driver: ClassVar[bool] = False
    """Every node needs the mock GPU driver (mock_nvml), and with it a C compiler is needed here."""
    moment: str = ""
    """Of the recovery from another fault (moments.py); empty: at the step that was asked for."""

    @abstractmethod
    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        """Do it, and tell when it was done (CLOCK_MONOTONIC, right before it struck)."""

    async def go_on(self, cluster: Cluster, aim: Aim) -> None:  # noqa: B027 - most kinds are done at once
        """What is left to do after the injection, beside the trial. Ended with it."""

    async def bring_back(self, cluster: Cluster, aim: Aim) -> None:  # noqa: B027 - most kinds have nothing to bring
        """Start again what was killed."""

    def done(self, cluster: Cluster, aim: Aim, pids: list[int], at_ns: int | None = None, where: str = "") -> Injection:
        """The record of it."""
        rank, node = aim.rank, aim.node
        return Injection(
            kind=self.kind,
            at_ns=at_ns if at_ns is not None else time.monotonic_ns(),
            at_step=cluster.observer.record.step(),
            interrupts=self.interrupts,
            rank=rank.rank if rank is not None else None,
            node=rank.node if rank is not None else node.name if node is not None else None,
            pids=pids,
            where=where,
        )
