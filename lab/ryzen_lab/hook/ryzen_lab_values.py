"""Wrong numbers done inside a rank: nothing stops, nothing is late, only the arithmetic is not what it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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


def _parameters(hook: Any) -> list[Any]:
    return [each for group in hook.optimizers[0].param_groups for each in group["params"]]


def _local(tensor: Any) -> Any:
    tensor = tensor.detach()
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
