"""Virtual time: a heap of things that happen. Nothing here knows what is simulated."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Engine:
    """Runs what is due, in order of time, and of the call where times are equal. `now_s` never runs backwards."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now_s + max(delay_s, 0.0), self._count, act))

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        self.after(when_s - self.now_s, act)

    def run(self, until_s: float, over: Callable[[], bool]) -> None:
        """Until nothing is left, it is `over`, or the time has come."""
        while self._heap and not over():
            when_s, _, act = heapq.heappop(self._heap)
            if when_s > until_s:
                self.now_s = until_s
                return
            self.now_s = when_s
            act()
