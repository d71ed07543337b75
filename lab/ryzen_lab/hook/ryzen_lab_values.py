"""Wrong numbers done inside a rank: nothing stops, nothing is late, only the arithmetic is not what it should be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

BITS = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}
"""Integer types of torch with the size of an element."""


def nan(hook: Any, order: dict[str, Any]) -> None:  # noqa: ARG001 - nothing to choose
    """The gradients of one backward are NaN on this rank, before they are summed over the ranks."""
    _scale_once(hook, float("nan"))


def spike(hook: Any, order: dict[str, Any]) -> None:
    """The gradients of one backward are so many times as large on this rank, before they are summed over the ranks."""
    _scale_once(hook, order["times"])


def _scale_once(hook: Any, factor: float) -> None:
    """By a hook on each parameter that fires once; where those do not fire (sharded parameters), after the sum."""
    told = False

    def tell(where: str) -> None:
        nonlocal told
        if not told:
            told = True
            hook.channel.send("fault", where=where)

    def once() -> Callable[[Any], Any]:
        fired = False

        def scale(gradient: Any) -> Any:
            nonlocal fired
            if fired:
                return None
            fired = True
            tell("backward")
            return gradient * factor

        return scale

    parameters = _parameters(hook)
    for each in parameters:
        if each.requires_grad and not hasattr(each, "to_local"):
            each.register_hook(once())

    def after_the_sum() -> None:
        hook.before_step = None
        if not told:
            tell("before_step")
            for each in parameters:
                if each.grad is not None:
                    _local(each.grad).mul_(factor)

    hook.before_step = after_the_sum


def bitflip(hook: Any, order: dict[str, Any]) -> None:
    """One bit of one weight right after the optimizer's step, or of one gradient, summed already, right before it.

    `part` and `at` (0 to 1) choose the tensor and its element, `bit` (0 to 1) the bit.
    """

    def strike(where: str, tensors: list[Any]) -> None:
        hook.before_step = hook.after_step = None
        filled = [each for each in tensors if each.numel()]
        tensor = filled[int(order["part"] * len(filled))]
        element, bit = int(order["at"] * tensor.numel()), int(order["bit"] * tensor.element_size() * 8)
        hook.channel.send("fault", where=f"{where}, bit {bit}")
        flip(tensor, element, bit)

    if order["where"] == "weight":
        hook.after_step = lambda: strike("weight", [_local(each) for each in _parameters(hook)])
    else:
        hook.before_step = lambda: strike(
            "gradient", [_local(each.grad) for each in _parameters(hook) if each.grad is not None]
        )


def flip(tensor: Any, element: int, bit: int) -> None:
    """In place, whatever the type of its numbers."""
    torch = sys.modules["torch"]
    size = tensor.element_size()
    with torch.no_grad():
        row = tensor.detach().reshape(-1)[element : element + 1].clone().view(getattr(torch, BITS[size]))
        mask = 1 << bit
        row ^= mask - (1 << 8 * size) if mask >= 1 << (8 * size - 1) and size > 1 else mask
        position = []
        for length in reversed(tensor.shape):
            element, place = divmod(element, length)
            position.append(place)
        tensor.detach()[tuple(reversed(position))] = row.view(tensor.dtype)[0]


def _parameters(hook: Any) -> list[Any]:
    return [each for group in hook.optimizers[0].param_groups for each in group["params"]]


def _local(tensor: Any) -> Any:
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
