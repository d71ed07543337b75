"""Scalars of a device, read without waiting for it: copied aside, and looked at once the copy is known to be done."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

_Event: Any = torch.cuda.Event
_WAITING_MAX = 16


class Later:
    """One kind of figure. On a CPU it is there at once; on a GPU it is some steps old."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Any, Tensor]] = deque(maxlen=_WAITING_MAX)
        self._newest: float | None = None

    def put(self, scalar: Tensor) -> None:
        if not scalar.is_cuda:
            self._newest = float(scalar) if scalar.device.type == "cpu" else None
            return
        aside = torch.empty((), dtype=scalar.dtype, pin_memory=True)
        aside.copy_(scalar, non_blocking=True)
        event = _Event()
        event.record()
        self._waiting.append((event, aside))

    def newest(self) -> float | None:
        """None while none is known."""
        while self._waiting and self._waiting[0][0].query():
            self._newest = float(self._waiting.popleft()[1])
        return self._newest
