"""Two sources tell of one Xid: the kernel log with the process and the unit, the driver's event with neither.

The kernel log is the fuller one and comes by itself. What the driver says is therefore held back for a moment while the
kernel log is read, and dropped where that tells of the same; an unprivileged agent reads no kernel log and passes it on
at once. Two events of *one* source are never the same: that is how repeats are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ryzen_agent.health.model import Event

FULLER = "kernel_log"
"""Name of the collector of the kernel log."""
SAME_S = 1.0
"""Two sources that tell of one thing so close to each other mean one event. The clock of kernel log lines drifts from
the wall clock, so that either of the stated times and the times of arrival may be the close ones."""
HELD_S = 0.25
"""How long the lesser source waits for the fuller one. Lower: a pid and a unit are lost now and then; higher: where the
kernel log misses an Xid, it is told so much later."""


@dataclass(frozen=True, slots=True)
class _Seen:
    source: str
    event: Event
    arrived_s: float

    def is_told_by(self, other: _Seen) -> bool:
        one, two = self.event, other.event
        if self.source == other.source or (one.kind, one.code) != (two.kind, two.code):
            return False
        if not (one.pci == two.pci if one.pci and two.pci else one.device == two.device):
            return False
        if None not in (one.pid, two.pid) and one.pid != two.pid:
            return False
        return min(abs(self.arrived_s - other.arrived_s), abs(one.at_unix_s - two.at_unix_s)) <= SAME_S


class Pairing:
    """Passes each event on once. `later`: calls back after so many seconds."""

    def __init__(self, tell: Callable[[Event], None], later: Callable[[float, Callable[[], None]], object]) -> None:
        self._tell = tell
        self._later = later
        self._told: deque[_Seen] = deque(maxlen=256)
        self._held: list[_Seen] = []

    def take(self, source: str, event: Event, fuller_works: bool, now_s: float) -> None:
        """An event with a code, of a device. `fuller_works`: the kernel log is read."""
        seen = _Seen(source, event, now_s)
        if any(seen.is_told_by(each) for each in self._told):
            return
        if source != FULLER and fuller_works:
            self._held.append(seen)
            self._later(HELD_S, lambda: self._release(seen))
            return
        self._held = [each for each in self._held if not each.is_told_by(seen)]
        self._pass_on(seen)

    def flush(self) -> None:
        """What is held back, now."""
        for each in list(self._held):
            self._release(each)

    def _release(self, seen: _Seen) -> None:
        if seen in self._held:
            self._held.remove(seen)
            self._pass_on(seen)

    def _pass_on(self, seen: _Seen) -> None:
        self._told.append(seen)
        self._tell(seen.event)
