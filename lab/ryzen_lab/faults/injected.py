"""Faults done from inside a rank, by an order to the lab's hook. The script has no line for them."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from ryzen_lab.cluster import Cluster
from ryzen_lab.errors import LabError, NeverHappened
from ryzen_lab.faults.base import Aim, Fault, Target
from ryzen_lab.faults.signals import needed_rank
from ryzen_lab.record import Injection, Rank

_PLACES = ("before_step", "after_step", "forward")
_CALLS_MAX = 12
_STRUCK_S_MAX = 60.0


class Ordered(Fault):
    """What these have in common: the order, and the wait until the rank says that it is struck."""

    target = Target.RANK
    needs: ClassVar[str] = ""
    """What a script must have for it, in words for one that has not."""

    def order(self, aim: Aim) -> dict[str, Any]:
        """What the hook is told beside `do`."""
        raise NotImplementedError

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        rank = needed_rank(aim)
        cluster.observer.order(rank, **self.order(aim))
        return await self.struck(cluster, aim, [rank])

    async def struck(self, cluster: Cluster, aim: Aim, ranks: list[Rank]) -> Injection:
        """Wait until one of them is. Raises LabError where none can be any more."""

        def hit() -> list[Rank]:
            return [each for each in ranks if each.struck_ns is not None]

        def why_not() -> str:
            alive = any(each.died_ns is None for each in ranks)
            return "" if alive else "the rank has ended" + (f"; {self.needs}" if self.needs else "")

        try:
            await cluster.observer.until(
                f"the fault {self.kind} to strike", lambda: bool(hit()), _STRUCK_S_MAX, why_not
            )
        except NeverHappened as error:
            raise LabError(f"{error}; {self.needs}" if self.needs else str(error)) from None
        rank = hit()[0]
        return self.done(cluster, dataclasses.replace(aim, rank=rank), [rank.pid], rank.struck_ns, rank.struck_where)


class Exit(Ordered):
    """An exception of the script's own at a random place of a step: forward, before or after the optimizer."""

    kind = "exit"

    def order(self, aim: Aim) -> dict[str, Any]:
        return {"do": "raise", **_place(aim), "message": "injected by the lab"}


class Spin(Ordered):
    """A busy loop in Python: other threads of the rank still run."""

    kind = "spin"

    def order(self, aim: Aim) -> dict[str, Any]:
        return {"do": "spin", **_place(aim)}


class Gil(Ordered):
    """C code that never lets go of the interpreter's lock, asleep or busy: no Python thread of the rank runs again."""

    kind = "gil"

    def order(self, aim: Aim) -> dict[str, Any]:
        return {"do": "gil", **_place(aim), "how": aim.chance.choice(("wait", "spin"))}


class Backward(Ordered):
    """A gradient hook that never returns: step and section are those of the innocent ranks."""

    kind = "backward"

    def order(self, aim: Aim) -> dict[str, Any]:
        return {"do": "backward", "part": aim.chance.random(), "how": _how(aim)}


class Loader(Ordered):
    """The data loader never gives the next batch."""

    kind = "loader"

    def order(self, aim: Aim) -> dict[str, Any]:
        return {"do": "loader", "how": _how(aim)}


class Save(Ordered):
    """A save of a checkpoint never returns. Where only some ranks save, and none was named, one of those is struck."""

    kind = "save"
    needs = "it strikes torch.save and torch.distributed.checkpoint, where that rank uses them"

    def order(self, aim: Aim) -> dict[str, Any]:
        return {"do": "save", "how": _how(aim)}

    async def inject(self, cluster: Cluster, aim: Aim) -> Injection:
        current = cluster.observer.record.current()
        ranks = [needed_rank(aim)] if aim.chosen else list(current.values())
        claim = "" if aim.chosen else str(cluster.folder / f"claim-{len(cluster.observer.record.injections)}")
        order = self.order(aim)
        for rank in ranks:
            cluster.observer.order(rank, **order, claim=claim)
        return await self.struck(cluster, aim, ranks)


class Deadlock(Ordered):
    """A collective on a group of all ranks that nobody else enters."""

    kind = "deadlock"
    needs = "it needs a script that calls torch.distributed.init_process_group"

    def order(self, aim: Aim) -> dict[str, Any]:
        return {"do": "deadlock", **_place(aim)}


class Skip(Ordered):
    """One rank does not sum the gradients of one step: nothing hangs at first, everything after is wrong."""

    kind = "skip"
    needs = "it needs a script that wraps its model in DistributedDataParallel"

    def order(self, aim: Aim) -> dict[str, Any]:  # noqa: ARG002 - nothing to choose
        return {"do": "skip"}


def _place(aim: Aim) -> dict[str, Any]:
    return {"where": aim.chance.choice(_PLACES), "calls": aim.chance.randint(1, _CALLS_MAX)}


def _how(aim: Aim) -> str:
    return aim.chance.choice(("sleep", "lock"))
