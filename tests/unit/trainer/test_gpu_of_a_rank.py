"""A rank says which GPU it computes on, as soon as that is known, and CUDA is not started for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatReader
from ryzen_trainer import attaching

TORCHRUN = {"TORCHELASTIC_RUN_ID": "job", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "RYZEN_GENERATION": "3"}


def device(folder: Path) -> tuple[str, str]:
    return BeatReader(run_dir.beat_page(folder, "job", 1)).device()


def in_rank(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **TORCHRUN, "RYZEN_RUN_DIR": str(folder), attaching.ATTACHED: ""}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)


CUDA = """
import sys, types
import ryzen_trainer
memory = {0: 0, 1: 0, 2: 0, 3: 0}
cuda = sys.modules["torch.cuda"] = types.ModuleType("torch.cuda")
cuda.is_initialized = lambda: cuda.started
cuda.started = True
cuda.device_count = lambda: len(memory)
cuda.memory_allocated = lambda index: memory[index]
cuda.current_device = lambda: 0
cuda.get_device_properties = lambda index: types.SimpleNamespace(
    uuid=f"0000000{index}-aaaa", pci_domain_id=0, pci_bus_id=0x10 * (index + 1), pci_device_id=0)
run = ryzen_trainer.attach()
"""
"""What `torch.cuda` answers of a process that has started CUDA, where there is no GPU to start it on."""


def test_the_gpu_on_which_the_rank_has_memory_is_in_its_page_from_the_first_step_on(tmp_path: Path) -> None:
    in_rank(CUDA + "memory[3] = 5\nrun.step(0)\n", tmp_path)
    assert device(tmp_path) == ("GPU-00000003-aaaa", "0000:40:00")


def test_of_several_gpus_the_current_one_counts_and_else_the_fullest(tmp_path: Path) -> None:
    in_rank(CUDA + "memory.update({0: 1, 2: 9})\nrun.step(0)\n", tmp_path)
    assert device(tmp_path)[1] == "0000:10:00"
    in_rank(CUDA + "memory.update({1: 1, 2: 9})\nrun.step(0)\n", tmp_path)
    assert device(tmp_path)[1] == "0000:30:00"


def test_a_model_that_is_moved_in_the_first_step_is_found_at_the_second(tmp_path: Path) -> None:
    in_rank(CUDA + "cuda.started = False\nrun.step(0)\ncuda.started = True\nmemory[1] = 2\nrun.step(1)\n", tmp_path)
    assert device(tmp_path)[1] == "0000:20:00"


def test_a_rank_that_uses_no_gpu_is_not_asked_for_ever(tmp_path: Path) -> None:
    asked = "count = []\ncuda.is_initialized = lambda: count.append(1)\n"
    told = in_rank(CUDA + asked + "for n in range(100): run.step(n)\nprint(len(count))\n", tmp_path)
    assert told.stdout == f"{attaching.DEVICE_LOOKS}\n"
    assert device(tmp_path) == ("", "")


def test_a_driver_that_fails_when_it_is_asked_does_not_stop_the_loop(tmp_path: Path) -> None:
    told = in_rank(CUDA + "cuda.memory_allocated = lambda index: 1 / 0\nrun.step(0)\nprint('on')\n", tmp_path)
    assert told.stdout == "on\n"


def test_what_the_script_says_it_computes_on_stands(tmp_path: Path) -> None:
    script = "import ryzen_trainer\nrun = ryzen_trainer.attach(device='GPU-1')\nrun.step(0)\n"
    in_rank(script, tmp_path)
    assert device(tmp_path) == ("GPU-1", "")
    in_rank(script + "run.computes_on('GPU-7', '0000:07:00')\n", tmp_path)
    assert device(tmp_path) == ("GPU-7", "0000:07:00")


def test_cuda_is_neither_imported_nor_started_for_it(tmp_path: Path) -> None:
    script = "import sys, ryzen_trainer\nrun = ryzen_trainer.attach()\nfor n in range(5): run.step(n)\n"
    assert in_rank(script + "print('torch' in sys.modules)\n", tmp_path).stdout == "False\n"
    started = in_rank("import torch\n" + script + "print(torch.cuda.is_initialized())\n", tmp_path)
    assert started.stdout == "False\n"
