"""The outermost modules that an optimizer trains, and what is hooked to them.

They are looked for once, after the first step, among all objects that Python's collector knows: whoever built, copied
or wrapped the model, it is complete by then. A hook for all modules of the process would make each call of each of them
slower, and would be compiled into models.

A hook is part of the module that has it: pickled and copied with it. Ours turn into something that does nothing then
(`_Hook.__reduce__`), so a model that is saved whole can be read where there is no Ryzen.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


def outermost(parameters: Iterable[torch.Tensor]) -> list[nn.Module]:
    """Modules that hold some of `parameters` and lie in no other module. `type` is asked, for `isinstance` may wake
    objects that stand for others."""
    trained = {id(each) for each in parameters}
    modules = [each for each in gc.get_objects() if issubclass(type(each), nn.Module) and "_modules" in each.__dict__]
    within = {id(inner) for each in modules for inner in each._modules.values()}
    tops = [each for each in modules if id(each) not in within]
    return [each for each in tops if any(id(parameter) in trained for parameter in each.parameters())]


def is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile has taken the whole of it: its hooks would be compiled too, or never called."""
    return getattr(module, "_compiled_call_impl", None) is not None


def has_compiled_anything() -> bool:
    """In this process, so far. Within a dispatch mode compiled code runs as if it were not."""
    utilities = sys.modules.get("torch._dynamo.utils")
    return bool(utilities is not None and getattr(utilities, "counters", {}).get("frames"))


class _Hook:
    """A function, but its copies and pickles are `contextlib.nullcontext().__exit__`, which takes anything and returns
    None."""

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> None:
        self._function(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")


def hook(
    module: nn.Module, before: Callable[[nn.Module, Any, Any], None], after: Callable[[nn.Module, Any, Any], None]
) -> list[RemovableHandle]:
    """`before(module, args, kwargs)` and `after(module, args, result)` for each call of `module`, one that raises
    included."""
    return [
        module.register_forward_pre_hook(_Hook(before), with_kwargs=True),
        module.register_forward_hook(_Hook(after), always_call=True),
    ]
