"""Counters that only grow: by how much, within how long. A first look says nothing, a reset begins anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ryzen_agent.health.model import Condition


class Growth:
    """One counter. `keep_s`: the longest time that will be asked for."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._last: int | None = None
        self._grown: deque[tuple[float, int]] = deque()

    def look(self, now_s: float, value: int | None) -> int:
        """`value` None: unknown now (absent, refused, saturated). Returns how much it grew since the look before."""
        while self._grown and self._grown[0][0] <= now_s - self._keep_s:
            self._grown.popleft()
        before, self._last = self._last, value
        if before is None or value is None or value <= before:
            return 0
        self._grown.append((now_s, value - before))
        return value - before

    def within(self, now_s: float, window_s: float) -> int:
        """Growth seen in the last `window_s`."""
        return sum(grown for at_s, grown in self._grown if at_s > now_s - window_s)


class Held:
    """Conditions that stand a while longer than they are said, so that one that comes and goes is seen."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._held: dict[tuple[str, str], tuple[float, Condition]] = {}

    def look(self, now_s: float, said: Iterable[Condition]) -> tuple[Condition, ...]:
        """What is said now, and what was said within the last `hold_s`."""
        self._held |= {each.key: (now_s, each) for each in said}
        self._held = {key: each for key, each in self._held.items() if each[0] > now_s - self._hold_s}
        return tuple(condition for _, condition in self._held.values())
