"""Whether all ranks do the same collectives: how many each had begun on the default group when a step began.

Every rank of a job calls every collective of the default group, so between two steps the count grows by as much on
all of them. A rank whose count has grown by less has skipped one: since then its gradients are added to those of
another step. Nothing fails by that, often until the end, where the one that is ahead finishes first.

Agents report the counts at a few steps ("marks": the newest, the newest multiples of 8 and 64), so that nodes that
report at different moments have some in common. Counts are compared by their growth since the last mark at which all
agreed, never by themselves: a script may have its reasons for one more on rank 0 at the start. A difference at one
mark alone proves nothing either (a barrier before the step's begin on one rank and after it on the others); one
that has not gone by the next mark does, if it is of a minority that lags. One that is ahead has its reasons (rank 0
that receives what the others send).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

STEPS_KEPT = 96
"""Steps of which counts are kept; the newest win."""

AGREEMENTS = 3
"""Marks to which all counts must have grown by the same before a difference means anything. A pipeline's sends and
receives are counted too (on gloo), and differ from its first step on."""

_UNKNOWN = -1
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """`clean_step`: the newest step at whose begin all ranks agreed; `step`: the first at whose begin they did not.

    `ranks`: the minority, empty where there is none; `behind`: by how many collectives it lags.
    """

    clean_step: int
    step: int
    ranks: tuple[int, ...]
    behind: int

    def words(self) -> str:
        who = f"rank {', '.join(map(str, self.ranks))}" if self.ranks else "one of the ranks"
        often = f"{self.behind} collective{'s' if self.behind != 1 else ''}"
        verb = "are" if len(self.ranks) > 1 else "is"
        return f"{who} {verb} {often} behind the others at step {self.step}; all agreed at step {self.clean_step}"


@dataclass(slots=True)
class Marks:
    """The counts of one generation. Of these only `even_step` is saved: agents report the rest again."""

    generation: int = 0
    size: int = 0
    counts: dict[int, Counts] = field(default_factory=dict)
    missing: dict[int, int] = field(default_factory=dict)
    agreed_step: int = -1
    agreed: Counts | None = None
    agreements: int = 0
    even: bool = False
    off: bool = False
    offset: int | None = None
    suspected: Disagreement | None = None
    confirmed: Disagreement | None = None

    def begin(self, generation: int, size: int) -> None:
        """A new world of `size` ranks."""
        self.generation, self.size = generation, size
        self.counts, self.missing = {}, {}
        self.agreed_step, self.agreed, self.agreements, self.even = -1, None, 0, False
        self.suspected = self.confirmed = None
        self.off, self.offset = False, None

    @property
    def even_step(self) -> int | None:
        """The newest step at whose begin all ranks had begun equally many, once that is known for good; else None.

        It is all that has to outlive a restart: from there on their counts themselves must be equal.
        """
        return self.agreed_step if self.even and self.agreements >= AGREEMENTS else None

    def restore(self, even_step: int | None) -> None:
        """Go on from what was saved of this generation."""
        if even_step is not None:
            self.agreed_step, self.agreements, self.even = even_step, AGREEMENTS, True
            self.agreed = np.zeros(self.size, dtype=np.int64)

    def observe(self, ranks: Sequence[int], marks: tuple[tuple[int, int], ...], offset: int = 0) -> None:
        """Take in what the pages of these ranks say alike, and compare where that makes a step complete.

        `offset`: the step's number less the steps done. Where it is not the same for all and for good (a loop an
        epoch, each from 0; steps that are passed over), a number names more than one step, and nothing is compared.
        """
        if self.offset is None:
            self.offset = offset
        if self.off or offset != self.offset:
            self.off = True
            self.suspected = self.confirmed = None
            return
        for step, count in marks:
            if step <= self.agreed_step:
                continue
            counts = self.counts.get(step)
            if counts is None:
                counts = self._new(step)
            fresh = {rank for rank in ranks if rank < self.size and counts[rank] == _UNKNOWN}
            if not fresh:
                continue
            counts[list(fresh)] = count
            self.missing[step] -= len(fresh)
            if not self.missing[step]:
                self._compare(step, counts)

    def _new(self, step: int) -> Counts:
        if len(self.counts) >= STEPS_KEPT:
            # Steps that only some report (the newest one) make room before those that all will.
            oldest = min(self.counts, key=lambda each: (each % 8 == 0, each % 64 == 0, each))
            self._forget(oldest)
        self.counts[step] = counts = np.full(self.size, _UNKNOWN, dtype=np.int64)
        self.missing[step] = self.size
        return counts

    def _forget(self, step: int) -> None:
        del self.counts[step], self.missing[step]

    def _compare(self, step: int, counts: Counts) -> None:
        if self.agreed is None:
            self._agree(step, counts)
            return
        grown = counts - self.agreed
        if (grown == grown[0]).all():
            self._agree(step, counts, grew=bool(grown[0] > 0))
        elif self.agreements >= AGREEMENTS:
            self._disagree(step, grown)
        else:  # not all do the same so far: begin again from here
            self.agreements = 0
            self._agree(step, counts)

    def _agree(self, step: int, counts: Counts, grew: bool = False) -> None:
        self.agreed_step, self.agreed = step, counts
        self.agreements += grew
        self.even = bool((counts == counts[0]).all())
        self.suspected = None
        for old in [each for each in self.counts if each <= step]:
            self._forget(old)

    def _disagree(self, step: int, grown: Counts) -> None:
        found = _disagreement(self.agreed_step, step, grown)
        if found.behind <= 0 or (not found.ranks and self.size > 2):
            return  # one that does more, or no minority: none has skipped anything
        before = self.suspected
        if before is None or step < before.step:
            self.suspected = found
        elif self.confirmed is None and (found.ranks, found.behind) == (before.ranks, before.behind):
            self.confirmed = before


def _disagreement(clean_step: int, step: int, grown: Counts) -> Disagreement:
    values, counts = np.unique(grown, return_counts=True)
    most = int(np.argmax(counts))
    if 2 * int(counts[most]) <= len(grown):
        return Disagreement(clean_step, step, (), int(grown.max() - grown.min()))
    usual = int(values[most])
    minority = np.flatnonzero(grown != usual)
    behind = usual - int(grown[minority[0]])
    return Disagreement(clean_step, step, tuple(int(rank) for rank in minority), behind)
