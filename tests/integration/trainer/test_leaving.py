"""A rank whose gloo threads still hold tensors when the script ends is not aborted by that.

The script makes the race all but certain: it lets go of a collective before its peer has entered it, so that gloo's
thread is the one to drop the tensor, and keeps the interpreter's lock from then to its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ryzen_protos import run_dir
from ryzen_trainer.leaving import let_gloo_finish

SCRIPT = """
import os, sys, time
import torch, torch.distributed as dist
import ryzen_trainer
from ryzen_trainer.checkpoint import Checkpointer

how, folder, destroyed = sys.argv[1], sys.argv[2], sys.argv[3] == "destroyed"
peer = os.fork() == 0
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=int(peer), world_size=2)
if peer:
    time.sleep(0.3)
    dist.all_reduce(torch.ones(1))
    os._exit(0)
if how == "attach":
    assert ryzen_trainer.attach().attached
    kept = dist.group.WORLD
else:
    model = torch.nn.Linear(2, 2)
    kept = Checkpointer(f"{folder}/checkpoints", model, torch.optim.SGD(model.parameters()), global_batch=1)

def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

sys.setswitchinterval(1000)
if destroyed:  # what holds the group keeps its threads alive
    group = dist.group.WORLD
    dist.destroy_process_group()
    group.allreduce([torch.ones(1)])
else:
    dist.all_reduce(torch.ones(1), async_op=True)
spin(1)  # gloo's thread gets to the lock in it, on a busy machine too
"""


@pytest.mark.parametrize("group", ["destroyed", "left"])
@pytest.mark.parametrize("how", ["attach", "checkpointer"])
def test_a_rank_that_ends_while_gloo_lets_go_of_a_tensor_ends_well(tmp_path: Path, how: str, group: str) -> None:
    assert _leave(tmp_path, how, group) == (0, "")


@pytest.mark.long
@pytest.mark.parametrize("group", ["destroyed", "left"])
def test_it_ends_well_a_hundred_times(tmp_path: Path, group: str) -> None:
    for number in range(100):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert _leave(folder, "checkpointer", group) == (0, "")


def test_a_process_without_gloo_does_not_wait_at_its_exit() -> None:
    began = time.thread_time()
    assert let_gloo_finish(limit_s=0)
    assert time.thread_time() - began < 1


def _leave(folder: Path, how: str, group: str) -> tuple[int, str]:
    """The exit code of a rank and what it said on stderr."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", "TORCHELASTIC_RUN_ID": "leaving",
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", run_dir.ENVIRONMENT: str(folder),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how, str(folder), group], env=environment, stderr=subprocess.PIPE, timeout=120
    )
    return done.returncode, done.stderr.decode()
