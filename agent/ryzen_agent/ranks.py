"""Which processes are ranks of a torchrun.

A rank is a child of torchrun, or a child of such a child (a warm parent's stub, a wrapper), whose environment
carries torchrun's RANK, LOCAL_RANK and TORCHELASTIC_RUN_ID. Between fork and exec a child still shows
torchrun's own environment, so a child that is no rank yet is looked at again for a while. RANK alone is not
enough: Kubernetes operators and Slurm scripts set it for torchrun itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ryzen_agent import procfs

UNDECIDED_S = 5.0
"""How long a child without a rank's environment is looked at again; the time from fork to exec is far shorter."""


LIST_BYTES = 4096
"""Of the list of children, some five hundred of them. More ranks on one node are found by the thorough look."""


@dataclass(frozen=True, slots=True)
class RankIdentity:
    run_id: str
    generation: int  # 0: started by a torchrun without our handler
    rank: int
    local_rank: int

    def is_possible(self) -> bool:
        """Whether it fits in a message: environments and pages may hold anything."""
        return 0 <= self.generation < 1 << 63 and 0 <= self.rank < 1 << 31 and 0 <= self.local_rank < 1 << 31


@dataclass(frozen=True, slots=True)
class FoundRank:
    identity: RankIdentity
    pid: int
    start_ticks: int


def identity_from_environ(environ: dict[str, str]) -> RankIdentity | None:
    """The rank that a process with this environment is; None where torchrun did not start it."""
    try:
        identity = RankIdentity(
            run_id=environ["TORCHELASTIC_RUN_ID"],
            generation=int(environ.get("RYZEN_GENERATION", "0")),
            rank=int(environ["RANK"]),
            local_rank=int(environ["LOCAL_RANK"]),
        )
    except (KeyError, ValueError):
        return None
    return identity if identity.is_possible() else None


class RankFinder:
    """Finds the ranks of one torchrun. The usual call costs one read of its main thread's list of children."""

    def __init__(self, torchrun_pid: int, run_id: str) -> None:
        """Raises ProcessLookupError where torchrun is gone."""
        self._pid = torchrun_pid
        self._run_id = run_id
        self._known: dict[int, float] = {}  # child -> until when it may still become a rank
        self._last = b""
        try:
            self._children = os.open(f"/proc/{torchrun_pid}/task/{torchrun_pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ProcessLookupError(f"no process {torchrun_pid}") from error

    def find(self, now: float, thorough: bool = False) -> list[FoundRank]:
        """Ranks that were not found before. `thorough` also looks at children of torchrun's other threads."""
        try:
            text = os.pread(self._children, LIST_BYTES, 0)
        except OSError:
            return []
        undecided = any(until > now for until in self._known.values())
        if text == self._last and not undecided and not thorough:
            return []
        self._last = text
        children = procfs.children_of(self._pid) if thorough else procfs.parse_pids(text)
        return self._look_at(children, now)

    def close(self) -> None:
        if self._children >= 0:
            os.close(self._children)
            self._children = -1

    def _look_at(self, children: list[int], now: float) -> list[FoundRank]:
        found = []
        self._known = {pid: until for pid, until in self._known.items() if pid in children}
        for child in children:
            until = self._known.setdefault(child, now + UNDECIDED_S)
            if until <= now:
                continue
            ranks = [rank for pid in (child, *procfs.children_of(child)) if (rank := self._as_rank(pid))]
            if ranks:
                found.append(ranks[0])
                self._known[child] = 0.0
        return found

    def _as_rank(self, pid: int) -> FoundRank | None:
        identity = identity_from_environ(procfs.read_environ(pid))
        if identity is None or identity.run_id != self._run_id:
            return None
        try:
            return FoundRank(identity, pid, procfs.read_stat(pid).start_ticks)
        except ProcessLookupError:
            return None
