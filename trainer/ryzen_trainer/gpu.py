"""Which GPU this rank computes on, asked of torch as far as the script has started CUDA, and never starting it.

The device that torch calls current says little: a script may leave it at 0 and put everything on `cuda:3`. So the
GPU on which this process has memory is the one; of several the current, if it is one of them, else the fullest.
Before anything lies on a GPU there is no answer. `CUDA_VISIBLE_DEVICES` is not read: an index in it means what the
driver's order makes of it, which only the driver knows.
"""

from __future__ import annotations

import sys
from typing import Any


def in_use() -> tuple[str, str] | None:
    """UUID and PCI address ("GPU-...", "0000:05:00"); None where there is no GPU yet, or none to ask. Never raises."""
    cuda: Any = sys.modules.get("torch.cuda")
    try:
        if cuda is None or not cuda.is_initialized():
            return None
        used = {index: cuda.memory_allocated(index) for index in range(cuda.device_count())}
        current = cuda.current_device()
        index = current if used.get(current) else max(used, key=lambda each: used[each])
        return _named(cuda.get_device_properties(index)) if used[index] else None
    except Exception:  # noqa: BLE001 - torch, CUDA, a driver that fails: the loop shall not see it
        return None


def current_is_used() -> bool:
    """Whether this process has memory on the device that torch calls current. Never raises."""
    cuda: Any = sys.modules.get("torch.cuda")
    try:
        return cuda is not None and cuda.is_initialized() and cuda.memory_allocated(cuda.current_device()) > 0
    except Exception:  # noqa: BLE001 - as above
        return False


def _named(properties: Any) -> tuple[str, str]:
    """Names of a device as NVIDIA's driver writes them; "" for what this torch does not tell."""
    uuid = str(getattr(properties, "uuid", ""))
    place = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    pci = (
        ""
        if None in place
        else ":".join(f"{int(part or 0):0{width}x}" for part, width in zip(place, (4, 2, 2), strict=True))
    )
    return (uuid if not uuid or uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}", pci)
