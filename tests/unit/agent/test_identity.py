"""Who a node says that it is."""

from __future__ import annotations

import os
from pathlib import Path

from ryzen_agent import identity

INFORMATION = """Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 121
GPU UUID: \t GPU-7d1a6c2e-9b7e-4b0c-8a5e-0c9f5f2c1d3b
Video BIOS: \t 96.00.74.00.01
Bus Type: \t PCIe
DMA Size: \t 52 bits
Bus Location: \t 0000:1b:00.0
Device Minor: \t 0
GPU Excluded:\t No
"""


def test_the_model_of_the_gpus_is_the_drivers_word(tmp_path: Path) -> None:
    (tmp_path / "0000:1b:00.0").mkdir()
    (tmp_path / "0000:1b:00.0" / "information").write_text(INFORMATION)
    assert identity.device_model(tmp_path) == "NVIDIA H100 80GB HBM3"


def test_a_node_without_gpus_has_no_model(tmp_path: Path) -> None:
    assert identity.device_model(tmp_path / "none") == ""


def test_a_driver_that_hangs_does_not_hold_the_agent(tmp_path: Path) -> None:
    (tmp_path / "0000:1b:00.0").mkdir()
    os.mkfifo(tmp_path / "0000:1b:00.0" / "information")  # nobody will ever write to it
    assert identity.device_model(tmp_path) == ""
