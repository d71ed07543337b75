"""Who is struck when: the faults of a trial, those of its moment and those of later moments."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from ryzen_lab.cluster import Cluster
from ryzen_lab.errors import LabError
from ryzen_lab.faults import Aim, Fault
from ryzen_lab.faults.base import Target
from ryzen_lab.moments import ENDING, LINGER_S, MOMENTS, victims
from ryzen_lab.record import Rank
from ryzen_lab.settings import TrialSettings


class Striker:
    """Does the faults of one trial. `struck` is filled in the order in which they were done."""

    def __init__(self, settings: TrialSettings, faults: list[Fault], chance: random.Random) -> None:
        self.settings = settings
        self.faults = faults
        self.chance = chance
        self.struck: list[dict[str, Any]] = []
        self._ranks = [int(each) for each in settings.fault_rank.split(",") if each]
        self._nodes = [each for each in settings.fault_node.split(",") if each]
        self._later: dict[Fault, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def at_once(self) -> list[Fault]:
        return [each for each in self.faults if not each.moment]

    def watch(self, cluster: Cluster) -> None:
        """Wait for the later moments from now on."""
        for fault in self.faults:
            if fault.moment:
                self._later[fault] = self._start(self._at_moment(cluster, fault))
        if any(each.moment == ENDING for each in self.faults):
            self._linger(cluster)

    async def strike(self, cluster: Cluster) -> None:
        """The faults that come together, in their order."""
        current = cluster.observer.record.current()
        aims = [(fault, self._aim(cluster, fault, current)) for fault in self.at_once]
        for fault, aim in aims:
            await self._inject(cluster, fault, aim)

    def finish(self) -> None:
        """The job is over. Raises LabError for a fault that could not be done, or whose moment never came."""
        for fault, task in self._later.items():
            if not task.done():
                raise LabError(f"the moment of {fault.kind}@{fault.moment} never came")
        for task in [*self._later.values(), *self._tasks]:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    # ------------------------------------------------------------ inside

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    async def _at_moment(self, cluster: Cluster, fault: Fault) -> None:
        record = cluster.observer.record
        come = MOMENTS[fault.moment]
        await cluster.observer.until(fault.moment, lambda: come(record), self.settings.timeout_s)
        ranks = {each.rank: each for each in victims(record, fault.moment)}
        await self._inject(cluster, fault, self._aim(cluster, fault, ranks))

    async def _inject(self, cluster: Cluster, fault: Fault, aim: Aim) -> None:
        injection = await fault.inject(cluster, aim)
        cluster.observer.injected(injection)
        self.struck.append(
            {
                "kind": f"{fault.kind}@{fault.moment}" if fault.moment else fault.kind,
                "rank": injection.rank,
                "node": injection.node,
                "at_step": injection.at_step,
                **({"where": injection.where} if injection.where else {}),
            }
        )
        self._start(fault.go_on(cluster, aim))
        after_s = self.settings.return_after if self.settings.return_after is not None else fault.return_after_s
        if after_s is not None:
            self._start(self._bring_back(cluster, fault, aim, after_s))

    def _aim(self, cluster: Cluster, fault: Fault, ranks: dict[int, Rank]) -> Aim:
        """Takes the victim out of `ranks`, for two faults at once strike two ranks."""
        if fault.target is Target.RANK:
            chosen = bool(self._ranks)
            number = self._ranks.pop(0) if chosen else self.chance.choice(sorted(ranks))
            if number not in ranks:
                raise LabError(f"rank {number} is not alive at the moment of the fault")
            return Aim(self.chance, rank=ranks.pop(number), chosen=chosen)
        if fault.target is Target.NODE:
            members = sorted({each.node for each in cluster.observer.record.current().values()} or {"node-0"})
            name = self._nodes.pop(0) if self._nodes else self.chance.choice(members)
            return Aim(self.chance, node=cluster.node(name if name.startswith("node-") else f"node-{name}"))
        return Aim(self.chance)

    async def _bring_back(self, cluster: Cluster, fault: Fault, aim: Aim, after_s: float) -> None:
        await asyncio.sleep(after_s)
        cluster.observer.returned(fault.kind, aim.node.name if aim.node else "")
        await fault.bring_back(cluster, aim)

    def _linger(self, cluster: Cluster) -> None:
        """The ranks of one node stay at their end; told to each new one as soon as it listens."""
        name = self.chance.choice(sorted({each.node for each in cluster.observer.record.alive()}))

        def tell(rank: Rank) -> None:
            if rank.node == name:
                cluster.observer.order(rank, do="linger", seconds=LINGER_S)

        def hear(kind: str, subject: object) -> None:
            if kind == "torch" and isinstance(subject, Rank):
                tell(subject)

        for rank in cluster.observer.record.alive():
            tell(rank)
        cluster.observer.listeners.append(hear)
