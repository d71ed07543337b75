"""A step is told once more, in the device's time, as soon as the device is known to have done it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatReader, StepRecord
from ryzen_trainer import attaching
from ryzen_trainer.run import Run
from ryzen_trainer.throughput.device_clock import DeviceClock

RANK = {"TORCHELASTIC_RUN_ID": "job", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}


class Device:
    """Does what is queued only when it is let; each event that it passes is `gap_ms` after the one before."""

    def __init__(self, gap_ms: float) -> None:
        self.gap_ms = gap_ms
        self.recorded = self.done = 0
        self.capturing = False
        self.broken = False

    def event(self) -> Event:
        return Event(self)


class Event:
    def __init__(self, device: Device) -> None:
        self.device = device
        self.number = 0

    def record(self) -> None:
        if self.device.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self.device.recorded += 1
        self.number = self.device.recorded

    def query(self) -> bool:
        if self.device.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return self.number <= self.device.done

    def elapsed_time(self, other: Event) -> float:
        assert max(self.number, other.number) <= self.device.done, "the device has not passed it: this would raise"
        return (other.number - self.number) * self.device.gap_ms


@pytest.fixture
def device() -> Device:
    return Device(gap_ms=1000.0)


@pytest.fixture
def run(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("RYZEN_RUN_DIR", str(tmp_path))
    for name, value in RANK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(attaching.ATTACHED, "")
    monkeypatch.setattr(attaching, "_runs", {})
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("atexit.register", lambda *_function: None)
    found = attaching.attach()
    found.device_clock = DeviceClock(device.event, lambda: device.capturing)
    return found


def steps() -> list[StepRecord]:
    return list(BeatReader(run_dir.beat_page(Path(os.environ["RYZEN_RUN_DIR"]), "job", 0)).steps())


def one_step(run: Run, number: int) -> None:
    run.step(number)
    with run.section("forward"):
        pass
    with run.section("backward"):
        pass
    run.report(tokens=7)


def test_a_step_has_the_hosts_times_until_the_device_has_done_it(run: Run, device: Device) -> None:
    for number in range(3):
        one_step(run, number)
    assert all(each.duration_ns < 10**9 for each in steps())
    device.done = 6  # the first step: its beginning, then "", forward, "", backward, "" have ended
    one_step(run, 3)
    first, second, third = steps()
    assert first.duration_ns == 5 * 10**9
    assert first.sections[:3] == (3.0, 1.0, 1.0)
    assert (first.step, first.tokens) == (0, 7)
    assert sum(first.sections) == first.duration_ns / 1e9
    assert max(second.duration_ns, third.duration_ns) < 10**9


def test_every_step_is_told_in_its_own_place(run: Run, device: Device) -> None:
    device.done = sys.maxsize
    for number in range(300):
        one_step(run, number)
    run.finish()
    found = steps()
    assert [each.step for each in found] == list(range(44, 300))
    assert all(each.duration_ns == 5 * 10**9 for each in found)


def test_a_device_that_lags_behind_for_long_costs_figures_and_no_memory(run: Run, device: Device) -> None:
    for number in range(100):
        one_step(run, number)
    assert len(run._on_device) < 20
    device.done = sys.maxsize
    one_step(run, 100)
    assert 0 < sum(each.duration_ns == 5 * 10**9 for each in steps()) < 20


def test_a_step_in_which_a_graph_was_captured_keeps_the_hosts_times(run: Run, device: Device) -> None:
    device.done = sys.maxsize
    one_step(run, 0)
    run.step(1)
    device.capturing = True
    with run.section("forward"):
        recorded = device.recorded
    assert device.recorded == recorded
    device.capturing = False
    one_step(run, 2)
    one_step(run, 3)
    run.finish()
    assert [each.duration_ns > 10**9 for each in steps()] == [True, False, True, True]


def test_a_device_that_fails_is_not_heard_of_here(run: Run, device: Device) -> None:
    one_step(run, 0)
    device.broken = True
    one_step(run, 1)
    one_step(run, 2)
    assert len(steps()) == 2


def test_what_lies_between_two_loops_belongs_to_no_step(run: Run, device: Device) -> None:
    device.done = sys.maxsize
    for _ in run.steps(range(2)):
        pass
    for _ in range(50):
        device.event().record()
    for _ in run.steps(range(2), start=2):
        pass
    assert max(each.duration_ns for each in steps()) < 10 * 10**9
