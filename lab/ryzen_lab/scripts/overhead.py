"""Each step twice: of the reference trainer with everything that Ryzen has at its defaults, and of a plain loop.

    overhead.py CONFIG FOLDER BLOCKS STEPS WHICH_FIRST [GROUP.KEY=VALUE ...]

Both have a model, DDP, optimizer and loader of their own, made alike, in the same two processes and the same process
group. Steps of the two are taken in turn, instrumented-plain-plain-instrumented, so that other work on the machine and
what it does to clocks and caches strike both. First REPLAYS pairs under suspicion, each instrumented step replayed
(after that replays have been learnt and come once in 500 steps); then BLOCKS of STEPS pairs. WHICH_FIRST is made
first: 0 the instrumented one, 1 the plain one.

Each rank writes FOLDER/rank-N.json (aside, then renamed): pairs of seconds, of the processor (all threads of the
process) and of the clock, None where the instrumented step was replayed though it should not (or was not though it
should); and the collectives of each side's steps, on whichever group, by torch's flight recorder, in steps that are not
timed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch._C import _distributed_c10d as c10d
from torch.nn.parallel import DistributedDataParallel

from ryzen_trainer import attach
from ryzen_trainer.examples.gpt import training as instrumented
from ryzen_trainer.examples.gpt.config import Config, load
from ryzen_trainer.examples.gpt.data import Division, GlobalBatches, StandardLibrary, Windows, make_loader
from ryzen_trainer.examples.gpt.model import Gpt, next_byte_loss

WARM_UP = 20
REPLAYS = 50
"""As many as follow from one suspicion."""
COUNTED = 5
"""Steps of each side whose collectives are counted."""

Step = Callable[[], object]
Pair = tuple[tuple[float, float], tuple[float, float]]
"""With and without: seconds of the processor and of the clock."""


class Plain:
    """The reference trainer's step as it were without Ryzen."""

    def __init__(self, config: Config) -> None:
        training = config.training
        torch.manual_seed(training.seed)
        self.clip, self.division = training.gradient_clip, _division(config)
        self.model = DistributedDataParallel(Gpt(config.model, config.hardware.activation_checkpointing))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), training.learning_rate, training.betas, weight_decay=training.weight_decay
        )
        share = instrumented.learning_rate_share(training)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, share)
        windows = Windows(StandardLibrary(), config.model.sequence_length, training.seed)
        self.batches = iter(make_loader(windows, GlobalBatches(self.division, dist.get_rank())))

    def __call__(self) -> float:
        """The loss."""
        total = torch.zeros(())
        for index in range(self.division.accumulation):
            inputs, targets = next(self.batches)
            last = index == self.division.accumulation - 1
            with nullcontext() if last else self.model.no_sync():
                loss = next_byte_loss(self.model(inputs), targets) / self.division.accumulation
                torch.autograd.backward(loss)
            total += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(total)


class Instrumented:
    """The reference trainer's own."""

    def __init__(self, config: Config) -> None:
        self.run = attach()
        if not self.run.attached:
            raise RuntimeError("no beat page could be made")
        self.parts, _ = instrumented.prepare(config, self.run, torch.device("cpu"), _division(config))
        self.steps = self._steps()

    def _steps(self) -> Iterator[None]:
        for step in self.run.steps(range(1 << 30)):
            instrumented.do_step(self.parts, step)
            if step == 0:
                instrumented.tell_worth(self.parts)
            yield

    def __call__(self) -> None:
        next(self.steps)

    @property
    def replays(self) -> int:
        """So far."""
        return self.parts.checks.replay.record.agreed


def main(config: Config, folder: Path, blocks: int, steps: int, plain_first: bool) -> None:
    instrumented.begin(config)
    plain = Plain(config) if plain_first else None
    ours = Instrumented(config)
    plain = plain or Plain(config)
    for _ in range(WARM_UP):
        ours()
        plain()
    dist.barrier()
    began = perf_counter()
    ours.parts.checks.replay.suspect()
    replays = _pairs(ours, plain, REPLAYS, replayed=True)
    found = [_pairs(ours, plain, steps, replayed=False) for _ in range(blocks)]
    ended = perf_counter()
    result = {
        "replays": replays,
        "blocks": found,
        "window": [began, ended],
        "collectives": {"with": _collectives(ours), "without": _collectives(plain)},
        "parameters": sum(each.numel() for each in plain.model.parameters()),
    }
    path = folder / f"rank-{dist.get_rank()}.json"
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(result))
    aside.replace(path)
    dist.destroy_process_group()


def _pairs(ours: Instrumented, plain: Plain, steps: int, *, replayed: bool) -> list[Pair | None]:
    pairs: list[Pair | None] = []
    for number in range(steps):
        before = ours.replays
        if number % 2:
            without, having = _timed(plain), _timed(ours)
        else:
            having, without = _timed(ours), _timed(plain)
        pairs.append((having, without) if (ours.replays > before) == replayed else None)
    return pairs


def _timed(step: Step) -> tuple[float, float]:
    """Seconds of the processor and of the clock."""
    clock, processor = perf_counter(), process_time()
    step()
    return process_time() - processor, perf_counter() - clock


def _collectives(step: Step) -> list[int]:
    """Of each of some steps."""
    numbers = [_begun()]
    for _ in range(COUNTED):
        step()
        numbers.append(_begun())
    return [after - before for before, after in pairwise(numbers)]


def _begun() -> int:
    """Collectives of this process so far, on all groups: the flight recorder numbers them."""
    recorder: Any = c10d
    entries = json.loads(recorder._dump_fr_trace_json()).get("entries", [])
    return 1 + max((each["record_id"] for each in entries), default=-1)


def _division(config: Config) -> Division:
    return Division(config.training.global_batch, config.training.micro_batch, dist.get_world_size())


if __name__ == "__main__":
    config_, folder_, blocks_, steps_, first_, *sets = sys.argv[1:]
    never = 1 << 30  # checkpoints are no part of a step, and the run shall not end
    sets += [f"training.{each}={never}" for each in ("steps", "checkpoint.every_steps", "report_every")]
    sets += [f"training.checkpoint.folder={folder_}/checkpoints", "hardware.activation_checkpointing=true"]
    main(load(Path(config_), sets), Path(folder_), int(blocks_), int(steps_), first_ == "1")
