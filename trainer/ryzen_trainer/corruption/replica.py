"""`ReplicaCheck`: data-parallel replicas must hold the same parameters, bit for bit, after every optimizer step.

    check = ReplicaCheck(model, run)
    ...
    optimizer.step()
    check.step()             # at the end of every step; every `every`-th of them is checked

Each rank digests its own parameters where they lie (digest.py) and writes 64 bits into its beat page: no tensor is
gathered and no collective is added. The agent carries the digests, the coordinator compares those of one step.

Sees: a wrong bit in a parameter, or in what became of one: a gradient after the sum over the ranks, the optimizer's
arithmetic. Within `every` steps. With three replicas or more it is known which one is wrong.
Does not see: what is wrong before the sum (all ranks get the same wrong mean), what changes no parameter, an optimizer
state that has changed no parameter yet.

With DTensor parameters the replicas are the ranks that hold the same shard. A mesh without a replicated dimension
(plain FSDP2) has none: then the check says so once and does nothing.

On a GPU the digest is copied without waiting and written down at a later step, when it has arrived.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from ryzen_trainer.corruption.digest import as_unsigned, digest_on_device
from ryzen_trainer.run import Run

log = logging.getLogger(__name__)

EVERY = 20
"""Steps between two checks. docs/corruption.md has the cost that this follows from."""


@dataclass
class _Pending:
    """A digest on its way from the device."""

    done: int
    value: Tensor
    arrived: Any  # torch.cuda.Event


class ReplicaCheck:
    """One object a training loop. Without an agent, or with nothing to compare, its calls do nothing."""

    def __init__(self, parameters: nn.Module | Iterable[Tensor], run: Run, *, every: int = EVERY) -> None:
        """`every`: steps between two checks, 0 for none. Raises ValueError if it is negative."""
        if every < 0:
            raise ValueError(f"every must be 0 or more, not {every}")
        found = list(parameters.parameters() if isinstance(parameters, nn.Module) else parameters)
        self.why_not = "" if every and run.attached else "it is switched off, or there is no agent"
        self._run, self._every = run, every
        self._group = 0
        self._pending: _Pending | None = None
        if not self.why_not:
            self._group, self.why_not = _group_of(found)
            if self.why_not:
                log.warning("no replica check: %s", self.why_not)
        self._parameters = found
        self._begun = self._suspicious = False

    def suspect(self) -> None:
        """Something is odd on all ranks alike: the running step is checked, too.

        For `on_skip` of a gradient guard, which skips everywhere: a weight that became huge leaves no rank a gradient,
        and is named before all go back.
        """
        self._suspicious = True

    def step(self) -> None:
        """The optimizer's step of the running step is done. The first call checks, and then every `every`-th step."""
        if self.why_not:
            return
        self._publish()
        done = self._run.number + 1
        if done % self._every and self._begun and not self._suspicious:
            return
        self._begun, self._suspicious = True, False
        self._check(done)

    def _check(self, done: int) -> None:
        tensors = [each.to_local() if isinstance(each, DTensor) else each for each in self._parameters]
        value = digest_on_device(tensors)
        if value.device.type != "cuda":
            self._run.checked(done, as_unsigned(int(value)), self._group)
        elif self._pending is None:  # else the one before has not arrived yet, and is enough
            host = torch.empty((), dtype=torch.int64, pin_memory=True)
            host.copy_(value, non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
            self._pending = _Pending(done, host, arrived)

    def _publish(self) -> None:
        pending = self._pending
        if pending is not None and pending.arrived.query():
            self._pending = None
            self._run.checked(pending.done, as_unsigned(int(pending.value)), self._group)


def _group_of(parameters: list[Tensor]) -> tuple[int, str]:
    """Number of the shard that this rank holds, the same on all of its replicas; and why there are none, or ""."""
    sharded = [each for each in parameters if isinstance(each, DTensor)]
    if len({each.device for each in parameters}) > 1:
        return 0, "parameters lie on several devices"
    if not sharded:
        return 0, "" if parameters else "there are no parameters"
    meshes = {each.device_mesh for each in sharded}
    layouts = {tuple(isinstance(one, Replicate) for one in each.placements) for each in sharded}
    if len(sharded) < len(parameters) or len(meshes) > 1 or len(layouts) > 1:
        return 0, "parameters are sharded in several ways"
    mesh, replicated = meshes.pop(), layouts.pop()
    if not any(size > 1 for size, same in zip(mesh.shape, replicated, strict=True) if same):
        return 0, "every rank holds a shard of its own: there are no replicas"
    place = mesh.get_coordinate()
    if place is None:
        return 0, "this rank is not in the mesh of the parameters"
    group = 0
    for coordinate, size, same in zip(place, mesh.shape, replicated, strict=True):
        group = group if same else group * size + coordinate
    return group, ""
