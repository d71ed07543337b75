"""A lower power limit for a GPU that throttles: only where it is asked for, and never left behind."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from ryzen_agent.health.gpu.power_cap import WELL_S, PowerCaps, file_name
from ryzen_agent.health.gpu.reading import HARDWARE_THERMAL, POWER_BRAKE, GpuReading, Identity
from ryzen_agent.health.model import Condition
from ryzen_lab.mock_nvml import Faults

from .looker import looking

IDENTITY = Identity(2, "GPU-a", default_power_limit_w=700.0, power_limits_w=(200.0, 700.0))


class Board:
    """Limits as a GPU keeps them."""

    def __init__(self, refusal: str = "") -> None:
        self.limit_w = 700.0
        self.refusal = refusal

    def set_limit(self, index: int, watts: float) -> str:
        assert index == 2
        if not self.refusal:
            self.limit_w = watts
        return self.refusal

    def look(self, caps: PowerCaps, at_s: float, reasons: int = 0, identity: Identity = IDENTITY) -> list[str]:
        reading = GpuReading(identity, at_s, reasons=reasons, power_limit_w=self.limit_w)
        said = [Condition("gpu.throttled", "", identity.uuid)] if reasons else []
        return [each.name for each in caps.act([reading], said)]


def test_nothing_is_lowered_unless_it_is_asked_for() -> None:
    board = Board()
    caps = PowerCaps(None, None, "NVIDIA", board.set_limit)
    assert board.look(caps, 0.0, HARDWARE_THERMAL) == []
    assert board.limit_w == 700.0


def test_a_gpu_that_throttles_for_heat_gets_a_lower_limit_until_it_has_been_well_for_a_while() -> None:
    board = Board()
    caps = PowerCaps(0.8, None, "NVIDIA", board.set_limit)
    board.look(caps, 0.0, HARDWARE_THERMAL)
    assert board.limit_w == 560.0
    assert board.look(caps, 10.0) == ["gpu.power_capped"]
    board.look(caps, 100.0, HARDWARE_THERMAL)
    board.look(caps, 99.0 + WELL_S)
    assert board.limit_w == 560.0, "well for less than that"
    assert board.look(caps, 100.0 + WELL_S) == []
    assert board.limit_w == 700.0


def test_a_power_brake_is_not_heat() -> None:
    board = Board()
    board.look(PowerCaps(0.8, None, "NVIDIA", board.set_limit), 0.0, POWER_BRAKE)
    assert board.limit_w == 700.0


def test_no_limit_goes_below_what_the_gpu_allows_or_above_what_it_has() -> None:
    board = Board()
    board.look(PowerCaps(0.1, None, "NVIDIA", board.set_limit), 0.0, HARDWARE_THERMAL)
    assert board.limit_w == 200.0
    board = Board()
    board.limit_w = 300.0
    board.look(PowerCaps(0.8, None, "NVIDIA", board.set_limit), 0.0, HARDWARE_THERMAL)
    assert board.limit_w == 300.0, "an administrator's lower limit stays"


def test_a_refusal_is_one_line_and_nothing_is_held_to_be_lowered() -> None:
    board = Board("Insufficient Permissions")
    caps = PowerCaps(0.8, None, "NVIDIA", board.set_limit)
    reading = GpuReading(IDENTITY, 0.0, reasons=HARDWARE_THERMAL, power_limit_w=700.0)
    said = caps.act([reading], [Condition("gpu.throttled", "", "GPU-a")])
    assert [(each.name, each.severity) for each in said] == [("gpu.power_cap_refused", "info")]
    assert "Insufficient Permissions" in said[0].message
    assert board.look(caps, 10.0) == []


def test_a_folder_that_cannot_be_written_is_a_refusal_too(tmp_path: Path) -> None:
    board = Board()
    caps = PowerCaps(0.8, tmp_path / "not there", "NVIDIA", board.set_limit)
    assert board.look(caps, 0.0, HARDWARE_THERMAL) == ["gpu.power_cap_refused"]
    assert board.limit_w == 700.0


def test_the_end_puts_it_back() -> None:
    board = Board()
    caps = PowerCaps(0.8, None, "NVIDIA", board.set_limit)
    board.look(caps, 0.0, HARDWARE_THERMAL)
    caps.close()
    assert board.limit_w == 700.0


def test_an_agent_that_was_killed_puts_it_back_when_it_comes_again(tmp_path: Path) -> None:
    board = Board()
    board.look(PowerCaps(0.8, tmp_path, "NVIDIA", board.set_limit), 0.0, HARDWARE_THERMAL)
    caps = PowerCaps(0.8, tmp_path, "NVIDIA", board.set_limit)
    assert board.look(caps, 1000.0) == ["gpu.power_capped"]
    assert board.look(caps, 1000.0 + WELL_S) == []
    assert board.limit_w == 700.0


def test_one_that_was_told_to_lower_nothing_any_more_puts_it_back_at_once(tmp_path: Path) -> None:
    board = Board()
    board.look(PowerCaps(0.8, tmp_path, "NVIDIA", board.set_limit), 0.0, HARDWARE_THERMAL)
    board.look(PowerCaps(None, tmp_path, "NVIDIA", board.set_limit), 1000.0)
    assert board.limit_w == 700.0


def test_a_damaged_file_is_passed_over(tmp_path: Path) -> None:
    for text in ("", "[", "[1]", '{"GPU-a": "x"}', '{"GPU-a": NaN}', "{" * 10000):
        (tmp_path / file_name("NVIDIA")).write_text(text)
        board = Board()
        assert board.look(PowerCaps(0.8, tmp_path, "NVIDIA", board.set_limit), 0.0) == []


def test_a_gpu_that_is_gone_stays_written_down(tmp_path: Path) -> None:
    board = Board()
    caps = PowerCaps(0.8, tmp_path, "NVIDIA", board.set_limit)
    board.look(caps, 0.0, HARDWARE_THERMAL)
    board.refusal = "GPU is lost"
    caps.close()
    assert "GPU-a" in (tmp_path / file_name("NVIDIA")).read_text()
    assert board.look(caps, 1.0, identity=replace(IDENTITY, uuid="GPU-b")) == []


def test_through_the_driver_it_is_lowered_and_put_back_at_the_end(faults: Faults, tmp_path: Path) -> None:
    faults.gpu(3, clock_event_reasons=0x40)
    with looking(faults.folder, power_cap_share=0.75, state_folder=tmp_path) as looker:
        names = {each.name for each in looker.look(looks=3).conditions}
        assert names == {"gpu.throttled", "gpu.power_capped"}
        assert faults.power_limits_mw() == [(3, 525_000)]
        looker.end()
    assert faults.power_limits_mw() == [(3, 525_000), (3, 700_000)]


def test_through_the_driver_it_takes_root(faults: Faults, tmp_path: Path) -> None:
    faults.driver(no_permission=1)
    faults.gpu(3, clock_event_reasons=0x40)
    time.sleep(0.01)
    with looking(faults.folder, power_cap_share=0.75, state_folder=tmp_path) as looker:
        said = {each.name: each.message for each in looker.look(looks=3).conditions}
    assert set(said) == {"gpu.throttled", "gpu.power_cap_refused"}
    assert "root" in said["gpu.power_cap_refused"]
