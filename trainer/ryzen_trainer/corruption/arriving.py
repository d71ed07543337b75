"""A number on its way from the device, fetched without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Arriving:
    """A 0-dimensional int64 tensor that is copied to the host; on a CPU it is there at once."""

    def __init__(self, value: Tensor) -> None:
        self._event: Any = None
        self._value = value
        if value.device.type == "cuda":
            self._value = torch.empty((), dtype=torch.int64, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def arrived(self) -> bool:
        """Whether `number` can be read without waiting."""
        return self._event is None or bool(self._event.query())

    def number(self) -> int:
        """Waits where it has not arrived."""
        if self._event is not None:
            self._event.synchronize()
        return int(self._value)
