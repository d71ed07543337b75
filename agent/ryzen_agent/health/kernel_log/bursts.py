"""Repeated lines -> one event with a count. A broken GPU has been seen to write 800,000 lines of which 29 differed.

The first of its kind is told at once. Those that equal it are counted, and told as one event `WINDOW_S` later and then
once a window for as long as they come. Equal: kind, code, device, unit, pid, action, and the message without its
numbers.

Memory is bounded: with `OPEN_MAX` kinds in one window the distinctions become coarser (first no unit, pid and message,
then no device), so that what is folded is still one fault's.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, replace

from ryzen_agent.health.model import Event

WINDOW_S = 5.0
OPEN_MAX = 1024

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(slots=True)
class _Burst:
    until_s: float
    last: Event
    repeats: int = 0


class Bursts:
    """Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._open: dict[Hashable, _Burst] = {}  # all windows are equally long: in the order of their ends

    def add(self, event: Event, now_s: float) -> tuple[Hashable, Event | None]:
        """The burst it belongs to, and the event if it is the first of it."""
        key = self._key(event)
        burst = self._open.get(key)
        if burst is None:
            self._open[key] = _Burst(now_s + WINDOW_S, event)
            return key, event
        burst.repeats += event.count
        burst.last = event
        return key, None

    def repeat(self, key: Hashable, at_unix_s: float) -> bool:
        """One more of a burst whose message is the same to the letter. False where the burst is over."""
        burst = self._open.get(key)
        if burst is None:
            return False
        burst.repeats += 1
        if at_unix_s > burst.last.at_unix_s + 1:
            burst.last = replace(burst.last, at_unix_s=at_unix_s)
        return True

    def due(self, now_s: float) -> list[Event]:
        """Events for the repeats of every window that has ended, in the order of their last line."""
        told = []
        while self._open:
            key = next(iter(self._open))
            burst = self._open[key]
            if burst.until_s > now_s:
                break
            del self._open[key]
            if burst.repeats:
                told.append(replace(burst.last, count=burst.repeats))
                self._open[key] = _Burst(now_s + WINDOW_S, burst.last)
        return sorted(told, key=lambda event: event.at_unix_s)

    @property
    def next_due_s(self) -> float:
        """When the next window ends; infinity where none is open."""
        return next(iter(self._open.values())).until_s if self._open else float("inf")

    def _key(self, event: Event) -> Hashable:
        place = event.device or event.pci
        if len(self._open) >= 3 * OPEN_MAX:
            return (event.kind, event.action)
        if len(self._open) >= 2 * OPEN_MAX:
            return (event.kind, event.action, event.code)
        if len(self._open) >= OPEN_MAX:
            return (event.kind, event.action, event.code, place)
        if event.kind == "oom" and event.pid is not None:  # one kill is two lines of other words
            return (event.kind, event.action, event.pid)
        words = _NUMBER.sub("#", event.message)
        return (event.kind, event.action, event.code, place, event.unit, event.pid, words)
