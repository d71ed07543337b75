"""On a real NVIDIA GPU: sections by its own time, MFU against its real peak, digests that do not depend on chance."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

torch = pytest.importorskip("torch")
SIDE = 8192


@pytest.fixture
def folder(tmp_path: Path, gpus: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An attached rank's run directory, with the first GPU in use."""
    if not torch.cuda.is_available():
        pytest.skip(f"{gpus} GPUs, but torch {torch.__version__} cannot use them")
    from ryzen_trainer import attaching

    monkeypatch.setenv("RYZEN_RUN_DIR", str(tmp_path))
    for name, value in {"TORCHELASTIC_RUN_ID": "job", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(attaching.ATTACHED, "")
    monkeypatch.setattr(attaching, "_runs", {})
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return tmp_path


def test_sections_are_timed_on_the_device_and_nothing_waits_for_it(folder: Path) -> None:
    import ryzen_trainer
    from ryzen_protos import run_dir
    from ryzen_protos.beat_page import BeatReader

    matrix = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16)
    matrix @ matrix
    torch.cuda.synchronize()
    run = ryzen_trainer.attach()
    asked_s = time.monotonic()
    for _ in run.steps(range(12)):
        with run.section("forward"):
            for _ in range(10):
                matrix @ matrix
        with run.section("backward"):
            for _ in range(20):
                matrix @ matrix
    queued_s = time.monotonic() - asked_s
    torch.cuda.synchronize()
    done_s = time.monotonic() - asked_s
    run.step(12)
    run.step(13)
    assert queued_s < done_s / 2, "the loop has not waited for the device"
    reader = BeatReader(run_dir.beat_page(folder, "job", 0))
    names, newest = reader.section_names(), list(reader.steps())[3:12]
    forward, backward = (sum(each.sections[names.index(name)] for each in newest) for name in ("forward", "backward"))
    assert backward / forward == pytest.approx(2.0, rel=0.1)
    assert sum(sum(each.sections) for each in newest) == pytest.approx(
        sum(each.duration_ns for each in newest) / 1e9, rel=0.02
    )


def test_the_peak_is_one_that_a_large_product_comes_near_and_does_not_pass(folder: Path) -> None:
    from ryzen_trainer.throughput.device import peak_of

    peak = peak_of(torch.device("cuda"), torch.bfloat16)
    if peak is None:
        pytest.skip(f"no peak is known of {torch.cuda.get_device_name()}")
    matrix = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(5):
        matrix @ matrix
    began.record()
    for _ in range(50):
        matrix @ matrix
    ended.record()
    ended.synchronize()
    share = 50 * 2 * SIDE**3 / (began.elapsed_time(ended) / 1e3) / peak
    assert 0.4 < share < 1.02, f"{share:.1%} of {peak:.3g} FLOP/s"


def test_the_digest_of_parameters_is_the_same_a_hundred_times(folder: Path) -> None:
    from ryzen_trainer.corruption.digest import digest_on_device

    net = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(4))).cuda()
    tensors = [each.detach() for each in net.parameters()]
    assert len({int(digest_on_device(tensors)) for _ in range(100)}) == 1
