"""What each of Ryzen's calls costs in a step of the reference trainer, with its caches as they are there:

    python -m torch.distributed.run --standalone --nproc-per-node 2 scripts/step_parts.py [GROUP.KEY=VALUE ...]

`configs/demo.yaml` with activation checkpointing. Prints microseconds of the clock a step on rank 0, what a call calls
included, which is more than Ryzen adds: the guard's call holds the optimizer's step, a segment's the segment. Reading
the clock adds about 0.3 us a call.
"""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import torch.distributed as dist

from ryzen_lab.scripts.overhead import Instrumented
from ryzen_trainer import communication, sections
from ryzen_trainer.corruption import KnownAnswer, RecomputeCheck, ReplicaCheck, StepReplay, recompute
from ryzen_trainer.examples.gpt import training
from ryzen_trainer.examples.gpt.config import load
from ryzen_trainer.guard import GradientGuard
from ryzen_trainer.run import Run

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
WARM_UP, STEPS = 25, 200
CALLS: tuple[tuple[str, type, str], ...] = (
    ("edges of sections", sections.NamedSection, "__enter__"),
    ("edges of sections", sections.NamedSection, "__exit__"),
    ("a step's end and begin", Run, "step"),
    ("report", Run, "report"),
    ("batch read", Run, "batch_read"),
    ("guard, with the optimizer's step", GradientGuard, "step"),
    ("replica check", ReplicaCheck, "step"),
    ("known answer", KnownAnswer, "step"),
    ("recomputation check", RecomputeCheck, "step"),
    ("segments handed out", RecomputeCheck, "segment"),
    ("segments compared, with themselves", recompute._Segment, "__call__"),
    ("whether a replay is due", StepReplay, "_is_due"),
    ("communication hook, with the sum's start", communication._Meter, "hook"),
    ("communication hook, at the sum's end", communication._Meter, "_ended"),
)

spent: Counter[str] = Counter()
called: Counter[str] = Counter()


def timed(name: str, owner: type, method: str) -> None:
    """Add up what that method takes from now on."""
    inner = getattr(owner, method)

    @functools.wraps(inner)  # DDP looks at a hook's signature
    def outer(*arguments: Any, **named: Any) -> Any:
        began = perf_counter_ns()
        try:
            return inner(*arguments, **named)
        finally:
            spent[name] += perf_counter_ns() - began
            called[name] += 1

    setattr(owner, method, outer)


def main() -> None:
    """One table, on rank 0."""
    for call in CALLS:
        timed(*call)
    folder = Path(tempfile.gettempdir()) / f"step-parts-{os.environ['TORCHELASTIC_RUN_ID']}"  # one for all ranks
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["RYZEN_RUN_DIR"] = str(folder)
    checkpoints = f"training.checkpoint.folder={folder}/checkpoints"
    config = load(CONFIG, ["hardware.activation_checkpointing=true", checkpoints, *sys.argv[1:]])
    training.begin(config)
    step = Instrumented(config)
    for _ in range(WARM_UP):
        step()
    spent.clear()
    called.clear()
    steps = []
    for _ in range(STEPS):
        began = perf_counter_ns()
        step()
        steps.append((perf_counter_ns() - began) / 1e6)
    dist.barrier()
    if dist.get_rank() == 0:
        lines = [f"{name:42} {spent[name] / STEPS / 1e3:9.1f} us {called[name] / STEPS:6.2f} calls" for name in spent]
        sys.stdout.write("\n".join([*lines, f"a step: {statistics.median(steps):.1f} ms (median of {STEPS})", ""]))
        shutil.rmtree(folder)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
