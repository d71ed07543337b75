"""Step replay under DDP: two ranks, gloo, on the CPU. One of them replays every step and the other none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ryzen_protos import beat_self_checks, run_dir
from ryzen_protos.beat_page import BeatReader
from ryzen_protos.beat_self_checks import REPLAY, SelfCheck

SCRIPT = """
import hashlib, json, sys
from contextlib import nullcontext
import torch, torch.distributed as dist
from torch import nn
import ryzen_trainer
from ryzen_trainer.corruption import StepReplay

rank, folder, every, flip_at, kind = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
run = ryzen_trainer.attach()
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 33), nn.BatchNorm1d(33), nn.Dropout(0.2), nn.ReLU(), nn.Linear(33, 1))
if kind == "sharded":
    from torch.distributed.fsdp import fully_shard
    model = fully_shard(net[0]) and net
    for part in (net[4],):
        fully_shard(part)
else:
    model = nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=kind == "views")
replay = StepReplay(model, run, every=every if rank else 0)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
chance = torch.Generator().manual_seed(rank)
torch.manual_seed(5 + rank)
calls = 0
def flip(gradient):
    global calls
    calls += 1
    if rank and calls == flip_at:
        gradient = gradient.clone()
        gradient.view(torch.int32)[2, 3] ^= 1
    return gradient
if kind != "sharded":
    net[0].weight.register_hook(flip)
for step in run.steps(range(20)):
    for part in range(2):
        inputs = torch.randn(16, 8, generator=chance)
        def loss():
            return (model(inputs) - inputs.sum(1, keepdim=True)).square().mean() / 2
        alone = model.no_sync() if part == 0 and kind != "sharded" else nullcontext()
        with alone, replay.of(loss):
            loss().backward()
    optimizer.step()
    optimizer.zero_grad()
run.finish()
state = [each.full_tensor() if hasattr(each, "full_tensor") else each for each in net.state_dict().values()]
digest = hashlib.sha256(b"".join(each.numpy().tobytes() for each in state)).hexdigest()
weights = float(sum(each.detach().double().sum() for each in net.parameters())) if kind != "sharded" else 0.0
print(json.dumps({"digest": digest, "weights": weights, "why_not": replay.why_not}))
dist.destroy_process_group()
"""


def train(folder: Path, every: int, flip_at: int, kind: str) -> tuple[list[dict[str, Any]], SelfCheck | None]:
    """What each rank prints, and what the page of rank 1 says."""
    (folder / "run").mkdir(mode=0o700, parents=True)
    base = {name: value for name, value in os.environ.items() if not name.startswith(("RYZEN_", "TORCHELASTIC_"))}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(rank), str(folder), str(every), str(flip_at), kind],
            env={**base, "RYZEN_RUN_DIR": str(folder / "run"), "TORCHELASTIC_RUN_ID": "job", "RANK": str(rank),
                 "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "RYZEN_GENERATION": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [rank.communicate(timeout=180) for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), told
    page = BeatReader(run_dir.beat_page(folder / "run", "job", 1))
    said = beat_self_checks.unpack(page.region(beat_self_checks.AT, beat_self_checks.BYTES)).get(REPLAY)
    return [json.loads(out.splitlines()[-1]) for out, _ in told], said


@pytest.mark.parametrize("kind", ["copies", "views"])
def test_replays_of_one_rank_add_no_collective_and_change_no_bit(tmp_path: Path, kind: str) -> None:
    without, _ = train(tmp_path / "without", 0, 0, kind)
    having, said = train(tmp_path / "with", 1, 0, kind)
    assert [each["digest"] for each in having] == [each["digest"] for each in without]
    assert said == SelfCheck(REPLAY, agreed=16, clean=2)


def test_a_wrong_bit_before_the_sum_is_the_same_on_both_ranks_and_seen_on_the_one_that_made_it(tmp_path: Path) -> None:
    backwards = 2 * 2 + 3 * 10  # two steps of two micro-batches, then a replay in each
    told, said = train(tmp_path, 1, backwards + 1, "copies")
    assert len({each["weights"] for each in told}) == 1
    assert said is not None
    assert (said.agreed, said.differed, said.clean, said.step) == (10, 1, 12, 13)


def test_with_sharded_parameters_it_says_why_not(tmp_path: Path) -> None:
    told, said = train(tmp_path, 1, 0, "sharded")
    assert told[1]["why_not"] == "parameters are sharded"
    assert said is None
