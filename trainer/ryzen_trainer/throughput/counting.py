"""FLOPs counted instead of computed: torch's `FlopCounterMode` over one real step of a model.

It sees every matrix product and convolution that is dispatched. Attention is counted with the plain kernel: fused ones
compute the scores again in the backward, which is no model FLOP, and torch does not count all of those of CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def flops_of(model: nn.Module, loss: Callable[[], Tensor]) -> float:
    """FLOPs of `loss()`, which calls the model, and of its backward. Done once, before training, on one micro-batch.

    Gradients are left as they were; random generators go on as if nothing had been drawn. A sharded or replicated model
    would synchronise: count the plain one. Divide by the tokens of the micro-batch for `Run.measures`.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel  # late: a restarted rank that counts nothing does not wait
    from torch.utils.flop_counter import FlopCounterMode

    trained = [each for each in model.parameters() if each.requires_grad]
    with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.autograd.grad(loss(), trained, allow_unused=True)
    return float(counter.get_total_flops())


def multiplied_parameters(model: nn.Module, tied: Iterable[Tensor] = ()) -> int:
    """Parameters that a token is multiplied by: all matrices except embeddings, which are looked up.

    `tied`: embeddings that serve as the last projection too. Norms and biases, vectors all, are no products.
    """
    looked_up = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding | nn.EmbeddingBag)}
    looked_up -= {id(each) for each in tied}
    return sum(each.numel() for each in model.parameters() if each.dim() >= 2 and id(each) not in looked_up)
