"""What a collector is. Each has a thread of its own, for a driver or a dead file system may hold it for ever."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from ryzen_agent.health.model import Reading


class NothingHereError(Exception):
    """There is nothing of this kind on the node (no driver, no such device). Healthy; the text says what is absent."""


class Collector(ABC):
    """One source. `collect` is called again and again in the collector's own thread, at least `interval_s` apart.

    Anything it raises but `NothingHereError` is a failed look: counted, said once, shown in the status, tried again.
    A call that does not return within `deadline_s` makes the collector *stalled*, itself a condition; nothing waits.
    """

    name: str
    interval_s: float
    deadline_s: float = 10.0
    sources: Sequence[Path] = ()
    """Where nothing is here: as soon as one of these appears it is asked again."""

    @abstractmethod
    def collect(self) -> Reading:
        """One look. May block up to the deadline. Raises NothingHereError, or whatever its source raises."""

    def interrupt(self) -> None:  # noqa: B027 - few have something to wait for
        """Called from another thread at the end: a `collect` that waits for something returns soon."""

    def close(self) -> None:  # noqa: B027 - few have something to close
        """Called in the collector's thread after the last `collect`."""
