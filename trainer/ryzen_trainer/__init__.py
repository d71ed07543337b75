"""What a training script imports: `attach()`, and for exact resumption `settling.settle` and
`checkpoint.Checkpointer`; `starting.quick_imports` makes restarts shorter.

This import needs no torch and takes milliseconds; `checkpoint` and `settling` bring torch in.
"""

from __future__ import annotations

from ryzen_protos import __version__
from ryzen_trainer.attaching import attach
from ryzen_trainer.run import Run

__all__ = ["Run", "__version__", "attach"]
