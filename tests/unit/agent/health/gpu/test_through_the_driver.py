"""Each fault of the (mock) driver, through the real bindings, becomes the right condition, event and sample."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from ryzen_lab import mock_nvml
from ryzen_lab.mock_nvml import Faults, fails

from .looker import SEEN_S, looking, of, reasons, sample


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
    assert reasons(reading, uuid) == {"power_cap": 1}
    assert sample(reading, "hw.status", uuid, hw_state="ok") == 1
    assert reading.processes == ((4711, uuid),)


def test_a_reason_that_holds_back_the_clocks_is_told_from_its_first_time_on_and_when_it_is_over(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        before = reasons(looker.look(), faults.uuid(3))
        faults.gpu(3, clock_event_reasons=0x40)
        time.sleep(SEEN_S)
        while_hot = reasons(looker.look(), faults.uuid(3))
        faults.gpu(3, clock_event_reasons=0)
        time.sleep(SEEN_S)
        after = reasons(looker.look(), faults.uuid(3))
    assert "hardware_thermal" not in before
    assert while_hot["hardware_thermal"] == 1
    assert after["hardware_thermal"] == 0


def test_what_a_gpu_is_stands_in_one_series_that_the_others_are_joined_with_by_its_id(faults: Faults) -> None:
    with looking(faults.folder) as looker:
        reading = looker.look()
    told = {"hw.model", "hw.vendor", "ryzen.gpu.pci"}
    infos = [dict(each.attributes) for each in reading.samples if each.name == "ryzen.gpu.info"]
    assert len({each["hw.id"] for each in infos}) == len(infos) == 8
    assert all(told <= set(each) for each in infos)
    others = [dict(each.attributes) for each in reading.samples if each.name != "ryzen.gpu.info"]
    assert {each["hw.id"] for each in others if each.get("hw.type") == "gpu"} == {each["hw.id"] for each in infos}
    assert not any(told & set(each) for each in others)


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
