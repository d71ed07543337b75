"""AMD's GPUs through a stand-in of `amdsmi` at the import: the real one binds hundreds of symbols of ROCm's library.

What a real one answers is not tested by this.
"""

from __future__ import annotations

import sys
import types
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.collectors.amd_gpu import AmdGpuCollector
from ryzen_agent.health.settings import HealthSettings


class AmdSmiException(Exception):  # noqa: N818 - its name
    pass


class Refused(AmdSmiException):
    def __init__(self, code: int) -> None:
        super().__init__(f"Error code:\n\t{code} | no")
        self.err_code = code


class Sensor(IntEnum):
    HOTSPOT = 1
    VRAM = 2


class Metric(IntEnum):
    CURRENT = 0
    CRITICAL = 1
    EMERGENCY = 2


def answers() -> dict[str, Any]:
    """Of a healthy GPU, by the end of the function's name."""
    return {
        "gpu_device_uuid": "a4ff74a1-0000-1000-80a9-b23a5c5d0bb5",
        "gpu_device_bdf": "0000:c1:00.0",
        "gpu_asic_info": {"market_name": "AMD Instinct MI300X"},
        "temp_metric": {(1, 0): 55, (2, 0): 48, (1, 1): 100, (1, 2): 105, (2, 1): 108},
        "power_info": {"socket_power": "N/A", "current_socket_power": 350, "average_socket_power": "N/A"},
        "power_cap_info": {"power_cap": 750_000_000, "default_power_cap": 750_000_000, "min_power_cap": 0,
                           "max_power_cap": 750_000_000},
        "energy_count": {"energy_accumulator": 1000, "counter_resolution": 15.3},
        "violation_status": {"active_prochot_thrm": False, "active_ppt_pwr": True, "active_hbm_thrm": "N/A"},
        "gpu_activity": {"gfx_activity": 97},
        "gpu_vram_usage": {"vram_used": 1024, "vram_total": 196288},
        "gpu_total_ecc_count": {"correctable_count": 2, "uncorrectable_count": 0},
        "gpu_bad_page_info": [],
        "gpu_bad_page_threshold": 256,
        "gpu_process_list": [{"pid": 77}],
        "gpu_xgmi_link_status": {"status": ["U", "U", "X"]},
        "pcie_info": {"pcie_static": {"max_pcie_width": 16, "pcie_interface_version": 5},
                      "pcie_metric": {"pcie_width": 16, "pcie_speed": 32000, "pcie_replay_count": 0}},
    }  # fmt: skip


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "module/amdgpu").mkdir(parents=True)
    given = answers()
    smi = types.ModuleType("amdsmi")
    names = {"AmdSmiException": AmdSmiException, "AmdSmiTemperatureType": Sensor, "AmdSmiTemperatureMetric": Metric}
    for name, value in {**names, "amdsmi_init": lambda: None, "amdsmi_get_processor_handles": lambda: ["one"]}.items():
        setattr(smi, name, value)

    def answer(name: str) -> Any:
        def asked(handle: str, *key: int) -> Any:
            value = given[name]
            value = value[tuple(map(int, key))] if key else value
            if isinstance(value, Exception):
                raise value
            return value

        return asked

    for name in given:
        setattr(smi, f"amdsmi_get_{name}", answer(name))
    monkeypatch.setitem(sys.modules, "amdsmi", smi)
    return given


def test_no_driver_is_a_healthy_state_and_the_library_is_not_even_imported(tmp_path: Path) -> None:
    with pytest.raises(NothingHereError, match="amdgpu"):
        AmdGpuCollector(HealthSettings(sys=tmp_path)).collect()


def test_a_driver_without_the_library_is_a_healthy_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module/amdgpu").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with pytest.raises(NothingHereError, match="amdsmi"):
        AmdGpuCollector(HealthSettings(sys=tmp_path)).collect()


def test_a_healthy_gpu_is_measured_under_the_same_names(gpu: dict[str, Any], tmp_path: Path) -> None:
    reading = AmdGpuCollector(HealthSettings(sys=tmp_path)).collect()
    assert reading.conditions == ()
    assert reading.devices == (("0000:c1:00", gpu["gpu_device_uuid"]),)
    assert reading.processes == ((77, gpu["gpu_device_uuid"]),)
    found = {each.name: each.value for each in reading.samples}
    assert (found["hw.power"], found["ryzen.gpu.power.limit"], found["hw.gpu.utilization"]) == (350, 750, 0.97)
    assert found["hw.energy"] == pytest.approx(0.0153)
    assert found["hw.gpu.memory.usage"] == 1 << 30
    assert (found["ryzen.gpu.pcie.generation"], found["ryzen.gpu.nvlink.active"]) == (5, 2)


def test_what_is_wrong_with_it_is_said_by_the_same_rules(gpu: dict[str, Any], tmp_path: Path) -> None:
    collector = AmdGpuCollector(HealthSettings(sys=tmp_path))
    collector.collect()
    gpu["violation_status"]["active_hbm_thrm"] = True
    gpu["gpu_xgmi_link_status"] = {"status": ["U", "D", "X"]}
    gpu["gpu_bad_page_info"] = [{"status": 0}] * 255 + [{"status": 1}]
    gpu["temp_metric"][1, 0] = 101_000
    collector.collect()
    said = {each.name: each for each in collector.collect().conditions}
    assert set(said) == {
        "gpu.throttled",
        "gpu.nvlink_down",
        "gpu.pages_retired",
        "gpu.page_retirement_pending",
        "gpu.hot",
    }
    assert said["gpu.pages_retired"].limit == 256
    assert said["gpu.hot"].value == 101


def test_readings_that_it_does_not_have_are_left_out(gpu: dict[str, Any], tmp_path: Path) -> None:
    for name in ("violation_status", "gpu_total_ecc_count", "energy_count", "gpu_xgmi_link_status", "power_cap_info"):
        gpu[name] = Refused(2)
    collector = AmdGpuCollector(HealthSettings(sys=tmp_path))
    assert collector.collect().conditions == ()
    assert collector.collect().conditions == ()


def test_errors_of_a_library_that_nobody_here_has_seen_only_warn(gpu: dict[str, Any], tmp_path: Path) -> None:
    collector = AmdGpuCollector(HealthSettings(sys=tmp_path))
    collector.collect()
    for name in ("power_info", "gpu_activity", "gpu_vram_usage", "pcie_info"):
        gpu[name] = Refused(13)
    for _ in range(3):
        said = collector.collect().conditions
    assert [(each.name, each.severity) for each in said] == [("gpu.unknown_error", "warning")]
