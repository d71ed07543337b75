"""A driver that is not there, that cannot be used, or that has fewer GPUs than there should be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ryzen_agent.health.collector import NothingHereError
from ryzen_lab.mock_nvml import Faults

from .looker import SEEN_S, looking, of


def test_no_driver_is_a_healthy_state(tmp_path: Path) -> None:
    with looking(tmp_path) as looker:
        for name in ("gpu", "gpu_events", "gpu_count"):
            with pytest.raises(NothingHereError, match=r"libnvidia-ml\.so\.1"):
                looker.look(name)


@pytest.mark.parametrize(
    ("code", "severity", "action"),
    [(9, "critical", "reboot"), (18, "warning", "reboot"), (999, "warning", "watch_repeat")],
)
def test_a_driver_that_cannot_be_used_is_a_condition_until_it_can(
    faults: Faults, code: int, severity: str, action: str
) -> None:
    faults.driver(init_error=code)
    with looking(faults.folder, expected_gpus=8) as looker:
        said = of(looker.look(), "gpu.driver")
        assert (said.severity, said.action, said.value) == (severity, action, float(code))
        for name in ("gpu_events", "gpu_count"):
            with pytest.raises(NothingHereError):
                looker.look(name)
        faults.driver(init_error=0)
        time.sleep(SEEN_S)
        assert looker.look().conditions == ()


def test_an_image_with_the_library_on_a_node_without_a_gpu_is_healthy(faults: Faults) -> None:
    faults.driver(init_error=9)
    with looking(faults.folder) as looker, pytest.raises(NothingHereError, match="PCI bus"):
        looker.look()


def test_a_gpu_on_the_bus_makes_a_dead_driver_a_condition(faults: Faults, tmp_path: Path) -> None:
    faults.driver(init_error=9)
    on_the_bus(faults.folder / "sys", ["0000:10:00.0"])
    with looking(faults.folder) as looker:
        assert of(looker.look(), "gpu.driver").severity == "warning", "nobody said that it should compute"


def on_the_bus(sys: Path, addresses: list[str], driver: str = "nvidia", kind: str = "0x030200") -> None:
    for address in addresses:
        device = sys / "bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")
        (device / "class").write_text(f"{kind}\n")
        if driver:
            module = sys / "bus/pci/drivers" / driver
            module.mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(module)


def test_as_many_gpus_as_expected_is_well(faults: Faults) -> None:
    with looking(faults.folder, expected_gpus=8) as looker:
        assert looker.look("gpu_count").conditions == ()


def test_fewer_gpus_than_expected_is_critical(faults: Faults) -> None:
    faults.driver(count=7)
    with looking(faults.folder, expected_gpus=8) as looker:
        said = of(looker.look("gpu_count"), "gpu.missing")
        assert (said.severity, said.action, said.value, said.limit) == ("critical", "reboot", 7.0, 8.0)
        faults.driver(count=8)
        time.sleep(SEEN_S)
        assert looker.look("gpu_count").conditions == ()


def test_a_gpu_that_only_the_bus_shows_is_named_by_its_address(faults: Faults) -> None:
    on_the_bus(faults.folder / "sys", [f"{faults.pci(index)}.0" for index in range(8)])
    faults.driver(count=7)
    with looking(faults.folder) as looker:
        said = of(looker.look("gpu_count"), "gpu.missing")
    assert (said.device, said.pci) == (faults.pci(7), faults.pci(7))


def test_a_gpu_that_was_there_is_missed_by_its_uuid(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        assert looker.look("gpu_count").conditions == ()
        faults.driver(count=7)
        time.sleep(SEEN_S)
        said = of(looker.look("gpu_count"), "gpu.missing")
    assert (said.device, said.pci) == (faults.uuid(7), faults.pci(7))


def test_a_container_with_some_of_the_gpus_misses_none(faults: Faults) -> None:
    on_the_bus(faults.folder / "sys", [f"{faults.pci(index)}.0" for index in range(8)])
    faults.driver(count=2)
    with looking(faults.folder, {"NVIDIA_VISIBLE_DEVICES": "0,1"}) as looker:
        assert looker.look("gpu_count").conditions == ()


def test_gpus_that_are_not_there_to_compute_are_not_missed(faults: Faults) -> None:
    on_the_bus(faults.folder / "sys", [f"{faults.pci(index)}.0" for index in range(7)])
    on_the_bus(faults.folder / "sys", ["0000:e0:00.0"], "vfio-pci")
    on_the_bus(faults.folder / "sys", ["0000:e1:00.0"], "", kind="0x030000")  # the console's
    on_the_bus(faults.folder / "sys", ["0000:e2:00.4"])
    (faults.folder / "sys/bus/pci/devices/0000:e2:00.4/physfn").mkdir()  # a virtual function
    faults.driver(count=7)
    with looking(faults.folder) as looker:
        assert looker.look("gpu_count").conditions == ()


def test_expected_gpus_without_any_driver_are_missing(tmp_path: Path) -> None:
    with looking(tmp_path, expected_gpus=8) as looker:
        assert of(looker.look("gpu_count"), "gpu.missing").value == 0.0
