"""What a port's history says: down, dropped, flapping, errors, slower than it was or than its peers are.

A port that has never been up while the agent looked is an unused one and no fault. Times are arguments.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from ryzen_agent.health import node_rules as rules
from ryzen_agent.health.growth import Growth, Held
from ryzen_agent.health.model import Condition
from ryzen_agent.health.ports import BITS, HARDWARE, Port

FLAP_DOWN_S = 25.0
FLAP_WINDOW_S = 12 * 3600.0
HOLD_S = 600.0
"""All three as gpud has them: how long down makes a flap, how far back flaps count, how long a fault is held."""


class CounterLimit(NamedTuple):
    counter: str
    at_most: int
    window_s: float

    def row(self) -> str:
        """The limit as a line of the table in docs/health.md."""
        return f"| `{self.counter}` | {self.at_most:,} | {self.window_s:g} s |"


COUNTER_LIMITS = (
    CounterLimit("symbol_error", 120, 3600.0),
    CounterLimit("link_error_recovery", 5, 60.0),
    CounterLimit("port_rcv_errors", 600, 60.0),
    CounterLimit("port_xmit_discards", 6000, 60.0),
    CounterLimit("local_link_integrity_errors", 0, 60.0),
    CounterLimit("excessive_buffer_overrun_errors", 0, 60.0),
    CounterLimit("rnr_nak_retry_err", 0, 60.0),
)
"""NVSentinel's limits. Its "10 a second" is 600 in a minute here: a burst of one second is no fault."""


class PortHistory:
    """One port over time. `look` gives the conditions of now."""

    def __init__(self) -> None:
        self._was_up: Port | None = None
        self._best_gbps = 0.0
        self._down_since_s: float | None = None
        self._link_downed: int | None = None
        self._flaps: deque[float] = deque()
        self._growth = {each: Growth(3600.0) for each in (*BITS, *HARDWARE)}
        self._held = Held(HOLD_S)

    def look(self, now_s: float, port: Port) -> list[Condition]:
        for counter, growth in self._growth.items():
            growth.look(now_s, port.counters.get(counter))
        held = self._held.look(now_s, [*self._faults(now_s, port)])
        return [*held, *self._levels(port)]

    def gone(self, now_s: float) -> list[Condition]:
        """Not listed any more: down if it ever was up, but no drop, for a container may have been given it."""
        held = self._held.look(now_s, ())
        return [*held, *(self._levels(replace(self._was_up, state="absent", saturated=())) if self._was_up else ())]

    def unknown(self, now_s: float) -> list[Condition]:
        """It is listed, and its state cannot be read now: nothing new is known."""
        return [*self._held.look(now_s, ())]

    def _faults(self, now_s: float, port: Port) -> Iterator[Condition]:
        """Those that are held a while."""
        if port.is_up:
            self._came_up(now_s, port)
        elif self._was_up is not None and self._has_dropped(now_s, port):
            limit = rules.PORT_DROPPED.limit
            yield rules.PORT_DROPPED.condition(f"down for more than {limit:g} s", device=port.name)
        while self._flaps and self._flaps[0] <= now_s - FLAP_WINDOW_S:
            self._flaps.popleft()
        if len(self._flaps) >= (rules.PORT_FLAPPING.limit or 0):
            message = f"came back {len(self._flaps)} times in 12 hours after 25 s or longer"
            yield rules.PORT_FLAPPING.condition(message, device=port.name, value=len(self._flaps))
        over = [
            f"{limit.counter} grew by more than {limit.at_most} in {limit.window_s:g} s"
            for limit in COUNTER_LIMITS
            if self._growth[limit.counter].within(now_s, limit.window_s) > limit.at_most
        ]
        if over:
            yield rules.PORT_ERRORS.condition("; ".join(over), device=port.name, value=len(over))

    def _levels(self, port: Port) -> Iterator[Condition]:
        """Those that are true now or not."""
        if not port.is_up and self._was_up is not None:
            state = "gone" if port.state == "absent" else f"state {port.state}, physical state {port.phys_state}"
            yield rules.PORT_DOWN.condition(state, device=port.name)
        if port.is_up and port.rate_gbps is not None and port.rate_gbps < self._best_gbps:
            yield rate_condition(port, self._best_gbps, "it had")
        if port.saturated:
            message = f"no longer counted until reset: {', '.join(port.saturated)}"
            yield rules.PORT_SATURATED.condition(message, device=port.name)

    def _came_up(self, now_s: float, port: Port) -> None:
        if self._down_since_s is not None and now_s - self._down_since_s >= FLAP_DOWN_S:
            self._flaps.append(now_s)
        self._was_up, self._down_since_s = port, None
        self._best_gbps = max(self._best_gbps, port.rate_gbps or 0.0)

    def _has_dropped(self, now_s: float, port: Port) -> bool:
        """A count of `link_downed` that moved while the port was down: it has been up between two looks."""
        link_downed = port.counters.get("link_downed")
        known = link_downed is not None and self._link_downed is not None
        if self._down_since_s is None or (known and link_downed != self._link_downed):
            self._down_since_s = now_s
        self._link_downed = link_downed
        return now_s - self._down_since_s > (rules.PORT_DROPPED.limit or 0.0)


def rate_condition(port: Port, other_gbps: float, whose: str) -> Condition:
    """`port` is slower than `other_gbps`."""
    message = f"{port.rate_gbps:g} Gbit/s, less than the {other_gbps:g} Gbit/s {whose}"
    return replace(rules.PORT_RATE.condition(message, device=port.name, value=port.rate_gbps), limit=other_gbps)


def slower_than_peers(ports: Iterable[Port]) -> list[Condition]:
    """Active ports that are slower than more than half of the active ports on the same kind of board.

    Two that differ make no majority; a board without a name has no peers.
    """
    groups: defaultdict[tuple[str, str], list[tuple[Port, float]]] = defaultdict(list)
    for port in ports:
        if port.is_up and port.board and port.rate_gbps is not None:
            groups[port.board, port.link_layer].append((port, port.rate_gbps))
    slow = []
    for group in groups.values():
        usual, count = Counter(rate for _, rate in group).most_common(1)[0]
        if count * 2 > len(group):
            slow += [rate_condition(port, usual, "that its peers have") for port, rate in group if rate < usual]
    return slow
