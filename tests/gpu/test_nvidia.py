"""On a real NVIDIA GPU: every reading is there or absent for good, and plausible; events can be waited for."""

from __future__ import annotations

import re
import time

import pytest

from ryzen_agent.health.collectors.gpu import GpuCollector
from ryzen_agent.health.collectors.gpu_count import GpuCountCollector
from ryzen_agent.health.collectors.gpu_events import GpuEventsCollector
from ryzen_agent.health.gpu.nvml import NvmlGpu
from ryzen_agent.health.gpu.reading import GpuReading
from ryzen_agent.health.model import Reading
from ryzen_agent.health.settings import HealthSettings

pytestmark = pytest.mark.gpu

LOOKS = 5


@pytest.fixture(scope="module")
def readings(gpus: int) -> list[GpuReading]:
    return [NvmlGpu(index).read(time.monotonic()) for index in range(gpus)]


@pytest.fixture(scope="module")
def looks(gpus: int) -> list[Reading]:
    collector = GpuCollector(HealthSettings())
    found = [collector.collect() for _ in range(LOOKS)]
    collector.close()
    return found


def test_every_gpu_has_a_name_of_its_own_and_an_address(readings: list[GpuReading]) -> None:
    assert len({each.identity.uuid for each in readings}) == len(readings)
    for each in readings:
        assert re.fullmatch(r"GPU-[0-9a-f-]{36}", each.identity.uuid)
        assert re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}", each.identity.pci)
        assert each.identity.model
        assert not each.grave


def test_temperatures_and_their_limits_are_plausible(readings: list[GpuReading]) -> None:
    for each in readings:
        assert each.temperature_c is not None
        assert 5 < each.temperature_c < 110
        assert each.memory_temperature_c is None or 0 <= each.memory_temperature_c < 120
        limits = [
            each.identity.shutdown_c,
            each.identity.slowdown_c,
            each.identity.gpu_max_c,
            each.identity.memory_max_c,
        ]
        assert all(limit is None or 50 < limit < 130 for limit in limits), limits
        assert any(limits) or each.margin_c is not None, "some limit is known"


def test_power_and_load_are_plausible(readings: list[GpuReading]) -> None:
    for each in readings:
        assert each.power_w is None or 1 < each.power_w < 2500
        assert each.power_limit_w is None or 20 < each.power_limit_w < 2500
        assert each.utilization is None or 0 <= each.utilization <= 1
        assert each.memory_total
        assert each.memory_used is not None
        assert 0 <= each.memory_used <= each.memory_total
        assert each.reasons is not None
        assert 0 <= each.reasons < 1 << 32


def test_links_are_plausible(readings: list[GpuReading]) -> None:
    for each in readings:
        assert each.pcie_width in {None, 1, 2, 4, 8, 16, 32}
        assert each.identity.pcie_width_max is None or (each.pcie_width or 0) <= each.identity.pcie_width_max
        assert each.pcie_generation is None or 1 <= each.pcie_generation <= 8
        assert len(each.links) <= 36
        assert each.recovery_action is None or 0 <= each.recovery_action < 16
        assert each.fabric is None or 0 <= each.fabric.state <= 3


def test_counters_are_no_smaller_at_the_next_look(looks: list[Reading]) -> None:
    counters = {"hw.energy", "hw.errors", "ryzen.gpu.pcie.replays", "ryzen.gpu.ecc.lifetime"}
    first, last = (
        {(each.name, each.attributes): each.value for each in reading.samples if each.name in counters}
        for reading in (looks[0], looks[-1])
    )
    assert first.keys() == last.keys()
    assert all(last[key] >= value for key, value in first.items())


def test_each_look_measures_the_same_things(looks: list[Reading]) -> None:
    first, *others = [{(each.name, each.attributes) for each in reading.samples} for reading in looks]
    assert all(other == first for other in others)


def test_a_gpu_that_works_has_nothing_critical(looks: list[Reading]) -> None:
    assert [each for each in looks[-1].conditions if each.severity == "critical"] == []


def test_the_events_of_every_gpu_are_waited_for(gpus: int) -> None:
    collector = GpuEventsCollector(HealthSettings())
    reading = collector.collect()
    assert reading.events == ()
    assert len(reading.devices) == gpus
    collector.interrupt()
    assert collector.collect().events == ()


def test_no_gpu_is_missing(gpus: int) -> None:
    assert GpuCountCollector(HealthSettings(expected_gpus=gpus)).collect().conditions == ()
    said = GpuCountCollector(HealthSettings(expected_gpus=gpus + 1)).collect().conditions
    assert [(each.name, each.value) for each in said] == [("gpu.missing", float(gpus))]


def test_a_process_that_computes_is_listed_and_its_page_names_the_same_gpu(gpus: int) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    from ryzen_trainer import gpu

    assert gpu.in_use() is None
    held = torch.ones(1 << 20, device="cuda:0")
    named = gpu.in_use()
    assert named is not None
    found = GpuCollector(HealthSettings()).collect()
    assert (named[1], named[0]) in found.devices
    assert named[0] in {uuid for _pid, uuid in found.processes}
    del held
