"""One step of DDP, and a note of when: `first_step.py FOLDER`. Knows nothing of Ryzen; stays until FOLDER/end is there.

Writes FOLDER/rank-N: its pid, and the monotonic clock in seconds, which all processes of a machine share.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    ddp = DistributedDataParallel(nn.Linear(64, 64))
    optimizer = torch.optim.AdamW(ddp.parameters())
    torch.autograd.backward(ddp(torch.ones(8, 64)).sum())
    optimizer.step()
    aside, note = folder / f".rank-{dist.get_rank()}", folder / f"rank-{dist.get_rank()}"
    aside.write_text(f"{os.getpid()} {time.monotonic()}")
    aside.replace(note)
    while not (folder / "end").exists():
        time.sleep(0.02)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
