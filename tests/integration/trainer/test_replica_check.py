"""The replica check in real training: two ranks, gloo, on the CPU. What each tells is read from its beat page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ryzen_protos import run_dir
from ryzen_protos.beat_checks import Check
from ryzen_protos.beat_page import BeatReader

SCRIPT = """
import json, sys
import torch, torch.distributed as dist
import ryzen_trainer
from ryzen_trainer.corruption import ReplicaCheck
from ryzen_trainer.guard import GradientGuard

rank, folder, wrap, flip_at, huge_at = int(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
run = ryzen_trainer.attach()
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(8, 33), torch.nn.ReLU(), torch.nn.Linear(33, 1))
if wrap == "ddp":
    model = torch.nn.parallel.DistributedDataParallel(net)
else:
    from torch.distributed.fsdp import fully_shard
    shape, names = ((2, 1), ("replicate", "shard")) if wrap == "hsdp" else ((2,), ("shard",))
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", shape, mesh_dim_names=names)
    model = fully_shard(net, mesh=mesh)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
check = ReplicaCheck(model, run, every=5)
guarded = GradientGuard(model, optimizer, run=run, on_skip=check.suspect) if huge_at >= 0 else optimizer
chance = torch.Generator().manual_seed(rank)
for step in run.steps(range(32 if huge_at < 0 else 20)):
    if step == huge_at and rank == 1:
        next(iter(model.parameters())).detach()[2, 3] = -2e36
    inputs = torch.randn(16, 8, generator=chance)
    (model(inputs) - inputs.sum(1, keepdim=True)).square().mean().backward()
    guarded.step()
    optimizer.zero_grad()
    if step == flip_at and rank == 1:
        weight = next(iter(model.parameters())).detach()
        weight = weight.to_local() if hasattr(weight, "to_local") else weight
        weight.view(torch.int32)[2, 3] ^= 1          # the lowest bit of one weight
    check.step()
run.finish()
print(json.dumps({"why_not": check.why_not}))
dist.destroy_process_group()
"""


def train(
    folder: Path, wrap: str, flip_at: int, huge_at: int = -1
) -> tuple[list[dict[str, Any]], list[tuple[Check, ...]]]:
    (folder / "run").mkdir(mode=0o700)
    base = {name: value for name, value in os.environ.items() if not name.startswith(("RYZEN_", "TORCHELASTIC_"))}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(rank), str(folder), wrap, str(flip_at), str(huge_at)],
            env={**base, "RYZEN_RUN_DIR": str(folder / "run"), "TORCHELASTIC_RUN_ID": "job", "RANK": str(rank),
                 "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "RYZEN_GENERATION": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [rank.communicate(timeout=120) for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), told
    pages = [BeatReader(run_dir.beat_page(folder / "run", "job", rank)) for rank in range(2)]
    return [json.loads(out.splitlines()[-1]) for out, _ in told], [page.checks() for page in pages]


@pytest.mark.parametrize("wrap", ["ddp", "hsdp"])
def test_one_wrong_bit_on_one_replica_is_in_every_digest_from_the_next_check_on(tmp_path: Path, wrap: str) -> None:
    _, (one, other) = train(tmp_path, wrap, flip_at=16)
    assert [each.step for each in one] == [each.step for each in other] == [1, 5, 10, 15, 20, 25, 30]
    assert {each.group for each in [*one, *other]} == {0}
    same = [mine.digest == theirs.digest for mine, theirs in zip(one, other, strict=True)]
    assert same == [True, True, True, True, False, False, False]
    assert len({each.digest for each in one}) == len(one), "training changes the parameters, and so the digest"


def test_without_replicas_the_check_says_so_and_tells_nothing(tmp_path: Path) -> None:
    told, checks = train(tmp_path, "fsdp", flip_at=16)
    assert [each["why_not"] for each in told] == ["every rank holds a shard of its own: there are no replicas"] * 2
    assert [list(each) for each in checks] == [[], []]


def test_a_weight_that_became_huge_is_in_the_digests_of_the_very_step_that_all_ranks_skip(tmp_path: Path) -> None:
    _, (one, other) = train(tmp_path, "ddp", flip_at=-1, huge_at=16)
    assert [each.step for each in one] == [each.step for each in other] == [1, 5, 10, 15, 17, 18, 19, 20]
    same = [mine.digest == theirs.digest for mine, theirs in zip(one, other, strict=True)]
    assert same == [True] * 4 + [False] * 4
