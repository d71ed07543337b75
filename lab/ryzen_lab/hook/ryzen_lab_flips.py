"""One bit, in a number that a rank computes or keeps: once, or with a probability in each step.

    weight             of a parameter, right after the optimizer's step
    reduced-gradient   of a gradient that has been summed over the ranks, right before the optimizer's step
    gradient           of what a backward gives one parameter, before it is summed
    activation         of what a module gives in the forward: of one inside a segment that activation checkpointing
                       computes twice, where the script has such, else of any

The number that is changed is one that counts: finite, and no smaller than its tensor's mean amount, so that what a flip
does is not lost because it struck a 0. The place that is told has the value before and after.

Both times that something is computed twice it may flip, like a device's. The order's `part` and `at` (0 to 1) choose
tensor and element (the first that counts from there on), `bit` (0 to 1) the bit; with a `probability` all are drawn
anew each time.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

BITS = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}
"""Integer types of torch with the size of an element."""


class _Flips:
    """When to flip, and which bit."""

    def __init__(self, hook: Any, order: dict[str, Any]) -> None:
        self.hook, self.order = hook, order
        self.probability: float | None = order.get("probability")
        self.over = False
        self._chance = random.Random(order.get("seed", 0))  # noqa: S311 - a die, not a key
        self._told = False

    def due(self) -> bool:
        """Asked once a step or backward."""
        return not self.over and (self.probability is None or self._chance.random() < self.probability)

    def part(self) -> float:
        return self.order["part"] if self.probability is None else self._chance.random()

    def strike(self, where: str, tensor: Any) -> None:
        at, bit = self.order["at"], self.order["bit"]
        if self.probability is not None:
            at, bit = self._chance.random(), 1 - (1 - self.order["least_bit"]) * self._chance.random()
        bits = tensor.element_size() * 8
        element, bit = first_that_counts(tensor, int(at * tensor.numel())), min(int(bit * bits), bits - 1)
        before = value_at(tensor, element)
        flip(tensor, element, bit)
        if not self._told:
            self._told = True
            after = value_at(tensor, element)
            self.hook.channel.send("fault", where=f"{where}, bit {bit}: {before:.9g} became {after:.9g}")
        self.over = self.probability is None


def bitflip(hook: Any, order: dict[str, Any]) -> None:
    """See above."""
    PLACES[order["where"]](hook, _Flips(hook, order))


def _weight(hook: Any, flips: _Flips) -> None:
    def strike() -> None:
        _one_of(flips, "weight", [_local(each) for each in _parameters(hook)])
        hook.after_step = None if flips.over else strike

    hook.after_step = strike


def _reduced_gradient(hook: Any, flips: _Flips) -> None:
    def strike() -> None:
        found = [_local(each.grad) for each in _parameters(hook) if each.grad is not None]
        _one_of(flips, "reduced gradient", found)
        hook.before_step = None if flips.over else strike

    hook.before_step = strike


def _one_of(flips: _Flips, where: str, tensors: list[Any]) -> None:
    filled = [each for each in tensors if each.numel()]
    if filled and flips.due():
        flips.strike(where, filled[int(flips.part() * len(filled))])


def _gradient(hook: Any, flips: _Flips) -> None:
    """Which parameter's it is is drawn when the first of a backward comes: one that has been there before, or any."""
    parameters = [each for each in _parameters(hook) if each.requires_grad and not hasattr(each, "to_local")]
    seen: set[int] = set()
    aim = -1

    def watcher(number: int) -> Callable[[Any], Any]:
        def watch(gradient: Any) -> Any:
            nonlocal aim
            if number in seen or not seen:
                seen.clear()
                aim = int(flips.part() * len(parameters)) if flips.due() else -1
            seen.add(number)
            if number != aim or flips.over:
                return None
            changed = gradient.clone()
            flips.strike("gradient", changed)
            return changed

        return watch

    for number, each in enumerate(parameters):
        each.register_hook(watcher(number))


def _activation(hook: Any, flips: _Flips) -> None:
    """The calls of one step are counted; in a later one with as many the flip strikes one of them."""
    inside = True
    calls, aim = 0, -1

    def at_call(module: Any, _args: Any, out: Any) -> Any:
        nonlocal calls
        if next(module.children(), None) is not None or not getattr(out, "is_floating_point", bool)():
            return None
        if inside and not _is_recomputed(sys._getframe(1)):
            return None
        calls += 1
        if calls - 1 != aim or flips.over:
            return None
        changed = out.clone()
        flips.strike(f"activation of {type(module).__name__}{'' if inside else ' (nothing is recomputed)'}", changed)
        return changed

    def step_done() -> None:
        nonlocal inside, calls, aim
        inside = inside and calls > 0
        aim = int(flips.part() * calls) if calls and flips.due() else -1
        calls = 0
        if flips.over:
            hook.before_step = None
            handle.remove()

    handle = sys.modules["torch"].nn.modules.module.register_module_forward_hook(at_call)
    hook.before_step = step_done


def _is_recomputed(frame: FrameType | None) -> bool:
    """Whether torch.utils.checkpoint has called this."""
    while frame is not None:
        if frame.f_code.co_filename.endswith("torch/utils/checkpoint.py"):
            return True
        frame = frame.f_back
    return False


def first_that_counts(tensor: Any, element: int) -> int:
    """From `element` on and round, the first finite number whose amount is not below the mean; else `element`."""
    torch = sys.modules["torch"]
    amounts = tensor.detach().reshape(-1).abs().float()
    finite = torch.isfinite(amounts)
    counts = finite & (amounts > 0) & (amounts >= amounts[finite].mean())
    found = counts.roll(-element).nonzero()
    return (element + int(found[0])) % tensor.numel() if len(found) else element


def value_at(tensor: Any, element: int) -> float:
    return float(tensor.detach().reshape(-1)[element])


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


PLACES: dict[str, Callable[[Any, _Flips], None]] = {
    "weight": _weight,
    "reduced-gradient": _reduced_gradient,
    "gradient": _gradient,
    "activation": _activation,
}
