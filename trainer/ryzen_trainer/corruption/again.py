"""A forward and backward done once more, and the digest of its gradients. It leaves no trace: parameters, gradients,
buffers and random generators are as they were, DDP sums nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ryzen_trainer.checkpoint.random_state import RandomState
from ryzen_trainer.corruption.digest import bits, combined


def once_more(
    model: nn.Module, parameters: Sequence[Tensor], compute: Callable[[], Tensor], begin: Callable[[], None]
) -> Tensor:
    """The gradients' digest of backward(compute()), as `GradientDigest` has it. `begin`: puts random generators and
    buffers where they are to start from. Raises what `compute` and its backward raise, RuntimeError mostly.
    """
    after = State(model)
    try:
        with _alone(model), _gradients_aside(parameters), GradientDigest(parameters) as again:
            begin()
            torch.autograd.backward(compute())
    finally:
        after.restore()
    return again.value()


class GradientDigest:
    """Of what a backward gives each parameter, before it is added to what is there or summed over the ranks."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._sums: dict[int, Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> GradientDigest:
        self._handles = [
            each.register_hook(self._hook(place))  # type: ignore[no-untyped-call]
            for place, each in enumerate(self._parameters)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def value(self) -> Tensor:
        """A 0-dimensional int64 tensor on the device of the gradients; they must share one."""
        if not self._sums:
            return torch.zeros((), dtype=torch.int64)
        nothing = torch.zeros_like(next(iter(self._sums.values())))
        return combined(torch.stack([self._sums.get(place, nothing) for place in range(len(self._parameters))]))

    def _hook(self, place: int) -> Callable[[Tensor], None]:
        def digest(gradient: Tensor) -> None:
            with torch.no_grad():
                found = bits(gradient.detach())
                known = self._sums.get(place)  # from an earlier of several backwards within one
                self._sums[place] = found if known is None else known + found

        return digest


class State:
    """What a forward may read and change beside parameters: buffers and random generators, as they are now."""

    def __init__(self, model: nn.Module) -> None:
        self.random = RandomState.capture()
        self.buffers = [(each, each.detach().clone()) for each in model.buffers()]

    def restore(self) -> None:
        self.random.restore()
        with torch.no_grad():
            for buffer, value in self.buffers:
                buffer.copy_(value)


@contextmanager
def _gradients_aside(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Gradients of a backward in here are let go of one by one, and those from before are there again afterwards."""

    def let_go(parameter: Tensor) -> None:
        parameter.grad = None

    before = [each.grad for each in parameters]
    handles = [each.register_post_accumulate_grad_hook(let_go) for each in parameters]  # type: ignore[no-untyped-call]
    for each in parameters:
        each.grad = None
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for each, gradient in zip(parameters, before, strict=True):
            each.grad = gradient


@contextmanager
def _alone(model: nn.Module) -> Iterator[None]:
    """DDP sums nothing over the ranks in here, and does not send its buffers round."""
    if not isinstance(model, DistributedDataParallel):
        yield
        return
    sends_buffers = model.require_forward_param_sync
    model.require_forward_param_sync = False
    try:
        with _no_sync(model):
            yield
    finally:
        model.require_forward_param_sync = sends_buffers


def _no_sync(model: DistributedDataParallel) -> AbstractContextManager[None]:
    return model.no_sync() if model.require_backward_grad_sync else nullcontext()
