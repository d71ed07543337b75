"""Ranks save and restore together: what strikes one of them is known to all, and all take the same checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RANKS = 2
SCRIPT = """
import json, logging, resource, sys
from pathlib import Path
import torch, torch.distributed as dist
from ryzen_trainer.checkpoint import Checkpointer
from ryzen_trainer.errors import CheckpointError

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("ryzen_trainer").addHandler(handler)
seen = {}

def checkpointer(where):
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 64)).sum().backward()
    optimizer.step()
    return Checkpointer(folder / where, model, optimizer, global_batch=4)

def line(call):
    try:
        return call()
    except CheckpointError as error:
        return f"{type(error).__name__}: {error}"

def limited(call):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        return line(call)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

one = checkpointer("a")
seen["writable"] = line(one.check_writable)
seen["empty"] = line(one.restore)
one.save(1, 4)
one.save(2, 8)
seen["full"] = limited(lambda: one.save(3, 12))
seen["names"] = sorted(each.name[:13] for each in (folder / "a").iterdir())
dist.barrier()
if rank == 0:
    shard = max((folder / "a").glob("*/__1_0.distcp"), key=str)
    shard.write_bytes(shard.read_bytes()[:-1])
dist.barrier()
del said[:]
seen["damaged"] = line(lambda: checkpointer("a").restore().step)
seen["said"] = list(said)
apart = checkpointer(f"apart-{rank}")
seen["apart"] = line(apart.check_writable)
seen["apart save"] = line(lambda: apart.save(1, 4))
print(json.dumps(seen))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks saw; run once, for the imports take seconds."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), str(folder)], stdout=subprocess.PIPE, env=environment
        )
        for rank in range(RANKS)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    return [{**json.loads(output), "folder": str(folder)} for output in outputs]


def test_a_shared_folder_is_writable_and_empty_at_first(ranks: list[dict[str, Any]]) -> None:
    for seen in ranks:
        assert (seen["writable"], seen["empty"]) == (None, None)


def test_a_disk_that_is_full_for_one_rank_fails_the_checkpoint_on_all(ranks: list[dict[str, Any]]) -> None:
    for seen in ranks:
        assert seen["full"].startswith(f"CheckpointFolderError: checkpoint folder {seen['folder']}/a is full")
        assert "\n" not in seen["full"]


def test_the_checkpoints_before_a_failed_one_stay_and_its_remains_go(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["names"] == ["step-00000001", "step-00000002"]


def test_damage_that_one_rank_finds_makes_all_take_the_one_before(ranks: list[dict[str, Any]]) -> None:
    assert [seen["damaged"] for seen in ranks] == [1, 1]
    assert sum("__1_0.distcp has" in line for seen in ranks for line in seen["said"]) == 1


def test_folders_that_only_have_the_same_name_are_found_before_the_first_step(ranks: list[dict[str, Any]]) -> None:
    assert "is not the same for all ranks (what rank 0 wrote is not there)" in ranks[1]["apart"]
    assert ranks[0]["apart"].endswith("rank 1 failed and says why")


def test_a_checkpoint_whose_shards_are_not_all_seen_is_not_committed(ranks: list[dict[str, Any]]) -> None:
    assert "is not the same for all ranks (__1_0.distcp has None bytes here" in ranks[0]["apart save"]
    assert ranks[1]["apart save"].startswith("CheckpointFolderError")
    assert not list(Path(ranks[0]["folder"]).glob("apart-*/*/manifest.json"))
