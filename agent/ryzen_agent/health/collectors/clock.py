"""Whether somebody keeps the node's clock right. Its offset to the coordinator's is measured with each report."""

from __future__ import annotations

import time
from collections.abc import Callable

from ryzen_agent.health import node_rules as rules
from ryzen_agent.health.adjtimex import Clock, read_clock
from ryzen_agent.health.collector import Collector
from ryzen_agent.health.model import Condition, Reading, Sample
from ryzen_agent.health.settings import HealthSettings

_OFFSET_FOR_S = 600.0


class ClockCollector(Collector):
    """A step of the clock is one look with a large offset: only a lasting one is said."""

    name = "clock"
    interval_s = 60.0

    def __init__(
        self,
        settings: HealthSettings,  # noqa: ARG002 - the clock is not under a root
        now: Callable[[], float] = time.monotonic,
        read: Callable[[], Clock] = read_clock,
    ) -> None:
        self._now = now
        self._read = read
        self._off_since_s: float | None = None

    def collect(self) -> Reading:
        clock, now_s = self._read(), self._now()
        conditions: list[Condition] = []
        if not clock.is_synchronised and clock.error_max_s >= (rules.CLOCK_UNSYNCHRONISED.limit or 0.0):
            message = "no time service disciplines the clock (chrony, ntpd, timesyncd or the host's)"
            conditions.append(rules.CLOCK_UNSYNCHRONISED.condition(message, value=clock.error_max_s))
        if abs(clock.offset_s) <= (rules.CLOCK_OFFSET.limit or 0.0):
            self._off_since_s = None
        elif self._off_since_s is None:
            self._off_since_s = now_s
        if self._off_since_s is not None and now_s - self._off_since_s >= _OFFSET_FOR_S:
            message = "the time service has an offset left that it does not get rid of"
            conditions.append(rules.CLOCK_OFFSET.condition(message, value=clock.offset_s))
        samples = (
            Sample("ryzen.clock.offset", clock.offset_s),
            Sample("ryzen.clock.error.estimated", clock.error_s),
            Sample("ryzen.clock.error.limit", clock.error_max_s),
            Sample("ryzen.clock.synchronised", float(clock.is_synchronised)),
        )
        return Reading(conditions=tuple(conditions), samples=samples)
