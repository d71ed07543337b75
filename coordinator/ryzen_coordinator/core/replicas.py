"""Whether data-parallel replicas hold the same parameters: digests of their bits, compared at equal steps.

Replicas apply the same averaged gradients to the same parameters, so after every optimizer step their bits are equal,
and a rank that is alone with its digest has computed or stored something wrong. There is no noise in this: one
difference is enough. What it means follows from who is how many in a group (the replicas of one shard):

    most agree           the minority is wrong
    no majority          of two that differ either may be wrong: nobody is named

A difference counts only once all have agreed at a step of this generation. Ranks that never do are no replicas (a
script with parameters of its own on each rank, an arithmetic that is not repeatable), and are left alone for good.

A step is compared when every rank of the world has told of it. Agents tell the last eight checks of each rank, so a
coordinator that was away for a moment, or comes back, misses nothing and saves none of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ryzen_coordinator.core.words import few

STEPS_KEPT = 32
"""Steps of which digests are kept until all ranks have told theirs; the newest win."""

Digests = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Difference:
    """`clean_step`: the newest after which all replicas agreed; `step`: the first after which they did not.

    `ranks`: those that are wrong; empty where that cannot be told. `apart`: all ranks of the groups that differ.
    """

    clean_step: int
    step: int
    ranks: tuple[int, ...]
    apart: tuple[int, ...]

    def words(self) -> str:
        when = f"after step {self.step}; all agreed after step {self.clean_step}"
        if not self.ranks:
            told = few(self.apart)
            return f"parameters of the replicas differ among ranks {told} {when}; it cannot be told which is wrong"
        who = f"rank {few(self.ranks)}"
        return f"parameters of {who} differ in their bits from those of the other replicas {when}"


@dataclass(slots=True)
class Replicas:
    """The digests of one generation. `off`: these ranks are no replicas, or a step's number names more than one."""

    generation: int = 0
    size: int = 0
    digests: dict[int, Digests] = field(default_factory=dict)
    known: dict[int, npt.NDArray[np.bool_]] = field(default_factory=dict)
    groups: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    agreed_step: int = -1
    off: bool = False
    difference: Difference | None = None

    def begin(self, generation: int, size: int) -> None:
        """A new world of `size` ranks."""
        self.generation, self.size = generation, size
        self.digests, self.known = {}, {}
        self.groups = np.zeros(size, dtype=np.int64)
        self.agreed_step, self.off, self.difference = -1, False, None

    def observe(self, ranks: Sequence[int], group: int, checks: Sequence[tuple[int, int]]) -> None:
        """Take in (step, digest) that these ranks tell alike, and compare where that makes a step complete."""
        places = np.array([rank for rank in ranks if rank < self.size], dtype=np.int64)
        if self.off or self.difference is not None or not len(places):
            return
        self.groups[places] = group
        for step, digest in sorted(checks):
            if step > self.agreed_step:
                self._enter(step, digest, places)
            if self.off or self.difference is not None:
                return

    def _enter(self, step: int, digest: int, places: npt.NDArray[np.int64]) -> None:
        if step not in self.digests:
            if len(self.digests) >= STEPS_KEPT:
                self._forget(min(self.digests))
            self.digests[step] = np.zeros(self.size, dtype=np.uint64)
            self.known[step] = np.zeros(self.size, dtype=np.bool_)
        digests, known = self.digests[step], self.known[step]
        value = np.uint64(digest)
        if (known[places] & (digests[places] != value)).any():
            self.off = True  # a loop an epoch, each from 0: the number names more than one state
            return
        before = bool(known.all())
        digests[places], known[places] = value, True
        if known.all() and not before:
            self._compare(step, digests)

    def _forget(self, step: int) -> None:
        del self.digests[step], self.known[step]

    def _compare(self, step: int, digests: Digests) -> None:
        wrong, apart = _odd_ones(digests, self.groups)
        if not len(apart):
            self.agreed_step = step
            for old in [each for each in self.digests if each <= step]:
                self._forget(old)
        elif self.agreed_step < 0:
            self.off = True
        else:
            ranks, all_of_them = (tuple(int(rank) for rank in found) for found in (wrong, apart))
            self.difference = Difference(self.agreed_step, step, ranks, all_of_them)


def _odd_ones(digests: Digests, groups: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The ranks that are wrong (none unless each group that differs has a majority), and all ranks of those groups."""
    nobody = np.zeros(0, dtype=np.int64)
    wrong, apart, sure = [nobody], [nobody], True
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        values, counts = np.unique(digests[members], return_counts=True)
        if len(values) == 1:
            continue
        apart.append(members)
        most = int(np.argmax(counts))
        if 2 * int(counts[most]) > len(members):
            wrong.append(members[digests[members] != values[most]])
        else:
            sure = False
    return np.sort(np.concatenate(wrong)) if sure else nobody, np.sort(np.concatenate(apart))
