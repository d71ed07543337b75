"""A log that is followed: what the collector needs of it, whatever it is."""

from __future__ import annotations

import select
from abc import ABC, abstractmethod

from ryzen_agent.health.kernel_log.place import Place


class Source(ABC):
    """`lost`: records that were overwritten before they were read, since it was opened. `is_live`: what `read` gives
    was said just now; false until the end has been reached once."""

    lost: int = 0
    is_live: bool = False

    @abstractmethod
    def read(self) -> list[bytes]:
        """A bounded number of lines that are there now; none where it has been read to its end. Raises OSError."""

    @abstractmethod
    def wait(self, timeout_s: float, wake: int) -> None:
        """Returns when there may be more, when descriptor `wake` is readable, or after the time."""

    @abstractmethod
    def place(self) -> Place:
        """Behind the last line that `read` has given."""

    @abstractmethod
    def close(self) -> None:
        """Once, at the end."""


def wait_for(descriptors: tuple[int, ...], timeout_s: float) -> set[int]:
    """Those that are readable, after at most the time."""
    poll = select.poll()
    for each in descriptors:
        poll.register(each, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(max(0.0, timeout_s) * 1000)}
