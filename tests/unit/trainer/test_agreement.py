"""How ranks agree, seen from one of them."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import torch.distributed as dist

from ryzen_trainer.checkpoint.agreement import Ranks


def test_a_checkpointer_that_lives_on_does_not_keep_the_process_group_alive(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    ranks = Ranks()
    assert ranks.all_true(True)
    group = weakref.ref(dist.group.WORLD)
    dist.destroy_process_group()
    gc.collect()
    assert group() is None
