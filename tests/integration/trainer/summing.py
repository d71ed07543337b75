"""One rank that trains a small DDP model some steps, with its gradient sums measured or not, and prints a digest.

Arguments: measured | plain | own | builtin (a communication hook of the script's), and the file of the store.
"""

import hashlib
import json
import os
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import BuiltinCommHookType
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

import ryzen_trainer
from ryzen_trainer import communication

STEPS = 12


def main(how: str, store: str) -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    run = ryzen_trainer.attach()
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(64, 64) for _ in range(6)))
    model = DistributedDataParallel(net, bucket_cap_mb=0.03)
    if how == "own":
        model.register_comm_hook(None, default_hooks.allreduce_hook)
    if how == "builtin":
        model._register_builtin_comm_hook(BuiltinCommHookType.ALLREDUCE)
    measured = communication.measure(model, run) if how != "plain" else False
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(1 + rank)
    for step in run.steps(range(STEPS)):
        with run.section("backward"):
            if rank == 1 and step % 3 == 0:
                time.sleep(0.05)  # the others wait for it in their sums
            model(torch.randn(8, 64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    run.finish()
    digest = hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in net.parameters())).hexdigest()
    sys.stdout.write(json.dumps({"measured": measured, "digest": digest}) + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
