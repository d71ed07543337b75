"""InfiniBand and RoCE ports: state, rate, traffic and error counters. The rules are in `port_rules.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ryzen_agent.health.collector import Collector
from ryzen_agent.health.model import Condition, Reading, Sample
from ryzen_agent.health.port_rules import PortHistory, slower_than_peers
from ryzen_agent.health.ports import DATA, Port, read_ports
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.sysfs import SmallFiles

_WORD_BYTES = 4
_DIRECTION = {"port_rcv_data": "receive", "port_xmit_data": "transmit"}


class InfinibandCollector(Collector):
    """Fifteen seconds between looks: a flap is 25 s of being down."""

    name = "infiniband"
    interval_s = 15.0

    def __init__(self, settings: HealthSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._files = SmallFiles()
        self._histories: dict[str, PortHistory] = {}

    def collect(self) -> Reading:
        ports = read_ports(self._settings.sys, self._settings.infiniband_exclude, self._files)
        now_s = self._now()
        conditions: dict[tuple[str, str], Condition] = {each.key: each for each in slower_than_peers(ports)}
        for port in ports:
            history = self._histories.setdefault(port.name, PortHistory())
            conditions |= {each.key: each for each in history.look(now_s, port)}
        listed = {each.name for each in ports}
        for name in self._histories.keys() - listed:
            conditions |= {each.key: each for each in self._histories[name].gone(now_s)}
        samples = tuple(sample for port in ports for sample in samples_of(port))
        return Reading(conditions=tuple(conditions.values()), samples=samples)


def samples_of(port: Port) -> Iterator[Sample]:
    """`hw.*` of OpenTelemetry's conventions; bandwidth in bytes a second, traffic in bytes."""
    identity = (("hw.id", port.name), ("hw.type", "network"))
    yield Sample("hw.network.up", float(port.is_up), identity)
    if port.rate_gbps is not None:
        yield Sample("hw.network.bandwidth.limit", port.rate_gbps * 1e9 / 8, identity)
    for counter, value in port.counters.items():
        if counter in DATA:
            direction = ("network.io.direction", _DIRECTION[counter])
            yield Sample("hw.network.io", float(value * _WORD_BYTES), (*identity, direction))
        else:
            yield Sample("hw.errors", float(value), (*identity, ("error.type", counter)))
