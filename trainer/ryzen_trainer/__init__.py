"""What a training script imports: `attach()`, and for exact resumption `settling.settle` and
`checkpoint.Checkpointer`; `starting.quick_imports` makes restarts shorter.

This import needs no torch and takes a millisecond: what it names is loaded when it is first asked for, as
`ryzen-worker`, which lies in this package too, has no time for it. `checkpoint` and `settling` bring torch in.
"""

from __future__ import annotations

from ryzen_protos import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ryzen_trainer.attaching import attach
    from ryzen_trainer.run import Run

__all__ = ["Run", "__version__", "attach"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ryzen_trainer.attaching import attach
    from ryzen_trainer.run import Run

    globals().update(attach=attach, Run=Run)
    return globals()[name]
