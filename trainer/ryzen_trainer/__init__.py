"""What a training script imports: `attach()`, and `settle()` and `Checkpointer` for exact resumption.

This import needs no torch and takes milliseconds; `checkpoint` and `settling` bring torch in when they are used.
"""

from __future__ import annotations

from ryzen_protos import __version__
from ryzen_trainer.run import Run, attach

__all__ = ["Run", "__version__", "attach"]
