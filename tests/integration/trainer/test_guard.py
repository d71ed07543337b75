"""The gradient guard in real training runs: two ranks, gloo, on the CPU."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatReader, Event, Skip

SCRIPT = """
import hashlib, json, sys
import torch, torch.distributed as dist
import ryzen_trainer
from ryzen_trainer.guard import GradientGuard
from ryzen_trainer.norms import Limits

rank, folder, what, act, wrap = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "on", sys.argv[5]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
run = ryzen_trainer.attach()
torch.manual_seed(0)
deep = [layer for _ in range(3) for layer in (torch.nn.Linear(64, 64), torch.nn.ReLU())]
net = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), *deep, torch.nn.Linear(64, 1))
if wrap == "ddp":
    model = torch.nn.parallel.DistributedDataParallel(net)
else:
    from torch.distributed.fsdp import fully_shard
    model = fully_shard(net, mesh=torch.distributed.device_mesh.init_device_mesh("cpu", (2,)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.07)
guard = GradientGuard(model, optimizer, run=run, limits=Limits(sigmas=1000, warmup=20, rollback_after=3), act=act)
chance = torch.Generator().manual_seed(10 + rank)
losses, skipped, usual = [], [], 0.0
for step in run.steps(range(120)):
    inputs = torch.randn(64, 8, generator=chance)
    loss = (model(inputs) - inputs.sin().sum(1, keepdim=True)).square().mean()
    losses.append(float(loss))
    loss.backward()
    if step == 60 and what == "spike":     # after the mean: the same on both ranks, as a bad batch would be
        usual = guard._norms.mean
        total = torch.nn.utils.get_total_norm([each.grad for each in model.parameters()])
        total = float(total.full_tensor() if wrap == "fsdp" else total)
        for each in model.parameters():
            each.grad.mul_(50.0 * usual / total)
    if 60 <= step < 70 and what == "nan":
        for each in model.parameters():
            each.grad.mul_(float("nan"))
    if not guard.step():
        skipped.append(step)
    optimizer.zero_grad()
run.finish()
digest = hashlib.sha256(b"".join(
    (each.full_tensor() if wrap == "fsdp" else each).detach().numpy().tobytes() for each in model.parameters()))
print(json.dumps({"losses": losses, "skipped": skipped, "digest": digest.hexdigest(), "usual": usual,
                  "state": guard.state_dict()}))
dist.destroy_process_group()
"""


def train(folder: Path, what: str, guard: str = "on", wrap: str = "ddp") -> list[dict[str, Any]]:
    folder.mkdir()
    (folder / "run").mkdir(mode=0o700)
    base = {name: value for name, value in os.environ.items() if not name.startswith(("RYZEN_", "TORCHELASTIC_"))}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(rank), str(folder), what, guard, wrap],
            env={**base, "RYZEN_RUN_DIR": str(folder / "run"), "TORCHELASTIC_RUN_ID": "job", "RANK": str(rank),
                 "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "RYZEN_GENERATION": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [rank.communicate(timeout=120) for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), told
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def events(folder: Path, rank: int) -> list[tuple[int, int, int]]:
    reader = BeatReader(run_dir.beat_page(folder / "run", "job", rank))
    return [(each.kind, each.step, each.detail) for each in reader.events()]


def late_loss(told: dict[str, Any]) -> float:
    return max(loss if math.isfinite(loss) else math.inf for loss in told["losses"][-20:])


@pytest.mark.parametrize("wrap", ["ddp", "fsdp"])
def test_a_spike_is_skipped_by_all_ranks_alike_and_training_goes_on_which_without_the_guard_diverges(
    tmp_path: Path, wrap: str
) -> None:
    guarded = train(tmp_path / "on", "spike", wrap=wrap)
    assert [each["skipped"] for each in guarded] == [[60], [60]]
    assert guarded[0]["digest"] == guarded[1]["digest"]
    assert guarded[0]["state"] == guarded[1]["state"]
    before = max(guarded[0]["losses"][40:60])
    assert late_loss(guarded[0]) < before
    for rank in range(2):
        assert events(tmp_path / "on", rank) == [(Event.STEP_SKIPPED, 60, Skip.SPIKE)]
    bare = train(tmp_path / "off", "spike", guard="off", wrap=wrap)
    assert bare[0]["losses"][:61] == guarded[0]["losses"][:61]
    assert late_loss(bare[0]) == math.inf


def test_a_row_of_nan_leaves_the_parameters_alone_and_a_rollback_is_asked_for_once(tmp_path: Path) -> None:
    told = train(tmp_path / "nan", "nan")
    assert [each["skipped"] for each in told] == [list(range(60, 70))] * 2
    assert all(math.isfinite(loss) for loss in told[0]["losses"])
    skips = [(Event.STEP_SKIPPED, step, Skip.NONFINITE) for step in range(60, 70)]
    for rank in range(2):
        assert events(tmp_path / "nan", rank) == [*skips[:3], (Event.ROLLBACK_WANTED, 60, 0), *skips[3:]]
