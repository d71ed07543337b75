"""What is remembered of one GPU: of its last looks, as much as the rules compare with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from ryzen_agent.health.gpu.reading import GpuReading

KEPT_S = 660.0
"""A little more than the longest window that a rule looks at (ten minutes)."""


class Look(NamedTuple):
    """One look of the past."""

    at_s: float
    temperature_c: float | None
    throttling: int
    busy: bool | None
    above_maximum: bool
    above_peers: bool
    links_down: frozenset[int]
    link_errors: int | None
    pcie_replays: int | None
    slow_pcie: bool
    fabric_incomplete: bool
    unknown: int
    """Questions answered by "unknown error"."""


class History:
    """Looks of the last minutes, oldest first, the newest being the one that is judged."""

    def __init__(self) -> None:
        self.looks: deque[Look] = deque()
        self.links_seen_active: set[int] = set()

    def add(self, look: Look, reading: GpuReading) -> None:
        """Take in a look."""
        self.links_seen_active.update(link for link, active in reading.links.items() if active)
        self.looks.append(look)
        while look.at_s - self.looks[0].at_s > KEPT_S:
            self.looks.popleft()

    def in_a_row(self, holds: Callable[[Look], bool]) -> int:
        """For how many looks, up to the newest, something has held."""
        count = 0
        for look in reversed(self.looks):
            if not holds(look):
                break
            count += 1
        return count

    def since(self, seconds: float) -> list[Look]:
        """Looks of the last `seconds`."""
        newest = self.looks[-1].at_s
        return [each for each in self.looks if newest - each.at_s <= seconds]

    def growth(self, count: Callable[[Look], int | None], seconds: float) -> tuple[int, float]:
        """(how much a counter has grown, over how many seconds) within the last `seconds`.

        A counter that falls has been reset: what it shows then has all been counted since.
        """
        looks = [(each.at_s, value) for each in self.since(seconds) if (value := count(each)) is not None]
        grown = 0
        for (_, before), (_, after) in pairwise(looks):
            grown += after - before if after >= before else after
        return grown, looks[-1][0] - looks[0][0] if len(looks) > 1 else 0.0
