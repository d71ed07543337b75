"""Reading many small tensors: what says how one is laid out is unpickled once for all that are alike.

DCP keeps each tensor as `torch.save` writes it: a zip archive with a pickle that names dtype, sizes and strides, and
beside it the values. To unpickle with `weights_only=True` is ten times the work of reading a small tensor, and a model
with its optimizer has three tensors a parameter; each rank reads them all before it can go on after a fault. Tensors
of one layout have the same pickle, byte for byte. So torch reads the first of each, and what it made of it is used for
the others.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import torch
from torch import Tensor

SMALL_BYTES = 1 << 20
"""Larger ones are read by torch from the file: for them the pickle costs nothing, a second copy in memory does."""

LAYOUTS_MAX = 1024
"""Kept at a time."""

_Archive = getattr(torch._C, "PyTorchFileReader", None)  # what torch.load itself reads an archive with


@dataclass(frozen=True, slots=True)
class _Layout:
    dtype: torch.dtype
    sizes: torch.Size
    strides: tuple[int, ...]
    offset: int
    storage_bytes: int


class TensorReader:
    """`read` is `torch.load(..., map_location="cpu", weights_only=True)` for a tensor alone in its archive."""

    def __init__(self) -> None:
        self._layouts: dict[bytes, _Layout] = {}

    def read(self, raw: bytes) -> Tensor:
        """Raises what torch.load raises; TypeError where it is no tensor."""
        if _Archive is None:
            return _loaded(raw)
        archive = _Archive(io.BytesIO(raw))
        pickled = archive.get_record("data.pkl")
        layout = self._layouts.get(pickled)
        own_order = archive.has_record("byteorder") and archive.get_record("byteorder") == sys.byteorder.encode()
        if layout is None or not own_order or archive.get_record_size("data/0") != layout.storage_bytes:
            tensor = _loaded(raw)
            if own_order and len(self._layouts) < LAYOUTS_MAX and _is_plain(tensor):
                self._layouts[pickled] = _Layout(
                    tensor.dtype, tensor.size(), tensor.stride(), int(tensor.storage_offset()),
                    tensor.untyped_storage().nbytes(),
                )  # fmt: skip
            return tensor
        storage = archive.get_storage_from_record("data/0", layout.storage_bytes, torch.uint8).untyped_storage()
        return torch.empty(0, dtype=layout.dtype).set_(storage, layout.offset, layout.sizes, layout.strides)


def _loaded(raw: bytes) -> Tensor:
    loaded = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    if not isinstance(loaded, Tensor):
        raise TypeError(f"a {type(loaded).__name__} stands where a tensor belongs")
    return loaded


def _is_plain(tensor: Tensor) -> bool:
    """Dtype, sizes, strides and offset in one storage say all about it."""
    return (
        type(tensor) is Tensor
        and tensor.layout is torch.strided
        and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
    )
