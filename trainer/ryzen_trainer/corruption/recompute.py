"""`RecomputeCheck`: with activation checkpointing each segment is computed twice on one device; both must be equal.

    check = RecomputeCheck(run)
    ...
    x = checkpoint(check.segment(block), x, use_reentrant=False)      # torch.utils.checkpoint
    ...
    check.step()                        # at the end of every step

The output of the segment is digested in the forward, and again where the backward computes it a second time. A
difference needs no peers: this rank has contradicted itself. One of `every` calls of a segment is compared, another one
each step, so that in `every` steps each has been.

torch ends a recomputation as soon as it has what the backward needs, mostly before the segment's last operation. A
segment that is compared is recomputed to its end, by an identity that asks for its output; that, not the digest, is
what it costs.

Sees: anything that came out otherwise one of the two times and changed the segment's output.
Does not see: what lies outside checkpointed segments; what is rounded away before the output; the backward; a device
that is wrong in the same way each time; segments that another call of torch.compile has swallowed.
Needs kernels that give the same bits each time, and checkpoint's `preserve_rng_state` where there is dropout. Without,
it differs from the first comparisons on, which the coordinator takes for no fault (self_checks.py there).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ryzen_protos.beat_self_checks import RECOMPUTE
from ryzen_trainer.corruption.arriving import Arriving
from ryzen_trainer.corruption.digest import digest_on_device
from ryzen_trainer.corruption.own_record import OwnRecord
from ryzen_trainer.run import Run

EVERY = 80
"""Calls of segments of which one is compared. docs/corruption.md has the cost that this follows from."""


class RecomputeCheck:
    """One object a training loop. Without an agent its segments are the functions that they were given."""

    def __init__(self, run: Run, *, every: int = EVERY) -> None:
        """`every`: of so many segments one is compared, 0 for none. Raises ValueError if it is negative."""
        if every < 0:
            raise ValueError(f"every must be 0 or more, not {every}")
        self.record = OwnRecord(run, RECOMPUTE, "a checkpointed segment's output differs from itself")
        self._on = bool(every) and run.attached
        self._run, self._every = run, every
        self._calls = self._steps = 0
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._pending: tuple[int, Arriving] | None = None

    def segment(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What to give to `checkpoint` in the place of `function`, made anew for each call of it."""
        if not self._on or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return function
        self._calls += 1
        if (self._calls + self._steps) % self._every:
            return function
        return _Segment(function, self._pairs)

    def step(self) -> None:
        """The backward of the running step is done."""
        if not self._on:
            return
        self._publish()
        self._calls = 0
        self._steps += 1
        if self._pairs and self._pending is None:
            one, other = zip(*self._pairs, strict=True)
            differ = (torch.stack(one) != torch.stack(other)).sum()
            self._pending = self._run.number + 1, Arriving(differ)
            self._publish()
        self._pairs.clear()

    def _publish(self) -> None:
        if self._pending is not None and self._pending[1].arrived():
            done, differ = self._pending
            self._pending = None
            self.record.take(done, not differ.number())
            self._on = not self.record.over


class _Segment:
    """The first call is the forward's, later ones are recomputations of it."""

    def __init__(self, function: Callable[..., Any], pairs: list[tuple[Tensor, Tensor]]) -> None:
        self._function, self._pairs = function, pairs
        self._first: Tensor | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        out = self._function(*arguments, **named)
        tensors = [each for each in (out if isinstance(out, tuple) else (out,)) if isinstance(each, Tensor)]
        with torch.no_grad():
            digest = digest_on_device(tensors)
        if self._first is None:
            self._first = digest
        else:
            self._pairs.append((self._first, digest))
        return tuple(_wanted(each) for each in out) if isinstance(out, tuple) else _wanted(out)


def _wanted(out: Any) -> Any:
    if isinstance(out, Tensor) and out.requires_grad:
        return _Wanted.apply(out)  # type: ignore[no-untyped-call]
    return out


class _Wanted(torch.autograd.Function):
    """The identity, with an output that the backward asks for."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x.clone()  # not a view of it, which the script could not change in place

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        context.saved_tensors  # noqa: B018 - asking is what it is for
        return gradients[0]
