"""On a real NVIDIA GPU: gradient sums are timed by events, and nothing waits for the device."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch")
STEPS = 20


@pytest.fixture
def world(tmp_path: Path, gpus: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A world of one rank on the first GPU, attached."""
    if not torch.cuda.is_available():
        pytest.skip(f"{gpus} GPUs, but torch {torch.__version__} cannot use them")
    monkeypatch.setenv("RYZEN_RUN_DIR", str(tmp_path))
    for name, value in {"TORCHELASTIC_RUN_ID": "job", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RYZEN_ATTACHED_PID", "")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield tmp_path
    torch.distributed.destroy_process_group()


def test_sums_on_a_gpu_are_told_with_plausible_times(world: Path) -> None:
    from torch.nn.parallel import DistributedDataParallel

    import ryzen_trainer
    from ryzen_protos import run_dir
    from ryzen_protos.beat_page import BeatReader
    from ryzen_trainer import communication

    run = ryzen_trainer.attach()
    net = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(6))).cuda()
    model = DistributedDataParallel(net, device_ids=[0], bucket_cap_mb=1)
    assert communication.measure(model, run)
    for _ in run.steps(range(STEPS)):
        model(torch.randn(64, 512, device="cuda")).square().mean().backward()
        torch.cuda.synchronize()  # the test's: events of a step are all passed before the next
    sums = BeatReader(run_dir.beat_page(Path(os.environ["RYZEN_RUN_DIR"]), "job", 0)).sums()
    assert len(sums) > STEPS
    assert all(0 <= ended - began < 1_000_000_000 for began, ended in sums)
    assert sums == sorted(sums)
