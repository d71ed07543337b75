"""A DDP loop, and on its rank 3 a device that gets stuck: from step 60 of the first generation on one bit is wrong,
always the same. The loop becomes suspicious twice, once before it and once after.
"""

import os
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ryzen_trainer import attach
from ryzen_trainer.corruption import StepReplay

STUCK_FROM, STEPS = 60, 100
SUSPICIOUS = (5, STUCK_FROM + 2)

dist.init_process_group("gloo")
run, rank = attach(), dist.get_rank()
stuck = rank == 3 and os.environ["RYZEN_GENERATION"] == "1"
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(32, 64), nn.Dropout(0.1), nn.Linear(64, 1))
model = nn.parallel.DistributedDataParallel(net)
replay = StepReplay(model, run)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
chance = torch.Generator().manual_seed(rank)


def device(gradient: Tensor) -> Tensor:
    if stuck and run.number >= STUCK_FROM:
        gradient = gradient.clone()
        gradient.view(torch.int32)[2, 3] ^= 1 << 18
    return gradient


def loss(batch: Tensor) -> Tensor:
    return model(batch).square().mean()


net[0].weight.register_hook(device)
for step in run.steps(range(STEPS)):
    if step in SUSPICIOUS:
        replay.suspect()
    inputs = torch.randn(8, 32, generator=chance)
    with replay.of(loss, inputs):
        loss(inputs).backward()
    optimizer.step()
    optimizer.zero_grad()
    time.sleep(0.05)
run.finish()
