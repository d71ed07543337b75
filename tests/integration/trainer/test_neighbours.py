"""A device that is wrong in the same way each time: two other ranks compute its micro-batch. Three ranks, gloo, CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from ryzen_protos import beat_self_checks, run_dir
from ryzen_protos.beat_page import BeatReader
from ryzen_protos.beat_self_checks import NEIGHBOURS, REPLAY, SelfCheck
from ryzen_trainer.corruption.own_record import DIFFERED_MAX

RANKS = 3
SCRIPT = """
import hashlib, json, os, random, sys
from contextlib import nullcontext
import torch, torch.distributed as dist
from torch import nn
import ryzen_trainer
from ryzen_trainer.corruption import StepReplay

rank, parts, stuck, suspects, kind = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
torch.set_num_threads(1)
dist.init_process_group("gloo")
run = ryzen_trainer.attach()
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 33), nn.BatchNorm1d(33), nn.Dropout(0.2), nn.ReLU(), nn.Linear(33, 1))
model = nn.parallel.DistributedDataParallel(net)
replay = StepReplay(model, run)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
chance = torch.Generator().manual_seed(rank)
torch.manual_seed(5 + rank)
def wrong(gradient):
    gradient = gradient.clone()
    gradient.view(torch.int32)[2, 3] ^= 1 << 20
    return gradient
if rank == stuck:
    net[0].weight.register_hook(wrong)
random.seed(0)  # as scripts do it, on all ranks alike
mine = []
def loss(inputs):
    if kind == "picky" and not any(inputs is each for each in mine):
        raise IndexError("this batch is not mine")
    if kind == "collective":
        dist.all_reduce(inputs.sum())
    scale = 1 + 0.001 * random.random() if kind == "chance" else 1
    return (model(inputs) * scale - inputs.sum(1, keepdim=True)).square().mean() / 2
for step in run.steps(range(20)):
    if step == 4 and str(rank) in suspects:
        replay.suspect()
    for part in range(parts):
        inputs = torch.randn(16, 8, generator=chance)
        mine.append(inputs)
        if kind == "view":
            inputs = torch.randn(8, 16, generator=chance).t()
        alone = model.no_sync() if part < parts - 1 else nullcontext()
        with alone, replay.of(loss, inputs):
            loss(inputs).backward()
    optimizer.step()
    optimizer.zero_grad()
run.finish()
digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in net.state_dict().values())).hexdigest()
print(json.dumps({"digest": digest}))
dist.barrier()
dist.destroy_process_group()
"""


@dataclass
class Found:
    """By rank: what its page says of its neighbours and of itself. `digest`: of all parameters and buffers."""

    neighbours: list[SelfCheck | None]
    replays: list[SelfCheck | None]
    digests: list[str]
    said: list[str]


def train(folder: Path, parts: int = 1, stuck: int = -1, suspects: str = "012", kind: str = "-") -> Found:
    """`parts`: micro-batches of a step; `suspects`: ranks that are suspicious from the fifth step on; `kind`: of a
    forward that others cannot repeat."""
    (folder / "run").mkdir(mode=0o700, parents=True)
    base = {name: value for name, value in os.environ.items() if not name.startswith(("RYZEN_", "TORCHELASTIC_"))}
    store = TCPStore("127.0.0.1", 0, is_master=True)  # as torchrun's: it is there before the ranks
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, *map(str, (rank, parts, stuck)), suspects, kind],
            env={**base, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
                 "TORCHELASTIC_USE_AGENT_STORE": "True",
                 "RYZEN_RUN_DIR": str(folder / "run"), "TORCHELASTIC_RUN_ID": "job", "RANK": str(rank),
                 "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "RYZEN_GENERATION": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(RANKS)
    ]  # fmt: skip
    told = [rank.communicate(timeout=180) for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), told
    pages = [BeatReader(run_dir.beat_page(folder / "run", "job", rank)) for rank in range(RANKS)]
    said = [beat_self_checks.unpack(each.region(beat_self_checks.AT, beat_self_checks.BYTES)) for each in pages]
    digests = [json.loads(out.splitlines()[-1])["digest"] for out, _ in told]
    standing = [each.get(NEIGHBOURS) for each in said], [each.get(REPLAY) for each in said]
    return Found(*standing, digests, [errors for _, errors in told])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Nobody is suspicious."""
    return train(tmp_path_factory.mktemp("alone"), suspects="-")


@pytest.mark.parametrize("parts", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_device_that_is_always_wrong_in_the_same_way_is_outvoted_by_two_others_and_nobody_else_is(
    tmp_path: Path, parts: int
) -> None:
    found = train(tmp_path, parts, stuck=1)
    assert found.neighbours[1] is not None
    assert found.neighbours[1].differed >= DIFFERED_MAX
    assert (found.neighbours[1].agreed, found.neighbours[1].clean, found.neighbours[1].step) == (0, 0, 5)
    assert found.neighbours[0] is found.neighbours[2] is None, "whom the wrong one disagrees with is not accused"
    assert found.replays[1] is not None
    assert found.replays[1].differed == 0, "it agrees with itself"


def test_healthy_ranks_agree_and_the_help_that_they_give_changes_no_bit(tmp_path: Path, alone: Found) -> None:
    having = train(tmp_path)
    assert having.digests == alone.digests
    assert all(each is not None and (each.agreed, each.differed) == (8, 0) for each in having.neighbours)
    assert alone.neighbours == [None] * RANKS


def test_a_rank_that_is_suspicious_alone_waits_for_nobody_and_accuses_nobody(tmp_path: Path) -> None:
    found = train(tmp_path, suspects="1")
    assert found.neighbours == [None] * RANKS
    assert found.replays[1] is not None
    assert found.replays[1].differed == 0


@pytest.mark.parametrize(
    ("kind", "why", "same"),
    [
        ("collective", "the forward has collectives", True),
        ("picky", "IndexError: this batch is not mine", True),
        ("view", "its dimensions are not in order", False),
        ("chance", "", False),
    ],
)
def test_a_forward_that_others_cannot_repeat_ends_the_help_and_neither_the_training_nor_a_healthy_rank(
    tmp_path: Path, alone: Found, kind: str, why: str, same: bool
) -> None:
    """`same`: its numbers are those of the plain one."""
    having = train(tmp_path, kind=kind)
    assert having.digests == alone.digests or not same
    assert having.neighbours == [None] * RANKS, "nobody is outvoted"
    assert all(why in each for each in having.said)
