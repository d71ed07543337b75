"""InfiniBand and RoCE ports: state, rate, traffic and error counters. The rules are in `port_rules.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ryzen_agent.health.collector import Collector, NothingHereError
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
        self.sources = (settings.sys / "class/infiniband",)
        self._now = now
        self._files = SmallFiles()
        self._histories: dict[str, PortHistory] = {}

    def collect(self) -> Reading:
        """Raises OSError where there are ports and none lets its state be read."""
        ports = {each.name: each for each in self._read()}
        known = [each for each in ports.values() if each.state]
        if ports and not known:
            raise PermissionError(f"no port lets its state be read: {', '.join(ports)}")
        now_s = self._now()
        conditions: dict[tuple[str, str], Condition] = {each.key: each for each in slower_than_peers(known)}
        for name in ports:
            self._histories.setdefault(name, PortHistory())
        for name, history in self._histories.items():
            conditions |= {each.key: each for each in said_of(history, now_s, ports.get(name))}
        samples = tuple(sample for port in known for sample in samples_of(port))
        return Reading(conditions=tuple(conditions.values()), samples=samples)

    def _read(self) -> list[Port]:
        try:
            return read_ports(self._settings.sys, self._settings.infiniband_exclude, self._files)
        except NothingHereError:
            if not self._histories:
                raise
            return []  # the driver was taken away, and its ports with it


def said_of(history: PortHistory, now_s: float, port: Port | None) -> list[Condition]:
    """None: the port is not there any more."""
    if port is None:
        return history.gone(now_s)
    return history.look(now_s, port) if port.state else history.unknown(now_s)


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
