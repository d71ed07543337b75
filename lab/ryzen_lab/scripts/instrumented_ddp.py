"""A training script with every line that Ryzen likes to see: DDP, AdamW, a data loader, its own torch.save.

What a user has who keeps the checkpoint code of the house: steps and sections are told, committed checkpoints too,
several are kept, and one that is newer than `run.resume_at_most` is not resumed from but removed. Data depend on
seed, step and rank only and the gradient buckets are settled before the state is restored, so the final bits are
those of an undisturbed run. `--step-s 10` makes the long steps of a large model out of sleep.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import ryzen_trainer
from ryzen_trainer.settling import settle

_BATCH = 32
_WIDTH = 64


class Batches(Dataset[Tensor]):
    """One batch a step, made from its number."""

    def __init__(self, options: argparse.Namespace, rank: int, start: int) -> None:
        self._seed, self._rank, self._start, self._steps = options.seed, rank, start, options.steps

    def __len__(self) -> int:
        return max(0, int(self._steps) - self._start)

    def __getitem__(self, index: int) -> Tensor:
        if index >= len(self):
            raise IndexError(index)
        step = self._start + index
        return torch.randn(
            _BATCH, _WIDTH, generator=torch.Generator().manual_seed(self._seed + step * 1000 + self._rank)
        )


def main() -> None:
    options = _options()
    run = ryzen_trainer.attach()
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    torch.manual_seed(options.seed)
    model = nn.Sequential(nn.Linear(_WIDTH, options.width), nn.GELU(), nn.Linear(options.width, _WIDTH))
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(ddp.parameters(), lr=1e-3)
    settle(ddp, lambda: nn.functional.mse_loss(ddp(torch.ones(_BATCH, _WIDTH)), torch.zeros(_BATCH, _WIDTH)))
    done = _resume(options.checkpoints, run.resume_at_most, model, optimizer)
    loader = DataLoader(Batches(options, dist.get_rank(), done), batch_size=None)
    for step, batch in enumerate(run.steps(loader, start=done), start=done):
        loss = _train(run, ddp, optimizer, batch, options.step_s)
        run.report(loss=loss, tokens=_BATCH, samples=_BATCH)
        if (step + 1) % options.every == 0:
            with run.section("checkpoint"):
                _save(options, step + 1, model, optimizer)
            run.checkpoint_committed(step + 1)
    run.finish()
    dist.destroy_process_group()


def _train(
    run: ryzen_trainer.Run, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor, step_s: float
) -> float:
    end = time.monotonic() + step_s
    with run.section("forward"):
        loss = nn.functional.mse_loss(model(batch), batch)
        time.sleep(max(0.0, end - time.monotonic()))
    with run.section("backward"):
        optimizer.zero_grad()
        torch.autograd.backward(loss)
    with run.section("optimizer"):
        optimizer.step()
    return float(loss.detach())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--step-s", type=float, default=0.03, help="a step takes at least this long")
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--keep", type=int, default=5, help="checkpoints that are kept")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    return parser.parse_args()


def _resume(folder: Path, resume_at_most: int | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Steps done, of the newest checkpoint that may be used; rank 0 looks and all do the same."""
    found = torch.zeros(1, dtype=torch.int64)
    if dist.get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        for step in _saved(folder):
            if resume_at_most is not None and step > resume_at_most:
                _path(folder, step).unlink()
        found[0] = max(_saved(folder), default=0)
    dist.broadcast(found, 0)
    step = int(found)
    if step:
        state = torch.load(_path(folder, step), weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    return step


def _save(options: argparse.Namespace, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Rank 0 writes aside and renames; nobody goes on before the checkpoint is there."""
    if dist.get_rank() == 0:
        target = _path(options.checkpoints, step)
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, aside)
        aside.replace(target)
        for old in sorted(_saved(options.checkpoints))[: -options.keep]:
            _path(options.checkpoints, old).unlink()
    dist.barrier()


def _saved(folder: Path) -> list[int]:
    return [int(each.stem.removeprefix("step-")) for each in folder.glob("step-*.pt")]


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


if __name__ == "__main__":
    main()
