"""Network cards: carrier, errors, traffic; TCP segments that had to be sent again. Bridges and pairs are left out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ryzen_agent.health import node_rules as rules
from ryzen_agent.health.collector import Collector, NothingHereError
from ryzen_agent.health.growth import Growth
from ryzen_agent.health.host_files import Interface, parse_net_dev, parse_snmp
from ryzen_agent.health.model import Condition, Reading, Sample
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.sysfs import SmallFiles, parse_number, read_whole

FLAP_WINDOW_S = 600.0
RATE_WINDOW_S = 120.0
ERRORS_MIN = 10
SEGMENTS_MIN = 1000
_IFF_UP = 0x1
_DOWN = frozenset({"down", "lowerlayerdown"})


@dataclass(slots=True)
class _Card:
    """What is remembered of one."""

    was_up: bool = False
    carrier: Growth = field(default_factory=lambda: Growth(FLAP_WINDOW_S))
    errors: Growth = field(default_factory=lambda: Growth(RATE_WINDOW_S))
    packets: Growth = field(default_factory=lambda: Growth(RATE_WINDOW_S))


class NetworkCollector(Collector):
    """The agent's own network namespace: in a container without the host's network, there is little to see."""

    name = "network"
    interval_s = 15.0

    def __init__(self, settings: HealthSettings, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._now = now
        self._files = SmallFiles()
        self._cards: dict[str, _Card] = {}
        self._sent = Growth(RATE_WINDOW_S)
        self._again = Growth(RATE_WINDOW_S)

    def collect(self) -> Reading:
        now_s = self._now()
        counters = parse_net_dev(read_whole(f"{self._settings.proc}/net/dev"))
        names = self._physical()
        self._cards = {each: self._cards.get(each) or _Card() for each in names}
        samples: list[Sample] = []
        conditions = [*self._retransmits(now_s, samples)]
        for name in names:
            samples += self._samples(name, counters.get(name))
            conditions += self._faults(now_s, name, counters.get(name))
        return Reading(conditions=tuple(conditions), samples=tuple(samples))

    def _physical(self) -> list[str]:
        folder = f"{self._settings.sys}/class/net"
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted
        except FileNotFoundError as error:
            raise NothingHereError("no network interface") from error
        return [each for each in names if os.path.exists(f"{folder}/{each}/device")]  # noqa: PTH110

    def _faults(self, now_s: float, name: str, counters: Interface | None) -> Iterator[Condition]:
        card, folder = self._cards[name], f"{self._settings.sys}/class/net/{name}"
        state = self._files.text(f"{folder}/operstate")
        if state == "up":
            card.was_up = True
        elif state in _DOWN and card.was_up and self._is_switched_on(folder):
            yield rules.NET_DOWN.condition(f"no carrier, operational state {state}", device=name)
        card.carrier.look(now_s, self._files.number(f"{folder}/carrier_changes"))
        changes = card.carrier.within(now_s, FLAP_WINDOW_S)
        if changes >= (rules.NET_FLAPPING.limit or 0):
            yield rules.NET_FLAPPING.condition("the carrier came or went", device=name, value=changes)
        if counters is not None:
            card.errors.look(now_s, counters.received_errors + counters.sent_errors)
            card.packets.look(now_s, counters.received_packets + counters.sent_packets)
        errors, packets = card.errors.within(now_s, RATE_WINDOW_S), card.packets.within(now_s, RATE_WINDOW_S)
        percent = 100.0 * errors / max(packets, 1)
        if errors >= ERRORS_MIN and percent > (rules.NET_ERRORS.limit or 0.0):
            yield rules.NET_ERRORS.condition("packets with errors", device=name, value=percent)

    def _is_switched_on(self, folder: str) -> bool:
        """Whether a person wants it up (IFF_UP, "0x1003")."""
        flags = self._files.text(f"{folder}/flags") or "0x0"
        return bool(int(flags, 16) & _IFF_UP)

    def _samples(self, name: str, counters: Interface | None) -> Iterator[Sample]:
        identity = (("hw.id", name), ("hw.type", "network"))
        folder = f"{self._settings.sys}/class/net/{name}"
        is_up = self._files.text(f"{folder}/operstate") == "up"
        yield Sample("hw.network.up", float(is_up), identity)
        speed = read_speed(f"{folder}/speed") if is_up else None
        if speed is not None:
            yield Sample("hw.network.bandwidth.limit", speed * 1e6 / 8, identity)
        if counters is None:
            return
        io = {"receive": counters.received_bytes, "transmit": counters.sent_bytes}
        for direction, count in io.items():
            yield Sample("hw.network.io", float(count), (*identity, ("network.io.direction", direction)))
        errors = {"receive": counters.received_errors, "transmit": counters.sent_errors}
        for direction, count in errors.items():
            yield Sample("hw.errors", float(count), (*identity, ("error.type", direction)))

    def _retransmits(self, now_s: float, samples: list[Sample]) -> Iterator[Condition]:
        tcp = parse_snmp(read_whole(f"{self._settings.proc}/net/snmp"))
        self._sent.look(now_s, tcp.get("OutSegs"))
        self._again.look(now_s, tcp.get("RetransSegs"))
        if "RetransSegs" in tcp:
            samples.append(Sample("ryzen.network.tcp.retransmits", float(tcp["RetransSegs"])))
        sent, again = self._sent.within(now_s, RATE_WINDOW_S), self._again.within(now_s, RATE_WINDOW_S)
        percent = 100.0 * again / max(sent, 1)
        if sent >= SEGMENTS_MIN and percent > (rules.NET_RETRANSMITS.limit or 0.0):
            yield rules.NET_RETRANSMITS.condition("TCP segments are lost on the way", value=percent)


def read_speed(path: str) -> int | None:
    """Mbit/s; None where a driver does not say (EINVAL, -1), which may change with the cable."""
    try:
        speed = parse_number(read_whole(path).strip())
    except OSError:
        return None
    return speed if speed is not None and speed > 0 else None
