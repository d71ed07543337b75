"""Faults done from inside a rank, by an order to the lab's hook. The script has no line for them."""

from __future__ import annotations

import time

from ryzen_lab.cluster import Cluster
from ryzen_lab.faults.base import Aim, Fault, Target
from ryzen_lab.faults.signals import needed_rank
from ryzen_lab.record import Injection, Rank

_PLACES = ("before_step", "after_step", "forward")
_CALLS_MAX = 12
_STRUCK_S_MAX = 30.0


class Exit(Fault):
    """An exception of the script's own at a random place of a step: forward, before or after the optimizer."""

    kind = "exit"
    target = Target.RANK

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        rank = needed_rank(aim)
        struck: list[int] = []

        def listen(kind: str, subject: object) -> None:
            if kind == "fault" and isinstance(subject, Rank) and subject.pid == rank.pid:
                struck.append(time.monotonic_ns())

        cluster.observer.listeners.append(listen)
        cluster.observer.order(
            rank,
            do="raise",
            where=aim.chance.choice(_PLACES),
            calls=aim.chance.randint(1, _CALLS_MAX),
            message="injected by the lab",
        )
        await cluster.observer.until(f"rank {rank.rank} to raise", lambda: bool(struck), _STRUCK_S_MAX)
        cluster.observer.listeners.remove(listen)
        return self.done(cluster, aim, [rank.pid], struck[0])
