"""What a rank leaves open for the agent, and what it counts and declares for the coordinator."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ryzen_trainer.run import Run, resume_at_most

from .test_attach import in_rank, now, page, rank

__all__ = ["rank"]


def test_a_declared_pause_names_itself_whatever_is_entered_within(rank: Run, tmp_path: Path) -> None:
    rank.step(1)
    with rank.section("forward"), rank.pause("evaluation"):
        assert now(tmp_path).section == "(pause) evaluation"
        with rank.section("data"), rank.pause("evaluation"), rank.pause():
            assert now(tmp_path).section == "(pause) evaluation"
        assert now(tmp_path).section == "(pause) evaluation"
    assert now(tmp_path).section == "", "the last exit is of the outermost"
    with rank.section("data"):
        assert now(tmp_path).section == "data"


@pytest.mark.parametrize(
    ("text", "limit"), [("40", 40), ("0", 0), ("", None), ("-1", None), ("4e3", None), ("٣", None)]
)
def test_the_newest_step_to_resume_from_is_a_number_of_steps(text: str, limit: int | None) -> None:
    assert resume_at_most(text) == limit


def test_without_torch_no_collective_is_counted(rank: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch.distributed.distributed_c10d", raising=False)
    rank.step(1)
    assert now(tmp_path).collectives == 0


def test_a_group_that_cannot_count_does_not_stop_the_loop(
    rank: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Group:
        def _get_sequence_number_for_group(self) -> int:
            raise RuntimeError("this backend does not count")

    c10d = SimpleNamespace(_world=SimpleNamespace(default_pg=Group()))
    monkeypatch.setitem(sys.modules, "torch.distributed.distributed_c10d", c10d)
    rank.step(1)
    assert now(tmp_path).collectives == 0


COLLECTIVES = """
import os
import torch, torch.distributed as dist, ryzen_trainer
from ryzen_protos import run_dir
run = ryzen_trainer.attach()
store = f"file://{os.environ['RYZEN_RUN_DIR']}/store"
for world in range(2):
    dist.init_process_group("gloo", init_method=f"{store}{world}", rank=0, world_size=1)
    for step in range(3):
        run.step(10 * world + step)
        dist.all_reduce(torch.ones(1))
    run.step(10 * world + 3)
    dist.destroy_process_group()
run.step(20)
print(oct(run_dir.worker_socket(run_dir.default_path(), "job", 1).stat().st_mode & 0o777))
"""


def test_collectives_are_counted_across_a_group_that_is_made_again(tmp_path: Path) -> None:
    done = in_rank(COLLECTIVES, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "0o600")
    counts = {each.step: each.collectives for each in page(tmp_path).steps()}
    assert [counts[step] - counts[0] for step in (0, 1, 2, 3)] == [0, 1, 2, 3]
    assert [counts[step] - counts[10] for step in (10, 11, 12, 13)] == [0, 1, 2, 3]
    assert now(tmp_path).collectives == 0, "no group any more"


def test_a_script_that_uses_the_signal_itself_keeps_it(tmp_path: Path) -> None:
    script = """
import os, signal, sys, ryzen_trainer
from ryzen_protos import run_dir
signal.signal(run_dir.STACK_SIGNAL, lambda *_: print("mine"))
ryzen_trainer.attach()
os.kill(os.getpid(), run_dir.STACK_SIGNAL)
"""
    done = in_rank(script, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "mine")
