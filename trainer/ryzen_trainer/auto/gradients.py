"""The gradient guard's eyes without its hands: the norm after a step, now and then, and a line where it is unusual.

It costs one pass over the gradients. On a CPU that is timed, and done as seldom as keeps it below `SHARE` of the step;
on a GPU, where to time it would be to wait, every `GPU_EVERY` steps. Multiples of powers of two, so that ranks to which
it is differently dear have looked at the same steps. What a script clips has been clipped by then. Gradients of sharded
parameters are left alone: their norm is a collective.
"""

from __future__ import annotations

import logging
import math
from time import monotonic_ns

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ryzen_trainer.auto.later import Later
from ryzen_trainer.norms import Limits, Norms

log = logging.getLogger(__name__)

SHARE = 0.002
GPU_EVERY = 8


class Gradients:
    """Those of one optimizer."""

    def __init__(self) -> None:
        self._norms = Norms(Limits(rollback_after=0))
        self._later = Later()
        self._every = 1
        self._last: float | None = None
        self._stepped_ns = monotonic_ns()

    def after_step(self, optimizer: Optimizer, step: int) -> float | None:
        """The newest norm that is known; None while none is."""
        began_ns = monotonic_ns()
        step_ns, self._stepped_ns = began_ns - self._stepped_ns, began_ns
        if step % self._every == 0 and (norm := _norm(optimizer)) is not None:
            self._later.put(norm)
            took_ns = monotonic_ns() - began_ns
            self._every = GPU_EVERY if norm.is_cuda else _power_of_two(took_ns / (SHARE * max(step_ns, 1)))
        found = self._later.newest()
        if found is not None and found != self._last:
            self._judge(found, step)
        self._last = found
        return found

    def _judge(self, norm: float, step: int) -> None:
        if self._norms.judge(norm) != "step" and self._norms.in_a_row == 1:
            why = f"above {self._norms.skip_limit:.4g}" if math.isfinite(norm) else "not finite"
            log.warning("step %d or so: gradient norm %.4g is %s, a gradient guard would skip it", step, norm, why)


def _power_of_two(least: float) -> int:
    """The smallest that is not below `least`."""
    return 1 << max(0, math.ceil(math.log2(max(least, 1.0))))


def _norm(optimizer: Optimizer) -> Tensor | None:
    """2-norm over all gradients that this rank has whole; None where it has none such."""
    found = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
    if not found or any(type(each) is not Tensor or each.is_sparse for each in found):
        return None
    with torch.no_grad():
        return nn.utils.get_total_norm(found)
