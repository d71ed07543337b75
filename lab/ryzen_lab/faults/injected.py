"""Faults done from inside a rank, by an order to the lab's hook. The script has no line for them."""

from __future__ import annotations

from ryzen_lab.cluster import Cluster
from ryzen_lab.faults.base import Aim, Fault, Target
from ryzen_lab.faults.signals import needed_rank
from ryzen_lab.record import Injection

_PLACES = ("before_step", "after_step", "forward")
_CALLS_MAX = 12
_STRUCK_S_MAX = 30.0


class Exit(Fault):
    """An exception of the script's own at a random place of a step: forward, before or after the optimizer."""

    kind = "exit"
    target = Target.RANK

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        rank = needed_rank(aim)
        cluster.observer.order(
            rank,
            do="raise",
            where=aim.chance.choice(_PLACES),
            calls=aim.chance.randint(1, _CALLS_MAX),
            message="injected by the lab",
        )
        await cluster.observer.until(f"rank {rank.rank} to raise", lambda: rank.struck_ns is not None, _STRUCK_S_MAX)
        return self.done(cluster, aim, [rank.pid], rank.struck_ns)
