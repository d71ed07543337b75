"""Checkpoints that resume exactly, on torch.distributed.checkpoint. The theory is in `checkpointer`."""

from __future__ import annotations

from ryzen_trainer.checkpoint.checkpointer import Checkpointer, Restored
from ryzen_trainer.checkpoint.manifest import Verification

__all__ = ["Checkpointer", "Restored", "Verification"]
