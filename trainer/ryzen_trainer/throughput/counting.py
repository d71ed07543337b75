"""FLOPs counted instead of computed: torch's `FlopCounterMode` over one real step of a model.

It sees every matrix product and convolution that is dispatched. Attention is counted with the plain kernel: fused ones
compute the scores again in the backward, which is no model FLOP, and torch does not count all of those of CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


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


def training_flops(count: ForwardCount, module: nn.Module) -> float:
    """FLOPs of a forward that was counted and of its backward; 0.0 where that is not known.

    The backward computes the gradients of the inputs, which costs a forward, and of what is trained those of the
    weights, which costs another.
    """
    if count.sharded or not count.flops or count.dtype is None:
        return 0.0
    whole = multiplied_parameters(module)
    trained = sum(each.numel() for each in module.parameters() if each.dim() >= 2 and each.requires_grad)
    return count.flops * (2.0 + (min(1.0, trained / whole) if whole else 1.0))


class ForwardCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of what is computed within it, and changes nothing of it: `with count: model(batch)`.

    For a forward of a training that is going on: the kernels stay as they are, each operation costs some microseconds
    more. Kernels that torch knows no formula of (those of other packages) are not counted. `sharded`: there was an
    operation on DTensors, whose shapes are not this rank's; the count means nothing then.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry, sdpa_flop

        self._formulas: dict[Any, Callable[..., int]] = dict(flop_registry)
        self._formulas[torch.ops.aten._scaled_dot_product_flash_attention_for_cpu] = flop_registry.get(
            torch.ops.aten._scaled_dot_product_flash_attention, sdpa_flop
        )
        self.flops = 0.0
        self.sharded = False
        self._by_type: dict[torch.dtype, float] = {}

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of numbers that most of it was done with; None where nothing was counted."""
        return max(self._by_type, key=lambda dtype: self._by_type[dtype], default=None)

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = self._formulas.get(getattr(func, "_overloadpacket", None))
        if formula is not None:
            try:
                flops = float(formula(*args, **(kwargs or {}), out_val=out))
            except Exception:  # noqa: BLE001 - torch's formulas are for the shapes that they know; the forward goes on
                return out
            self.flops += flops
            self.sharded = self.sharded or any(kind.__name__ == "DTensor" for kind in types)
            first = out[0] if isinstance(out, tuple | list) else out
            self._by_type[first.dtype] = self._by_type.get(first.dtype, 0.0) + flops
        return out
