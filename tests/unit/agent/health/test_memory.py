"""The collector of memory and pressure: on trees, and once on the node the test runs on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.agent.health.tree import put

from ryzen_agent.health.collectors.memory import MemoryCollector
from ryzen_agent.health.settings import HealthSettings

GIB = 1 << 30


def node(root: Path, available_kb: int = 50_000_000) -> MemoryCollector:
    put(
        root,
        {
            "proc/meminfo": f"MemTotal:       100000000 kB\nMemFree: 1 kB\nMemAvailable:   {available_kb} kB\n",
            "proc/self/cgroup": "0::/agent\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/agent/memory.events": "oom 4\noom_kill 4\n",
        },
    )
    return MemoryCollector(HealthSettings(proc=root / "proc", sys=root / "sys"), wall=lambda: 1.7e9)


def confine(root: Path, group: str, *, current: int, maximum: str = "max", high: str = "max", cached: int = 0) -> None:
    folder = f"sys/fs/cgroup/{group}"
    limits = {f"{folder}/memory.max": f"{maximum}\n", f"{folder}/memory.high": f"{high}\n"}
    stat = f"anon 5\nactive_file {cached}\ninactive_file 0\n"
    put(root, limits | {f"{folder}/memory.current": f"{current}\n", f"{folder}/memory.stat": stat})


def test_a_node_with_less_than_a_twentieth_available_is_low_on_memory(tmp_path: Path) -> None:
    assert node(tmp_path).collect().conditions == ()
    (low,) = node(tmp_path, available_kb=4_900_000).collect().conditions
    assert (low.name, low.device, low.value, low.limit) == ("memory.low", "", 4.9, 5)


def test_a_group_is_measured_against_the_lower_of_its_limits_without_what_is_cached_of_files(tmp_path: Path) -> None:
    collector = node(tmp_path)
    confine(tmp_path, "agent", current=8 * GIB, maximum=str(8 * GIB), cached=4 * GIB)
    assert collector.collect().conditions == ()
    confine(tmp_path, "agent", current=8 * GIB, maximum=str(8 * GIB), high=str(4 * GIB), cached=4 * GIB)
    (low,) = collector.collect().conditions
    assert (low.name, low.device) == ("memory.low", "/agent")


def test_the_limit_of_a_group_above_confines_too_and_a_containers_is_at_the_root_it_sees(tmp_path: Path) -> None:
    collector = node(tmp_path)
    confine(tmp_path, "agent", current=GIB)
    confine(tmp_path, ".", current=8 * GIB, maximum=str(8 * GIB))
    (low,) = collector.collect().conditions
    assert low.device == "/"


def test_a_kill_in_the_group_of_a_watched_rank_is_one_event_and_those_of_before_are_none(tmp_path: Path) -> None:
    collector = node(tmp_path)
    put(tmp_path, {"proc/41/cgroup": "0::/job/rank\n", "proc/42/cgroup": "0::/job/rank\n"})
    collector._settings.watched.put("job", [41, 42])
    put(tmp_path, {"sys/fs/cgroup/job/rank/memory.events": "oom_kill 1\n"})
    assert collector.collect().events == ()
    put(tmp_path, {"sys/fs/cgroup/job/rank/memory.events": "oom_kill 3\n"})
    (event,) = collector.collect().events
    assert (event.kind, event.unit, event.count, event.at_unix_s) == ("oom", "/job/rank", 2, 1.7e9)
    assert collector.collect().events == ()


def test_all_tasks_waiting_for_memory_is_pressure_and_waiting_for_the_disc_is_only_measured(tmp_path: Path) -> None:
    collector = node(tmp_path)
    text = "some avg10=20.00 avg60=30.00 avg300=1.00 total=1\nfull avg10=20.00 avg60=12.00 avg300=1.00 total=1\n"
    put(tmp_path, {"proc/pressure/memory": text, "proc/pressure/io": text.replace("avg60=12.00", "avg60=90.00")})
    reading = collector.collect()
    assert [(each.name, each.value) for each in reading.conditions] == [("memory.pressure", 12.0)]
    attributes = (("ryzen.resource", "io"), ("ryzen.pressure.kind", "some"))
    assert ("ryzen.pressure", 0.2, attributes) in reading.samples


def test_a_node_without_pressure_and_without_control_groups_is_looked_at_all_the_same(tmp_path: Path) -> None:
    put(tmp_path, {"proc/meminfo": "MemTotal: 100 kB\nMemAvailable: 50 kB\n"})
    reading = MemoryCollector(HealthSettings(proc=tmp_path / "proc", sys=tmp_path / "sys")).collect()
    assert [each.name for each in reading.samples] == ["system.memory.limit", "system.memory.linux.available"]


def test_no_meminfo_is_a_look_that_failed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MemoryCollector(HealthSettings(proc=tmp_path, sys=tmp_path)).collect()


def test_this_very_node_can_be_looked_at() -> None:
    samples = {each.name: each.value for each in MemoryCollector(HealthSettings()).collect().samples}
    assert 0 < samples["system.memory.linux.available"] <= samples["system.memory.limit"]
