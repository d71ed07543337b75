"""`GradientGuard`: clips unusual gradients, skips the step of a spike, and asks for a rollback when that goes on.

    guard = GradientGuard(model, optimizer, run=run, max_norm=1.0)
    ...
    loss.backward()
    guard.step()             # in place of clip_grad_norm_ and optimizer.step(); False where the step was skipped
    optimizer.zero_grad()

When what is done is told in norms.py. The decision follows from the *global* gradient norm alone, which is the same
number on every rank, so that all decide alike and no collective is added:

    one process, DDP   gradients are averaged already when backward returns: the local norm is the global one
    FSDP2, DTensor     the total norm is a sharded number; reading it is the collective that clipping needs anyway
    anything else      pipeline stages, DeepSpeed, FSDP1: the local norm is not global: give `step(norm=...)`

On a GPU the norm must be read once a step, and that read waits for the backward: the one synchronisation that the
guard adds where a script would otherwise not read it. There is no way round it that is honest: a skip decided on the
device would scale the gradients by 0, and Adam with gradients of 0 still moves the weights by its momentum and decays
them.

Each skip is an event in the beat page; the agent tells the coordinator. After `limits.rollback_after` skips in a row
the guard asks for a rollback to a checkpoint from before the row, which the coordinator does once for a step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ryzen_trainer.norms import Judgement, Limits, Norms
from ryzen_trainer.run import Run

log = logging.getLogger(__name__)


class GradientGuard:
    """One object a training loop; its state belongs in the checkpoint (`Checkpointer(guard=...)`)."""

    def __init__(
        self,
        parameters: nn.Module | Iterable[Tensor],
        optimizer: Optimizer,
        *,
        run: Run | None = None,
        max_norm: float | None = None,
        limits: Limits | None = None,
        act: bool = True,
        on_skip: Callable[[], None] | None = None,
    ) -> None:
        """`max_norm`: the clip that the script would use; the guard never clips looser. `act=False`: only that clip is
        applied, and what the guard would do is said. `on_skip`: called at each step that is skipped, or would be;
        `StepReplay.suspect`, say. Raises ValueError for a `max_norm` that is not above 0."""
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm must be above 0, not {max_norm}")
        self.parameters = list(parameters.parameters() if isinstance(parameters, nn.Module) else parameters)
        self.optimizer = optimizer
        self.act = act
        self.norm: float = 0.0
        """Global gradient norm of the newest step, before clipping."""
        self._run, self._on_skip = run, on_skip
        self._norms = Norms(limits or Limits(), max_norm)
        self._row_began = 0

    @property
    def skipped(self) -> int:
        """Steps skipped so far, those before a resumption included."""
        return self._norms.skipped

    def step(self, norm: float | None = None) -> bool:
        """Clip, and do the optimizer's step unless it has to be skipped. True where it was done.

        `norm`: the global norm of the gradients, where the local one is not (see above); the same on all ranks.
        """
        if not self.clip(norm):
            return False
        self.optimizer.step()
        return True

    def clip(self, norm: float | None = None) -> bool:
        """The first half of `step`, for a script that does the optimizer's step itself; True where it should."""
        gradients = [each.grad for each in self.parameters if each.grad is not None]
        total = _total_norm(gradients) if norm is None else torch.tensor(norm)
        self.norm = float(total)
        limit = self._norms.clip_limit
        judgement = self._norms.judge(self.norm)
        if judgement != "step":
            self._report(judgement)
            if self.act:
                return False
        if not self.act:
            limit = self._norms.max_norm or float("inf")
        if limit != float("inf"):
            nn.utils.clip_grads_with_norm_(self.parameters, limit, total)
        return True

    def state_dict(self) -> dict[str, Any]:
        return self._norms.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError for what is no state of a guard."""
        self._norms.load(state_dict)

    def _report(self, judgement: Judgement) -> None:
        run, norms = self._run, self._norms
        step = run.number if run is not None else 0
        if norms.in_a_row == 1:
            self._row_began = step
        word = "skipped" if self.act else "would be skipped"
        why = "not finite" if judgement == "nonfinite" else f"above {norms.skip_limit:.4g}"
        log.warning("step %d %s: gradient norm %.4g is %s", step, word, self.norm, why)
        if self._on_skip is not None:
            self._on_skip()
        if run is None or not self.act:
            return
        run.step_skipped(nonfinite=judgement == "nonfinite")
        if norms.wants_rollback():
            run.ask_for_rollback(self._row_began)


def _total_norm(gradients: list[Tensor]) -> Tensor:
    """2-norm over all gradients, a plain tensor; for sharded ones the global norm, which is a collective."""
    total = nn.utils.get_total_norm(gradients)
    return total.full_tensor() if isinstance(total, DTensor) else total
