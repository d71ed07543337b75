"""What looks like a fault and is none: training must go on by itself, with every rank."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ryzen_lab.cluster import Cluster
from ryzen_lab.errors import LabError, NeverHappened
from ryzen_lab.faults.base import Aim, Fault, Target
from ryzen_lab.faults.injected import Ordered
from ryzen_lab.record import Injection

PAUSE_S = 30.0
AGAIN_AFTER_S = 5.0
_AGAIN_PART = 0.25
"""Of the steps that are left then: a short run is not to be over before its second pause."""


class Pause(Ordered):
    """An unnamed evaluation on rank 0 for 30 s; 5 s later, or after a quarter of the steps left, on all ranks."""

    kind = "pause"
    interrupts = False

    def order(self, aim: Aim) -> dict[str, Any]:  # noqa: ARG002 - nothing to choose
        return {"do": "pause", "seconds": PAUSE_S}

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        first = cluster.observer.record.current().get(0)
        if first is None:
            raise LabError("rank 0 is not alive at the moment of the pause")
        cluster.observer.order(first, **self.order(aim))
        return await self.struck(cluster, aim, [first])

    async def go_on(self, cluster: Cluster, aim: Aim) -> None:
        observer, record = cluster.observer, cluster.observer.record
        rank = record.current().get(0)
        if rank is None:
            return
        await observer.until("the end of the pause", lambda: rank.resumed_ns is not None, 10 * PAUSE_S)
        again = record.step() + max(1, int((cluster.layout.steps - record.step()) * _AGAIN_PART))
        with contextlib.suppress(NeverHappened):
            await observer.until("steps between two pauses", lambda: record.step() >= again, AGAIN_AFTER_S)
        for each in record.current().values():
            observer.order(each, **self.order(aim))


class Partition(Fault):
    """The network between an agent and the coordinator swallows everything, both ways, and closes nothing.

    When it is back the connections from before are reset, as a firewall does that has lost its state.
    """

    kind = "partition"
    target = Target.NODE
    interrupts = False
    return_after_s = 3.0

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        if aim.node is None or aim.node.relay is None:
            raise LabError("partition needs a node with a relay")
        injection = self.done(cluster, aim, [])
        aim.node.relay.cut()
        return injection

    async def bring_back(self, cluster: Cluster, aim: Aim) -> None:  # noqa: ARG002 - the relay is the node's
        if aim.node is not None and aim.node.relay is not None:
            aim.node.relay.heal()
            await asyncio.sleep(0)
