"""`StepReplay`: the gradient of a micro-batch, before it is summed over the ranks, and computed once more.

    replay = StepReplay(model, run)
    ...
    with replay.of(lambda inputs, targets: loss_of(model(inputs), targets), inputs, targets):
        loss = loss_of(model(inputs), targets)
        loss.backward()

A gradient that is wrong before the sum makes the same wrong mean on every rank, so no replica can see it. Here every
gradient of a parameter is digested as it comes out of the backward, and then the forward and backward are done again
from the same inputs, random numbers and buffers, without a sum over the ranks. A difference needs no peers: this rank
has contradicted itself.

A replay costs a forward and a backward, so only one micro-batch in `every` steps is replayed. On suspicion each of the
next `SUSPICION_STEPS` is: after `suspect()`, which a guard calls when it skips a step, and at the start of a generation
that goes on after a rollback. That is also how a device is found that spoils the parameters of one of two replicas now
and then: neither can be named, both go back, and the steps that are done again are replayed. The first `ROUNDS` of
them are computed by two other ranks as well (neighbours.py), for a device may be wrong in the same way each time.

It leaves no trace: parameters, their gradients, buffers and random generators are as they were, DDP sums nothing.

Sees: anything that comes out otherwise one of the two times and changes a gradient, in a micro-batch that is replayed.
Does not see: a fault in a step between two replays (docs/corruption.md has the odds); what goes wrong after the
gradient has left the backward: in the sum, in the optimizer (the replica check does); without a suspicion, a device
that is wrong in the same way both times (the known answer may). Parameters that are sharded (FSDP2): the replay would
be a collective.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ryzen_protos.beat_self_checks import REPLAY
from ryzen_trainer.checkpoint.random_state import RandomState
from ryzen_trainer.corruption.again import GradientDigest, State, once_more
from ryzen_trainer.corruption.arriving import Arriving
from ryzen_trainer.corruption.neighbours import Neighbours, collectives
from ryzen_trainer.corruption.own_record import OwnRecord
from ryzen_trainer.run import Run

log = logging.getLogger(__name__)
_instances = itertools.count()

EVERY = 500
"""Steps between two replays. docs/corruption.md has the cost that this follows from."""
SUSPICION_STEPS = 50
"""Steps that are all replayed after a suspicion: what flips in one of ten is seen with 99 %."""
ROUNDS = 8
"""Steps after a suspicion whose micro-batch two other ranks compute as well."""
LEARNING, LEARNING_EVERY = 8, 50
"""Until so many replays have been equal, they are closer to each other: before that nothing would follow from one
that is not (LEARNT in the coordinator's core/self_checks.py)."""
COLLECTIVES = "the forward has collectives"
"""Ranks may replay at other steps than others do, and then some would wait in one for ever."""
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
        self.record = OwnRecord(run, REPLAY, "the gradient of a micro-batch differs from itself")
        self.why_not = "" if every and run.attached else "it is switched off, or there is no agent"
        self._model, self._run, self._every = model, run, every
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        if not self.why_not and any(isinstance(each, DTensor) for each in self._parameters):
            self.why_not = "parameters are sharded"
            log.warning("no step replay: %s", self.why_not)
        elif not self.why_not and any(isinstance(each, nn.SyncBatchNorm) for each in model.modules()):
            self.why_not = COLLECTIVES
            log.warning("no step replay: %s", self.why_not)
        self._number = self._begin = -1
        self._steps = 0
        self._suspicious = SUSPICION_STEPS if run.resume_at_most is not None else 0
        self._rounds = ROUNDS if self._suspicious else 0
        self._pending: tuple[int, Arriving] | None = None
        self._neighbours: Neighbours | None = None
        self._instance = next(_instances)

    def suspect(self) -> None:
        """Something is odd: of the next steps each is replayed."""
        self._suspicious, self._rounds = SUSPICION_STEPS, ROUNDS

    @contextmanager
    def of(self, compute: Callable[..., Tensor], *batch: Tensor) -> Iterator[None]:
        """Around the forward and backward of a micro-batch. `compute(*batch)`: that forward once more, the loss of it.

        At most one micro-batch a step is replayed, the first. Give `batch` where the loss depends on nothing else that
        other ranks have otherwise; without it no other rank computes it as well.
        """
        if not self._is_due():
            yield
            self._answer(compute)  # after the last micro-batch what others have laid out is there, if not before
            return
        before = State(self._model)
        if batch and self._rounds:
            self._rounds -= 1
            self._contained(partial(self._offer, before, batch))
        first = GradientDigest(self._parameters)
        with first:
            yield
        with self._run.section("replay"):
            self._replay(partial(compute, *batch), before, first)
        self._answer(compute)

    def _is_due(self) -> bool:
        number = self._run.number
        if self._neighbours is not None and number != self._number:
            self._contained(partial(self._neighbours.compare, number))
        if self.why_not:
            return False
        self._publish()
        if number == self._number:
            return False
        if self._begin < 0:
            self._begin = number
        self._number = number
        self._steps += 1
        if self._steps <= FIRST or self._pending is not None:
            return False
        if self._suspicious:
            self._suspicious -= 1
            return True
        every = self._every if self.record.agreed >= LEARNING else min(self._every, LEARNING_EVERY)
        return (number + 1) % every == 0

    def _replay(self, compute: Callable[[], Tensor], before: State, first: GradientDigest) -> None:
        begun = collectives()
        try:
            again = once_more(self._model, self._parameters, compute, before.restore)
        except Exception as error:  # noqa: BLE001 - no memory, or the script's forward cannot be called twice
            self._end(f"it failed: {error}".partition("\n")[0])
            return
        if collectives() != begun:
            self._end(COLLECTIVES)
            return
        self._pending = self._run.number + 1, Arriving((first.value() != again).long())
        if self._neighbours is not None:
            alike = before.random.same_outside_torch(RandomState.capture())
            self._contained(
                partial(self._neighbours.computed, self._run.number, first.value(), again, repeatable=alike)
            )
        self._publish()

    def _end(self, why: str) -> None:
        self.why_not = why
        log.warning("no step replay any more: %s", why)
        if self._neighbours is not None:
            self._neighbours.give_up(why)

    def _offer(self, state: State, batch: Sequence[Tensor]) -> None:
        if self._neighbours is None:
            self._neighbours = Neighbours(self._model, self._parameters, self._run, self._begin, self._instance)
        self._neighbours.offer(self._run.number, state, batch)

    def _answer(self, compute: Callable[..., Tensor]) -> None:
        if self._neighbours is not None and self._neighbours.owes(self._run.number):
            with self._run.section("replay"):
                self._contained(partial(self._neighbours.answer, self._run.number, compute))

    def _contained(self, call: Callable[[], None]) -> None:
        """Other ranks' help is no reason to fail: the store may be gone, memory short, and the script's own forward may
        raise anything for a micro-batch that it was never meant to see."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - see above
            self._rounds = 0
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
            if self._neighbours is not None:
                self._neighbours.give_up(why)
            else:
                log.warning("no replay on other ranks: %s", why)

    def _publish(self) -> None:
        if self._pending is not None and self._pending[1].arrived():
            done, differs = self._pending
            self._pending = None
            self.record.take(done, not differs.number())
            if self.record.over:
                self.why_not = "it differs too often"
