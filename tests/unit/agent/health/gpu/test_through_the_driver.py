"""Each fault of the (mock) driver, through the real bindings, becomes the right condition, event and sample."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.model import Condition, Reading
from ryzen_lab import mock_nvml
from ryzen_lab.mock_nvml import RECOVERY_ACTION_EVENT, UNAVAILABLE_EVENT, Faults, fails

from .looker import looking

SEEN_S = 0.01
"""The mock looks for a new state once a millisecond."""


def of(reading: Reading, name: str) -> Condition:
    found = [each for each in reading.conditions if each.name == name]
    assert len(found) == 1, reading.conditions
    return found[0]


def sample(reading: Reading, name: str, uuid: str, **more: str) -> float:
    wanted = {("hw.id", uuid), *((key.replace("_", ".", 1), value) for key, value in more.items())}
    found = [each.value for each in reading.samples if each.name == name and wanted <= set(each.attributes)]
    assert len(found) == 1, (name, found)
    return found[0]


def test_healthy_gpus_have_no_condition_and_are_all_named(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        reading = looker.look(looks=3)
    assert reading.conditions == ()
    assert reading.devices == tuple((faults.pci(index), faults.uuid(index)) for index in range(8))
    assert reading.devices[3] == ("0000:40:00", faults.uuid(3))


FAULTS = {
    "lost": ({"error": 15}, "gpu.lost", "critical", "reboot"),
    "reset required": ({"error": 16}, "gpu.reset_required", "critical", "reset_gpu"),
    "one unknown error": ({"power_mw": fails(999)}, "gpu.unknown_error", "warning", "watch_repeat"),
    "row remap pending": ({"rows_pending": 1}, "gpu.row_remap_pending", "warning", "reset_gpu"),
    "row remap failed": ({"rows_failed": 1, "rows_pending": 1}, "gpu.row_remap_failed", "critical", "drain_service"),
    "many rows": ({"rows_uncorrected": 512}, "gpu.rows_remapped", "critical", "drain_service"),
    "uncorrected errors": ({"ecc_uncorrected_volatile": 1}, "gpu.ecc_uncorrected", "warning", "watch_repeat"),
    "corrected errors": ({"ecc_corrected_volatile": 50_000_001}, "gpu.ecc_corrected", "warning", "watch_repeat"),
    "SRAM": ({"sram_threshold_exceeded": 1}, "gpu.sram_threshold", "critical", "drain_service"),
    "recovery: reset": ({"recovery_action": 1}, "gpu.recovery_action", "critical", "reset_gpu"),
    "recovery: reboot": ({"recovery_action": 2}, "gpu.recovery_action", "critical", "reboot"),
    "recovery: drain P2P": ({"recovery_action": 3}, "gpu.recovery_action", "critical", "drain_service"),
    "recovery: unheard of": ({"recovery_action": 23}, "gpu.recovery_action", "critical", "drain_service"),
    "NVLink down": ({"nvlink_down_mask": 1 << 14}, "gpu.nvlink_down", "critical", "reset_gpu"),
    "PCIe width": ({"pcie_width": 8}, "gpu.pcie_width", "warning", "drain_service"),
    "PCIe generation": ({"pcie_generation": 1, "utilization_percent": 99}, "gpu.pcie_generation", "warning",
                        "watch_repeat"),
    "fabric": ({"fabric_status": 999}, "gpu.fabric", "critical", "reboot"),
    "fabric routes": ({"fabric_health": 1 << 4}, "gpu.fabric", "critical", "reboot"),
    "fabric bandwidth": ({"fabric_health": 1}, "gpu.fabric_bandwidth", "warning", "watch_repeat"),
    "thermal": ({"clock_event_reasons": 0x40}, "gpu.throttled", "warning", "watch_repeat"),
    "power brake": ({"clock_event_reasons": 0x80}, "gpu.throttled", "warning", "watch_repeat"),
    "too hot": ({"temperature_c": 88}, "gpu.hot", "warning", "watch_repeat"),
    "memory too hot": ({"memory_temperature_c": 96}, "gpu.hot", "warning", "watch_repeat"),
    "persistence": ({"persistence": 0}, "gpu.persistence_off", "info", "ignore"),
}  # fmt: skip


def test_each_fault_is_said_of_its_gpu_alone_for_as_long_as_it_stands(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look()
        for index, (what, (values, name, severity, action)) in enumerate(FAULTS.items()):
            gpu = index % 8
            faults.gpu(gpu, **values)
            time.sleep(SEEN_S)
            found = looker.look(looks=2).conditions
            assert [(each.name, each.severity, each.action) for each in found] == [(name, severity, action)], what
            assert (found[0].device, found[0].pci) == (faults.uuid(gpu), faults.pci(gpu)), what
            assert found[0].message.startswith(f"GPU {gpu}: "), what
            faults.healthy()
            time.sleep(SEEN_S)
            passed = [each for each in looker.look().conditions if each.name != "gpu.throttled"]
            assert passed == [], f"{what}: it has passed"


def test_what_is_no_fault_is_not_said(faults: Faults) -> None:
    faults.every_gpu(clock_event_reasons=0x4 | 0x2, power_mw=699_000, utilization_percent=100)
    faults.gpu(0, pcie_generation=1, utilization_percent=0)
    faults.gpu(1, mig=1, nvlink_down_mask=(1 << 18) - 1)
    faults.gpu(2, fabric_state=0, rows_corrected=600)
    with looking(faults.folder) as looker:
        assert looker.look(looks=3).conditions == ()


def test_links_that_most_peers_do_not_have_either_are_not_missed(faults: Faults) -> None:
    faults.every_gpu(nvlink_down_mask=0b1100)
    faults.gpu(5, nvlink_down_mask=0b0000)
    with looking(faults.folder) as looker:
        assert looker.look(looks=3).conditions == ()


def test_a_link_that_goes_down_everywhere_is_down_everywhere(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look()
        faults.every_gpu(nvlink_down_mask=0b1)
        time.sleep(SEEN_S)
        assert looker.look().conditions == (), "trained anew, perhaps"
        assert len(looker.look().conditions) == 8


def test_an_unknown_error_from_several_calls_and_looks_is_grave(faults: Faults) -> None:
    faults.gpu(2, power_mw=fails(999), energy_mj=fails(999))
    with looking(faults.folder) as looker:
        assert of(looker.look(), "gpu.unknown_error").severity == "warning"
        said = of(looker.look(), "gpu.unknown_error")
    assert (said.severity, said.action) == ("critical", "reboot")


def test_a_driver_that_states_what_to_do_goes_before_the_tables(faults: Faults) -> None:
    faults.gpu(1, rows_pending=1, recovery_action=2, pcie_width=8)
    with looking(faults.folder) as looker:
        reading = looker.look()
    assert {each.name: each.action for each in reading.conditions} == {
        "gpu.recovery_action": "reboot",
        "gpu.row_remap_pending": "reboot",
        "gpu.pcie_width": "reboot",
    }


def test_counters_of_errors_warn_when_they_grow_and_not_for_what_was_before(faults: Faults) -> None:
    faults.gpu(4, nvlink_replay=7, nvlink_crc_flit=900, pcie_replays=5000)
    with looking(faults.folder) as looker:
        assert looker.look(looks=2).conditions == ()
        faults.gpu(4, nvlink_replay=9, pcie_replays=5032)
        time.sleep(SEEN_S)
        reading = looker.look()
    assert {each.name for each in reading.conditions} == {"gpu.nvlink_errors", "gpu.pcie_replay_rate"}
    replays = of(reading, "gpu.pcie_replay_rate")
    assert (replays.value, replays.limit) == (32.0, 31.0)


def test_readings_become_samples_under_the_conventions_names(faults: Faults) -> None:
    faults.gpu(6, temperature_c=61, memory_temperature_c=70, power_mw=512_345, energy_mj=9_000_500,
               utilization_percent=93, memory_used_bytes=7, ecc_corrected_volatile=3, ecc_uncorrected_aggregate=2,
               clock_event_reasons=0x4, nvlink_crc_flit=11, rows_corrected=5, pcie_replays=8, pid=4711)  # fmt: skip
    with looking(faults.folder) as looker:
        reading = looker.look()
    uuid = faults.uuid(6)
    assert sample(reading, "hw.temperature", uuid, hw_sensor_location="gpu") == 61
    assert sample(reading, "hw.temperature", uuid, hw_sensor_location="memory") == 70
    assert sample(reading, "hw.temperature.limit", uuid, hw_limit_type="high.critical") == 92
    assert sample(reading, "hw.power", uuid) == 512.345
    assert sample(reading, "ryzen.gpu.power.limit", uuid) == 700
    assert sample(reading, "hw.energy", uuid) == 9000.5
    assert sample(reading, "hw.gpu.utilization", uuid) == 0.93
    assert sample(reading, "hw.gpu.memory.usage", uuid) == 7
    assert sample(reading, "hw.gpu.memory.limit", uuid) == 85899345920
    assert sample(reading, "hw.errors", uuid, error_type="corrected") == 3
    assert sample(reading, "ryzen.gpu.ecc.lifetime", uuid, error_type="uncorrected") == 2
    assert sample(reading, "hw.errors", uuid, error_type="nvlink.crc_flit") == 11
    assert sample(reading, "ryzen.gpu.rows.remapped", uuid, error_type="corrected") == 5
    assert sample(reading, "ryzen.gpu.pcie.replays", uuid) == 8
    assert sample(reading, "ryzen.gpu.nvlink.active", uuid) == 18
    assert sample(reading, "ryzen.gpu.clock.event_reason", uuid, ryzen_reason="power_cap") == 1
    assert sample(reading, "ryzen.gpu.clock.event_reason", uuid, ryzen_reason="hardware_thermal") == 0
    assert sample(reading, "hw.status", uuid, hw_state="ok") == 1
    assert reading.processes == ((4711, uuid),)


def test_the_state_of_a_lost_gpu_is_failed_and_the_others_are_read_as_ever(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look()
        faults.gpu(3, error=15)
        time.sleep(SEEN_S)
        reading = looker.look()
    assert sample(reading, "hw.status", faults.uuid(3), hw_state="failed") == 1
    assert sample(reading, "hw.status", faults.uuid(4), hw_state="ok") == 1
    assert sample(reading, "hw.temperature", faults.uuid(4), hw_sensor_location="gpu") == 45
    assert not [
        each
        for each in reading.samples
        if each.name == "hw.temperature" and ("hw.id", faults.uuid(3)) in each.attributes
    ]


def test_a_gpu_that_is_lost_before_anybody_knew_it_is_said_by_its_index(faults: Faults) -> None:
    faults.gpu(3, error=15)
    with looking(faults.folder) as looker:
        assert of(looker.look(), "gpu.lost").device == "GPU 3"


def test_readings_that_a_gpu_does_not_have_are_left_out_and_nothing_is_said(faults: Faults) -> None:
    absent = ("memory_temperature_c", "rows_pending", "sram_threshold_exceeded", "nvlinks", "recovery_action", "mig",
              "fabric_state", "margin_c", "power_mw", "energy_mj", "ecc_corrected_volatile", "clock_event_reasons",
              "pcie_replays", "persistence", "slowdown_c", "default_limit_mw", "pcie_width_max")  # fmt: skip
    faults.every_gpu(**dict.fromkeys(absent, fails(3)))
    with looking(faults.folder) as looker:
        reading = looker.look(looks=2)
    assert reading.conditions == ()
    assert sample(reading, "hw.temperature", faults.uuid(0), hw_sensor_location="gpu") == 45
    assert "hw.power" not in {each.name for each in reading.samples}


def test_gpus_before_ampere_say_their_retired_pages(faults: Faults) -> None:
    faults.every_gpu(rows_corrected=fails(3))
    faults.gpu(0, retired_single_bit=40, retired_double_bit=23, retired_pending=1)
    with looking(faults.folder) as looker:
        reading = looker.look()
    assert {each.name for each in reading.conditions} == {"gpu.pages_retired", "gpu.page_retirement_pending"}
    assert of(reading, "gpu.pages_retired").value == 63


def test_an_old_driver_without_the_new_functions_is_read_by_the_old_names(faults: Faults, libraries: Path) -> None:
    shutil.copy(libraries / "old" / mock_nvml.LIBRARY, faults.folder)
    faults.gpu(2, clock_event_reasons=0x8)
    with looking(faults.folder) as looker:
        said = of(looker.look(looks=2), "gpu.throttled")
        asked = looker.ask("gpu_events")
        time.sleep(0.3)
        faults.xid(2, 48)
        assert looker.answer(asked).events[0].code == 48
    assert "hardware slowdown" in said.message


def test_a_gpu_in_place_of_another_begins_anew(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look()
        faults.driver(node=5)
        faults.every_gpu(nvlink_down_mask=1)
        time.sleep(SEEN_S)
        reading = looker.look(looks=2)
    assert reading.conditions == (), "these never had the link"
    assert reading.devices[0] == (faults.pci(0), faults.uuid(0))


# ---------------------------------------------------------------- no driver


def test_no_driver_is_a_healthy_state(tmp_path: Path) -> None:
    with looking(tmp_path) as looker:
        for name in ("gpu", "gpu_events", "gpu_count"):
            with pytest.raises(NothingHereError, match=r"libnvidia-ml\.so\.1"):
                looker.look(name)


@pytest.mark.parametrize(("code", "action"), [(9, "reboot"), (18, "reboot"), (999, "watch_repeat")])
def test_a_driver_that_cannot_be_used_is_a_condition_until_it_can(faults: Faults, code: int, action: str) -> None:
    faults.driver(init_error=code)
    with looking(faults.folder, expected_gpus=8) as looker:
        said = of(looker.look(), "gpu.driver")
        assert (said.severity, said.action, said.value) == ("critical", action, float(code))
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
        assert of(looker.look(), "gpu.driver")


# ---------------------------------------------------------------- the count


def on_the_bus(sys: Path, addresses: list[str], driver: str = "nvidia") -> None:
    for address in addresses:
        device = sys / "bus/pci/devices" / address
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x10de\n")
        (device / "class").write_text("0x030200\n")
        module = sys / "bus/pci/drivers" / driver
        module.mkdir(parents=True, exist_ok=True)
        if driver:
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


def test_a_gpu_that_is_given_to_a_virtual_machine_is_not_missed(faults: Faults) -> None:
    on_the_bus(faults.folder / "sys", [f"{faults.pci(index)}.0" for index in range(7)])
    on_the_bus(faults.folder / "sys", ["0000:e0:00.0"], "vfio-pci")
    faults.driver(count=7)
    with looking(faults.folder) as looker:
        assert looker.look("gpu_count").conditions == ()


def test_expected_gpus_without_any_driver_are_missing(tmp_path: Path) -> None:
    with looking(tmp_path, expected_gpus=8) as looker:
        assert of(looker.look("gpu_count"), "gpu.missing").value == 0.0


# ---------------------------------------------------------------- events


def test_an_xid_is_told_with_its_gpu(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        reading = looker.look("gpu_events")
        assert reading.events == ()
        assert set(reading.devices) == {(faults.pci(index), faults.uuid(index)) for index in range(8)}
        asked = looker.ask("gpu_events")
        before = time.time()
        faults.xid(3, 79)
        event = looker.answer(asked).events[0]
    assert (event.kind, event.code, event.device, event.pci) == ("xid", 79, faults.uuid(3), faults.pci(3))
    assert before - 1 < event.at_unix_s < time.time() + 1


def test_xids_that_come_together_are_all_told_in_their_order(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look("gpu_events")
        for xid in (63, 94, 31):
            faults.xid(1, xid)
        codes = [event.code for event in looker.look("gpu_events").events]
        while len(codes) < 3:
            codes += [event.code for event in looker.look("gpu_events").events]
    assert codes == [63, 94, 31]


def test_xids_from_before_the_agent_are_not_told(faults: Faults) -> None:
    faults.xid(3, 79)
    with looking(faults.folder) as looker:
        assert looker.look("gpu_events").events == ()


@pytest.mark.parametrize(("data", "action"), [(1, "reset_gpu"), (2, "reboot"), (0, "ignore")])
def test_a_recovery_action_that_the_driver_tells_is_an_xid_154_with_that_action(
    faults: Faults, data: int, action: str
) -> None:
    with looking(faults.folder) as looker:
        looker.look("gpu_events")
        faults.event(2, RECOVERY_ACTION_EVENT, data)
        event = looker.look("gpu_events").events[0]
    assert (event.kind, event.code, event.action, event.device) == ("xid", 154, action, faults.uuid(2))


def test_an_unavailable_gpu_is_an_event(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look("gpu_events")
        faults.event(2, UNAVAILABLE_EVENT, 0)
        event = looker.look("gpu_events").events[0]
    assert (event.kind, event.action) == ("gpu", "reset_gpu")


# ---------------------------------------------------------------- a driver that hangs


def test_a_hung_gpu_holds_its_collector_alone_and_is_read_again_when_it_answers(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look()
        looker.look("gpu_events")
        looker.look("gpu_count")
        faults.gpu(5, hang=1)
        time.sleep(SEEN_S)
        held = looker.ask("gpu")
        with pytest.raises(TimeoutError):
            looker.answer(held, wait_s=0.5)
        faults.xid(5, 119)
        assert [each.code for each in looker.look("gpu_events").events] == [119]
        assert looker.look("gpu_count").conditions == ()
        faults.gpu(5, hang=0)
        assert looker.answer(held).conditions == ()


def test_a_gpu_that_hangs_from_the_start_costs_the_others_no_event(faults: Faults) -> None:
    faults.gpu(0, hang=1)
    with looking(faults.folder) as looker:
        looker.look("gpu_events")
        faults.xid(6, 48)
        assert [each.code for each in looker.look("gpu_events").events] == [48]


def test_the_agent_ends_though_a_gpu_hangs(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        looker.look()
        faults.gpu(5, hang=1)
        time.sleep(SEEN_S)
        looker.ask("gpu")
        looker.end()
