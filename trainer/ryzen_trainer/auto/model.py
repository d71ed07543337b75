"""One outermost model: its calls, from which sections, tokens, loss and FLOPs follow.

A call counts where it trains: gradients are on and the module is in training mode. The end of its backward is known
from autograd itself: a hook on the result hears of the beginning, and asks the engine to be called at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ryzen_trainer.auto import roots
from ryzen_trainer.auto.later import Later
from ryzen_trainer.auto.quiet import quietly
from ryzen_trainer.auto.seen import Size, differentiable_in, has_embedding, loss_in, size_of
from ryzen_trainer.run import Run
from ryzen_trainer.throughput.counting import ForwardCount, training_flops
from ryzen_trainer.throughput.device import peak_of

MODELS_MAX = 4
COUNTED_CALL = 2
"""The first call that is seen may allocate and warm up; the second is counted."""


class Figures(NamedTuple):
    """Of the calls since the last ones were taken."""

    tokens: int
    samples: int
    flops: float
    loss: float | None


def models_of(optimizer: Optimizer, run: Run, give_up: Callable[[], None]) -> list[Model]:
    """The outermost models that it trains; those that are compiled as a whole are left alone."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    found = [each for each in roots.outermost(parameters) if not roots.is_compiled(each)]
    return [Model(each, run, give_up) for each in found[:MODELS_MAX]]


class Model:
    """Speaks until `let_go`; `give_up` is called where something goes wrong here."""

    def __init__(self, module: nn.Module, run: Run, give_up: Callable[[], None]) -> None:
        self.around = ""
        """The section that a call lies in."""
        self._run = run
        self._has_embedding = has_embedding(module)
        self._calls = 0
        self._tokens = self._samples = 0
        self._flops = 0.0
        self._flops_per_token = self._flops_per_call = 0.0
        self._size = Size()
        self._count: ForwardCount | None = None
        self._loss = Later()
        self._has_loss = False
        self._give_up = give_up
        self._handles = roots.hook(module, quietly(self._before, give_up), quietly(self._after, give_up))

    def take(self) -> Figures:
        """What the calls since the last time came to."""
        found = Figures(self._tokens, self._samples, self._flops, self._loss.newest() if self._has_loss else None)
        self._tokens = self._samples = 0
        self._flops = 0.0
        return found

    def let_go(self) -> None:
        """Neither hooks nor a count stay behind."""
        self._leave_count()
        for each in self._handles:
            each.remove()

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not (module.training and torch.is_grad_enabled()):
            return
        self._run.now_in("forward")
        self._calls += 1
        self._size = size_of((args, kwargs), self._has_embedding)
        if self._calls == COUNTED_CALL and not roots.has_compiled_anything():
            self._count = ForwardCount()
            self._count.__enter__()  # type: ignore[no-untyped-call]

    def _after(self, module: nn.Module, _args: Any, result: Any) -> None:
        count = self._leave_count()
        if not (module.training and torch.is_grad_enabled()):
            return
        if count is not None:
            self._learn_worth(module, count)
        self._run.now_in(self.around)
        self._tokens += self._size.tokens
        self._samples += self._size.samples
        self._flops += self._flops_per_token * self._size.tokens or self._flops_per_call
        loss = loss_in(result)
        if loss is not None:
            self._has_loss = True
            self._loss.put(loss)
        begun_at = differentiable_in(result)
        if begun_at is not None:
            begun_at.register_hook(quietly(self._backward_begins, self._give_up))  # type: ignore[no-untyped-call]

    def _backward_begins(self, _gradient: Tensor) -> None:
        self._run.now_in("backward")
        _at_end_of_backward(quietly(self._before_last, self._give_up))

    def _before_last(self) -> None:
        """DDP waits for its sums in such a call too, which was asked for after ours."""
        _at_end_of_backward(quietly(self._backward_ends, self._give_up))

    def _backward_ends(self) -> None:
        self._run.now_in(self.around)

    def _leave_count(self) -> ForwardCount | None:
        count, self._count = self._count, None
        if count is not None:
            count.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        return count

    def _learn_worth(self, module: nn.Module, count: ForwardCount) -> None:
        flops = training_flops(count, module)
        if self._size.tokens:
            self._flops_per_token = flops / self._size.tokens
        else:
            self._flops_per_call = flops
        if flops and count.dtype is not None:
            device = next((each.device for each in module.parameters()), torch.device("cpu"))
            self._run.measures(peak_flops=peak_of(device, count.dtype))


def _at_end_of_backward(call: Callable[[], None]) -> None:
    engine: Any = torch.autograd.Variable._execution_engine  # as DDP and FSDP do it
    engine.queue_callback(call)
