"""`settle()`: make a DDP model's sums independent of how often the job was restarted.

DistributedDataParallel starts with one bucket layout, watches in its first backward in which order gradients
become ready, and lays its buckets out anew before the second. Another layout is another order of additions in
the ring, so the step after a restart differs in its last bits from the same step of an undisturbed run (seen
with four ranks; two ranks add the same either way). Settling spends one discarded forward and backward at each
start, *before* the state is restored: from then on every run uses the final layout.

    model = DistributedDataParallel(net)
    settle(model, lambda: loss_function(model(example_inputs), example_targets))
    checkpointer.restore()

The example must go through the same parts of the model as real steps do; its values do not matter, but NaN
would. Buffers (batch statistics) and random generators are put back; gradients are dropped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ryzen_trainer.checkpoint.random_state import RandomState


def settle(model: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Run `loss()` and its backward once on every rank and take back what they changed.

    Call on all ranks, before the first real step and before restoring a checkpoint. With FSDP2 or a plain
    module it changes nothing either, and is not needed.
    """
    random_state = RandomState.capture()
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    torch.autograd.backward(loss())
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    random_state.restore()
