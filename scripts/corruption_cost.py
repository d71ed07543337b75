"""What each check for silent corruption costs a training step of the reference model, on the machine that it runs on.

    python scripts/corruption_cost.py [--config configs/demo.yaml] [--pairs 200]

One process, one thread, activation checkpointing on. Steps with and without the check in turn, so that a loaded machine
loads both; a step with it has it in full. Times are of the processor, not of the clock: other work counts only by what
it does to caches. The median of the differences, divided by the check's interval, is its share of a step; beside it the
same of the quartiles. Milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ryzen_protos.beat_page import BeatWriter, Header
from ryzen_trainer.corruption import KnownAnswer, RecomputeCheck, ReplicaCheck, StepReplay, known_answer
from ryzen_trainer.corruption import recompute as recomputation
from ryzen_trainer.corruption import replay as replaying
from ryzen_trainer.corruption import replica as replicas
from ryzen_trainer.examples.gpt.config import load
from ryzen_trainer.examples.gpt.model import Gpt, next_byte_loss
from ryzen_trainer.failure import Nudge
from ryzen_trainer.run import Run


class Step:
    """One training step; each of its parts may be given another."""

    def __init__(self, config: Path) -> None:
        settings = load(config, ["hardware.activation_checkpointing=true"])
        torch.manual_seed(0)
        self.model = Gpt(settings.model, activation_checkpointing=True)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.tokens = torch.randint(0, 256, (settings.training.micro_batch, settings.model.sequence_length))
        self.plain = self.model.segment

    def loss(self) -> Tensor:
        return next_byte_loss(self.model(self.tokens), self.tokens)

    def __call__(self, around: Callable[[], Any] = nullcontext, after: Callable[[], object] = bool) -> float:
        began = process_time()
        with around():
            torch.autograd.backward(self.loss())
        self.optimizer.step()
        self.optimizer.zero_grad()
        after()
        return process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of the checks for silent corruption.")
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--pairs", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _measure(Step(options.config), _run(Path(folder)), options.pairs)


def _run(folder: Path) -> Run:
    return Run(BeatWriter(folder / "rank-0.beat", Header("cost", 1, 0, 0, 1, 1, 1, 1)), Nudge(folder / "nudge"))


def _measure(step: Step, run: Run, pairs: int) -> None:
    replica = ReplicaCheck(step.model, run, every=1)
    known, recompute = KnownAnswer(run, every=1), RecomputeCheck(run, every=1)
    replay = StepReplay(step.model, run, every=1)

    def compared(step: Step) -> float:
        step.model.segment = lambda block, x: checkpoint(recompute.segment(block), x, use_reentrant=False)
        seconds = step(after=recompute.step)
        step.model.segment = step.plain
        return seconds

    checks: tuple[tuple[str, int, Callable[[Step], float]], ...] = (
        ("replica check", replicas.EVERY, lambda step: step(after=replica.step)),
        ("known answer", known_answer.EVERY, lambda step: step(after=known.step)),
        ("recomputation", recomputation.EVERY, compared),
        ("step replay", replaying.EVERY, lambda step: step(around=partial(replay.of, step.loss))),
    )
    total = 0.0
    for name, every, checked in checks:
        without, having = [], []
        for number in range(pairs):
            run.step(number)
            without.append(step())
            having.append(checked(step))
        without, having = without[5:], having[5:]
        plain = statistics.median(without)
        lower, extra, upper = statistics.quantiles(more - less for more, less in zip(having, without, strict=True))
        shares = [each / every / plain for each in (lower, extra, upper)]
        total += shares[1]
        share = "{1:.3%} ({0:.3%} to {2:.3%})".format(*shares)
        sys.stdout.write(f"{name:14} step {plain * 1e3:.2f}, {extra * 1e3:+.2f} with it; every {every}: {share}\n")
    sys.stdout.write(f"all together   {total:.2%}\n")


if __name__ == "__main__":
    main()
