"""The collector of ports, on a tree of sysfs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.collectors.infiniband import InfinibandCollector
from ryzen_agent.health.settings import HealthSettings


def put_port(root: Path, device: str, state: str = "4: ACTIVE", rate: str = "400 Gb/sec (4X NDR)") -> None:
    folder = root / "class/infiniband" / device / "ports/1"
    (folder / "counters").mkdir(parents=True, exist_ok=True)
    (folder.parent.parent / "board_id").write_text("MT_0000000838\n")
    (folder / "state").write_text(f"{state}\n")
    (folder / "rate").write_text(f"{rate}\n")
    (folder / "counters/port_rcv_data").write_text("1000\n")
    (folder / "counters/symbol_error").write_text("5\n")


def test_a_node_without_infiniband_is_a_healthy_one(tmp_path: Path) -> None:
    with pytest.raises(NothingHereError, match="no InfiniBand"):
        InfinibandCollector(HealthSettings(sys=tmp_path)).collect()


def test_a_port_gives_state_bandwidth_traffic_and_errors_under_their_conventional_names(tmp_path: Path) -> None:
    put_port(tmp_path, "mlx5_0")
    samples = InfinibandCollector(HealthSettings(sys=tmp_path)).collect().samples
    identity = (("hw.id", "mlx5_0/1"), ("hw.type", "network"))
    assert set(samples) == {
        ("hw.network.up", 1.0, identity),
        ("hw.network.bandwidth.limit", 50e9, identity),
        ("hw.network.io", 4000.0, (*identity, ("network.io.direction", "receive"))),
        ("hw.errors", 5.0, (*identity, ("error.type", "symbol_error"))),
    }


def test_a_device_that_falls_off_the_bus_is_a_port_that_is_down(tmp_path: Path) -> None:
    put_port(tmp_path, "mlx5_0")
    put_port(tmp_path, "mlx5_1")
    collector = InfinibandCollector(HealthSettings(sys=tmp_path))
    assert collector.collect().conditions == ()
    shutil.rmtree(tmp_path / "class/infiniband/mlx5_1")
    (gone,) = collector.collect().conditions
    assert (gone.name, gone.device) == ("ib.port_down", "mlx5_1/1")


def test_a_driver_that_is_unloaded_takes_its_ports_down(tmp_path: Path) -> None:
    put_port(tmp_path, "mlx5_0")
    collector = InfinibandCollector(HealthSettings(sys=tmp_path))
    collector.collect()
    shutil.rmtree(tmp_path / "class/infiniband")
    assert [each.name for each in collector.collect().conditions] == ["ib.port_down"]


def test_a_port_that_does_not_let_itself_be_read_is_neither_up_nor_down_and_none_at_all_is_a_failed_look(
    tmp_path: Path,
) -> None:
    put_port(tmp_path, "mlx5_0")
    put_port(tmp_path, "mlx5_1")
    collector = InfinibandCollector(HealthSettings(sys=tmp_path))
    collector.collect()
    refuse(tmp_path, "mlx5_1")
    reading = collector.collect()
    assert reading.conditions == ()
    assert {each.attributes[0][1] for each in reading.samples} == {"mlx5_0/1"}
    refuse(tmp_path, "mlx5_0")
    with pytest.raises(PermissionError, match="mlx5_0/1, mlx5_1/1"):
        collector.collect()


def refuse(root: Path, device: str) -> None:
    """A real file that cannot be read: EINVAL."""
    state = root / "class/infiniband" / device / "ports/1/state"
    state.unlink()
    state.symlink_to("/sys/class/net/lo/speed")


def test_slower_than_before_and_slower_than_its_peers_is_said_once(tmp_path: Path) -> None:
    for at in range(4):
        put_port(tmp_path, f"mlx5_{at}")
    collector = InfinibandCollector(HealthSettings(sys=tmp_path))
    collector.collect()
    put_port(tmp_path, "mlx5_2", rate="100 Gb/sec (1X NDR)")
    (slow,) = collector.collect().conditions
    assert (slow.name, slow.device) == ("ib.degraded_rate", "mlx5_2/1")
