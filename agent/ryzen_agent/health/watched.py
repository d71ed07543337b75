"""Whose processes are looked at: the agent says which ranks it has, collectors ask, each in its own thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Watched:
    """Processes of the ranks, a set a job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: dict[str, tuple[int, ...]] = {}

    def put(self, job: str, pids: Iterable[int]) -> None:
        """These are the job's ranks from now on; none: the job is over."""
        ranks = tuple(pids)
        with self._lock:
            if ranks:
                self._pids[job] = ranks
            else:
                self._pids.pop(job, None)

    def pids(self) -> tuple[tuple[int, str], ...]:
        """(pid, job) of every rank."""
        with self._lock:
            return tuple((pid, job) for job, pids in self._pids.items() for pid in pids)
