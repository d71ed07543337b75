"""`StepReplay`: the gradient of a micro-batch, before it is summed over the ranks, and computed once more.

    replay = StepReplay(model, run)
    ...
    with replay.of(lambda: loss_of(model(inputs), targets)):
        loss = loss_of(model(inputs), targets)
        loss.backward()

A gradient that is wrong before the sum makes the same wrong mean on every rank, so no replica can see it. Here every
gradient of a parameter is digested as it comes out of the backward, and then the forward and backward are done again
from the same inputs, random numbers and buffers, without a sum over the ranks. A difference needs no peers: this rank
has contradicted itself.

A replay costs a forward and a backward, so only one micro-batch in `every` steps is replayed. On suspicion each of the
next `SUSPICION_STEPS` is: after `suspect()`, which a guard calls when it skips a step, and at the start of a generation
that goes on after a rollback. That is also how a device is found that spoils the parameters of one of two replicas now
and then: neither can be named, both go back, and the steps that are done again are replayed.

It leaves no trace: parameters, their gradients, buffers and random generators are as they were, DDP sums nothing.

Sees: anything that comes out otherwise one of the two times and changes a gradient, in a micro-batch that is replayed.
Does not see: a fault in a step between two replays (docs/corruption.md has the odds); what goes wrong after the
gradient has left the backward: in the sum, in the optimizer (the replica check does); a device that is wrong in the
same way both times (the known answer may). Parameters that are sharded (FSDP2): the replay would be a collective.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from ryzen_protos.beat_self_checks import REPLAY
from ryzen_trainer.checkpoint.random_state import RandomState
from ryzen_trainer.corruption.arriving import Arriving
from ryzen_trainer.corruption.digest import bits, combined
from ryzen_trainer.corruption.own_record import OwnRecord
from ryzen_trainer.run import Run

log = logging.getLogger(__name__)

EVERY = 500
"""Steps between two replays. docs/corruption.md has the cost that this follows from."""
SUSPICION_STEPS = 50
"""Steps that are all replayed after a suspicion: what flips in one of ten is seen with 99 %."""
LEARNING, LEARNING_EVERY = 8, 50
"""Until so many replays have been equal, they are closer to each other: before that nothing would follow from one
that is not (LEARNT in the coordinator's core/self_checks.py)."""
FIRST = 2
"""Steps of a process that are never replayed: algorithms may still be chosen in them."""


class StepReplay:
    """One object a training loop. Without an agent, or with nothing to replay, `of` does nothing."""

    def __init__(self, model: nn.Module, run: Run, *, every: int = EVERY) -> None:
        """`every`: steps between two replays, fewer at first; 0 for none, not even on suspicion.

        Raises ValueError if it is negative.
        """
        if every < 0:
            raise ValueError(f"every must be 0 or more, not {every}")
        self.record = OwnRecord(run, REPLAY, "the gradient of a micro-batch")
        self.why_not = "" if every and run.attached else "it is switched off, or there is no agent"
        self._model, self._run, self._every = model, run, every
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        if not self.why_not and any(isinstance(each, DTensor) for each in self._parameters):
            self.why_not = "parameters are sharded"
            log.warning("no step replay: %s", self.why_not)
        self._number: int | None = None
        self._steps = 0
        self._suspicious = SUSPICION_STEPS if run.resume_at_most is not None else 0
        self._pending: tuple[int, Arriving] | None = None

    def suspect(self) -> None:
        """Something is odd: of the next steps each is replayed."""
        self._suspicious = SUSPICION_STEPS

    @contextmanager
    def of(self, compute: Callable[[], Tensor]) -> Iterator[None]:
        """Around the forward and backward of a micro-batch. `compute` is that forward once more: the loss of it.

        At most one micro-batch a step is replayed, the first.
        """
        if not self._is_due():
            yield
            return
        before = _State(self._model)
        first = _GradientDigest(self._parameters)
        with first:
            yield
        with self._run.section("replay"):
            self._replay(compute, before, first)

    def _is_due(self) -> bool:
        if self.why_not:
            return False
        self._publish()
        number = self._run.number
        if number == self._number:
            return False
        self._number = number
        self._steps += 1
        if self._steps <= FIRST or self._pending is not None:
            return False
        if self._suspicious:
            self._suspicious -= 1
            return True
        every = self._every if self.record.agreed >= LEARNING else min(self._every, LEARNING_EVERY)
        return (number + 1) % every == 0

    def _replay(self, compute: Callable[[], Tensor], before: _State, first: _GradientDigest) -> None:
        after = _State(self._model)
        try:
            with (
                before,
                _alone(self._model),
                _gradients_aside(self._parameters),
                _GradientDigest(self._parameters) as again,
            ):
                torch.autograd.backward(compute())
        except RuntimeError as error:  # out of memory, or a closure that cannot be called twice
            self.why_not = f"it failed: {error}".partition("\n")[0]
            log.warning("no step replay any more: %s", self.why_not)
            return
        finally:
            after.restore()
        self._pending = self._run.number + 1, Arriving((first.value() != again.value()).long())
        self._publish()

    def _publish(self) -> None:
        if self._pending is not None and self._pending[1].arrived():
            done, differs = self._pending
            self._pending = None
            self.record.take(done, not differs.number())
            if self.record.over:
                self.why_not = "it differs too often"


class _GradientDigest:
    """Of what a backward gives each parameter, before it is added to what is there or summed over the ranks."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._sums: dict[int, Tensor] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> _GradientDigest:
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


class _State:
    """What a forward may read and change beside parameters: buffers and random generators, as they are now."""

    def __init__(self, model: nn.Module) -> None:
        self._random = RandomState.capture()
        self._buffers = [(each, each.detach().clone()) for each in model.buffers()]

    def __enter__(self) -> None:
        self.restore()

    def __exit__(self, *_: object) -> None: ...

    def restore(self) -> None:
        self._random.restore()
        with torch.no_grad():
            for buffer, value in self._buffers:
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
