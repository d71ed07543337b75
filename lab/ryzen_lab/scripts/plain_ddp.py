"""A training script that knows nothing of Ryzen: DDP, AdamW, its own checkpoint by torch.save.

What a user brings who has not changed a line. Data depend on seed, step and rank only, so a run is reproducible;
the gradient buckets of DDP are left as they are by default, so its digests need not agree after a restart.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def main() -> None:
    options = _options()
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank = dist.get_rank()
    torch.manual_seed(options.seed)
    model = nn.Sequential(nn.Linear(64, options.width), nn.GELU(), nn.Linear(options.width, 64))
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(ddp.parameters(), lr=1e-3)
    done = _load(options.checkpoint, model, optimizer)
    for step in range(done + 1, options.steps + 1):
        began = time.monotonic()
        chance = torch.Generator().manual_seed(options.seed + step * 1000 + rank)
        batch = torch.randn(32, 64, generator=chance)
        loss = nn.functional.mse_loss(ddp(batch), batch)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % options.every == 0 and rank == 0:
            _save(options.checkpoint, step, model, optimizer)
        time.sleep(max(0.0, options.step_s - (time.monotonic() - began)))
    dist.destroy_process_group()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--step-s", type=float, default=0.03, help="a step takes at least this long")
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"))
    return parser.parse_args()


def _load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, aside)
    aside.replace(path)


if __name__ == "__main__":
    main()
