"""The collector of network cards: on trees, and once on the node the test runs on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.agent.health.tree import put

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.collectors.network import NetworkCollector
from ryzen_agent.health.settings import HealthSettings

HEAD = "Inter-|   Receive |  Transmit\n face |bytes    packets errs |bytes    packets errs\n"


class Node:
    """One card, eth0, and a bridge."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_s = 0.0
        self.collector = NetworkCollector(HealthSettings(proc=root / "proc", sys=root / "sys"), lambda: self.now_s)
        put(root, {"sys/class/net/eth0/device/vendor": "0x15b3\n", "sys/class/net/br0/operstate": "down\n"})
        self.link()
        self.traffic()

    def link(self, state: str = "up", changes: int = 1, flags: str = "0x1003") -> None:
        files = {"operstate": state, "carrier_changes": str(changes), "flags": flags, "speed": "100000"}
        put(self.root, {f"sys/class/net/eth0/{name}": f"{text}\n" for name, text in files.items()})

    def traffic(self, packets: int = 0, errors: int = 0, sent: int = 0, again: int = 0) -> None:
        dev = f"{HEAD}  eth0: 5 {packets} {errors} 0 0 0 0 0 6 0 0 0 0 0 0 0\n"
        put(self.root, {"proc/net/dev": dev, "proc/net/snmp": f"Tcp: OutSegs RetransSegs\nTcp: {sent} {again}\n"})

    def after(self, seconds: float = 15) -> list[str]:
        self.now_s += seconds
        return [each.name for each in self.collector.collect().conditions]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_card_that_lost_its_carrier_is_down_and_one_that_was_switched_off_is_not(node: Node) -> None:
    assert node.after() == []
    node.link("down")
    assert node.after() == ["net.link_down"]
    node.link("down", flags="0x1002")
    assert node.after() == []


def test_a_card_that_never_had_a_carrier_is_an_unused_one(node: Node) -> None:
    node.link("down")
    assert node.after() == []


def test_a_carrier_that_went_and_came_between_two_looks_is_seen_by_its_count(node: Node) -> None:
    node.link(changes=40)
    assert node.after() == [], "what was before the first look says nothing"
    node.link(changes=42)
    assert node.after() == ["net.link_flapping"]
    assert node.after(585) == ["net.link_flapping"]
    assert node.after(15) == []


def test_one_packet_in_a_hundred_is_too_many_errors_and_a_handful_is_none(node: Node) -> None:
    node.traffic(packets=1000, errors=500)
    assert node.after() == []
    node.traffic(packets=1100, errors=509)
    assert node.after() == [], "nine errors"
    node.traffic(packets=1900, errors=510)
    assert node.after() == ["net.errors"], "ten of nine hundred"
    node.traffic(packets=1_001_900, errors=511)
    assert node.after() == [], "one in ninety thousand"


def test_a_tenth_of_the_segments_sent_again_is_said_once_there_are_enough_to_tell(node: Node) -> None:
    node.traffic(sent=1, again=0)
    node.after()
    node.traffic(sent=901, again=800)
    assert node.after() == []
    node.traffic(sent=10_001, again=1_001)
    assert node.after() == ["net.retransmits"]
    assert node.after(120) == []


def test_a_card_gives_state_speed_traffic_and_errors_and_a_bridge_nothing(node: Node) -> None:
    node.traffic(packets=10, errors=2)
    identity = (("hw.id", "eth0"), ("hw.type", "network"))
    assert set(node.collector.collect().samples) == {
        ("ryzen.network.tcp.retransmits", 0.0, ()),
        ("hw.network.up", 1.0, identity),
        ("hw.network.bandwidth.limit", 12.5e9, identity),
        ("hw.network.io", 5.0, (*identity, ("network.io.direction", "receive"))),
        ("hw.network.io", 6.0, (*identity, ("network.io.direction", "transmit"))),
        ("hw.errors", 2.0, (*identity, ("error.type", "receive"))),
        ("hw.errors", 0.0, (*identity, ("error.type", "transmit"))),
    }


def test_no_network_at_all_is_nothing_here_and_no_proc_is_a_look_that_failed(tmp_path: Path) -> None:
    put(tmp_path, {"proc/net/dev": HEAD})
    with pytest.raises(NothingHereError):
        NetworkCollector(HealthSettings(proc=tmp_path / "proc", sys=tmp_path / "sys")).collect()
    with pytest.raises(FileNotFoundError):
        NetworkCollector(HealthSettings(proc=tmp_path / "nowhere")).collect()


def test_this_very_node_can_be_looked_at() -> None:
    names = {each.name for each in NetworkCollector(HealthSettings()).collect().samples}
    assert "ryzen.network.tcp.retransmits" in names
