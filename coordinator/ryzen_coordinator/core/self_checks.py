"""Ranks that contradict themselves: the same computation done twice on one device, with two results.

    recomputation   a checkpointed segment's output in the forward, and again in the backward
    replay          the gradient of a micro-batch before it is summed over the ranks, and again
    neighbours      that gradient, and what two other ranks have from the same micro-batch
    known answer    a fixed small forward and backward; compared with the rank's own earlier answers, and with other
                    ranks of the same device and software (`key`)

A contradiction needs no peers and names its rank at once, but only where the arithmetic repeats at all: kernels with
atomic additions do not. So it counts only after `LEARNT` equal comparisons of that rank number, those of earlier
generations of the same size included: what a rank number runs is the script's choice and stays the same. Of a rank
that differs before that there is word once, and nothing is ever done about it.

So it is with neighbours, who have agreed with each other bit for bit and not with the rank: where kernels are chosen by
timing them, a healthy rank may have chosen another. It counts after `OUTVOTED` times, and only what was learnt in this
generation: another process may have chosen otherwise. Each rank that they differ from is told of.

The known answer has no such doubt where others agree on it. The golden value of a key is the first that more than half
of at least three ranks give; it is kept with the job. Who gives another is wrong, as long as no fewer give the golden
one. With two ranks and no golden value nobody is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ryzen_coordinator.core.events import CheckKind, Standing
from ryzen_coordinator.core.words import few

LEARNT = 8
"""Equal comparisons before a difference is a device's and not a kernel's. A kernel that differs in one comparison of
a hundred passes this with 92 %: then the second node that it accuses within the hour ends it (brakes.py)."""
OUTVOTED = 3
"""Times that two others agree and this one does not. Lower: a kernel that seldom repeats itself passes for a device."""
PEERS_LEAST = 3
"""Ranks of one key from which on most of them make a golden value."""
GOLDEN_MAX = 64
"""Keys whose golden values are kept; the newest win."""

_WORDS: dict[CheckKind, str] = {
    "recomputation": "computed a checkpointed segment twice with different results",
    "replay": "computed the gradient of one micro-batch twice with different results",
    "neighbours": "has other gradients of its micro-batches than two other ranks have, who agree,",
    "known answer": "gave another answer to the fixed computation than before",
}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What was found first. `clean_step`: steps done that stand good; `step`: steps done when it differed."""

    kind: CheckKind
    clean_step: int
    step: int
    ranks: tuple[int, ...]
    with_peers: bool = False

    def words(self) -> str:
        who = f"rank {', '.join(map(str, self.ranks))}"
        if self.with_peers:
            return f"{who} gives another answer to the fixed computation than its peers of the same device and software"
        whom = "them" if self.kind == "neighbours" else "itself"
        return f"{who} {_WORDS[self.kind]} in step {self.step}; it agreed with {whom} after step {self.clean_step}"


@dataclass(slots=True)
class SelfChecks:
    """What the ranks of one generation have told. `golden`: by key; `news`: words that nobody has been told yet."""

    generation: int = 0
    size: int = 0
    told: dict[CheckKind, dict[int, Standing]] = field(default_factory=dict)
    learnt: dict[CheckKind, dict[int, int]] = field(default_factory=dict)
    answers: dict[int, Counter[int]] = field(default_factory=dict)
    golden: dict[int, int] = field(default_factory=dict)
    golden_is_new: bool = False
    not_comparable: set[tuple[CheckKind, int]] = field(default_factory=set)
    news: list[str] = field(default_factory=list)
    found: Contradiction | None = None

    def begin(self, generation: int, size: int) -> None:
        """A new world of `size` ranks. What its rank numbers have learnt stays where there are as many as before."""
        if size != self.size:
            self.learnt = {}
        for kind, told in self.told.items() if size == self.size else ():
            before = self.learnt.setdefault(kind, {})
            for rank, each in told.items():
                total = before.get(rank, 0) + each.agreed
                before[rank] = total if total >= LEARNT or not each.differed else 0
        self.generation, self.size = generation, size
        self.told, self.answers, self.found = {}, {}, None

    def observe(self, ranks: Sequence[int], standing: Standing) -> None:
        """Take in what these ranks tell alike."""
        told = self.told.setdefault(standing.kind, {})
        fresh = [rank for rank in ranks if rank < self.size and told.get(rank) != standing]
        if self.found is not None or not fresh:
            return
        if standing.kind == "known answer":
            self._count(told, fresh, standing)
        for rank in fresh:
            told[rank] = standing
        if standing.differed:
            self._judge(fresh, standing)
        if standing.kind == "known answer" and self.found is None and len(told) == self.size:
            for key in self.answers:
                self._compare(told, key)

    def _judge(self, ranks: list[int], standing: Standing) -> None:
        """These ranks have contradicted themselves."""
        kind, learnt = standing.kind, self.learnt.get(standing.kind, {})
        if kind == "neighbours" and standing.differed < OUTVOTED:
            return
        if kind == "neighbours":  # another process of a rank may have chosen other kernels than the ones around it
            learnt = {}
        sure = [rank for rank in ranks if learnt.get(rank, 0) + standing.agreed >= LEARNT]
        if kind == "known answer" and standing.key in self.golden:
            sure = ranks  # others have shown that it can be repeated
        if sure:
            self.found = Contradiction(kind, standing.clean_step, standing.step, tuple(sorted(sure)))
        elif (subject := (kind, ranks[0] if kind == "neighbours" else -1)) not in self.not_comparable:
            self.not_comparable.add(subject)
            doubt = "its kernels may be others" if kind == "neighbours" else "its arithmetic may not repeat at all"
            self.news.append(
                f"rank {few(ranks)} {_WORDS[kind]} before it had agreed {LEARNT} times: {doubt} "
                "(see docs/corruption.md), so nothing is done about it"
            )

    def _count(self, told: dict[int, Standing], fresh: list[int], standing: Standing) -> None:
        for rank in fresh:
            if (old := told.get(rank)) is not None:
                self.answers[old.key][old.digest] -= 1
        self.answers.setdefault(standing.key, Counter())[standing.digest] += len(fresh)

    def _compare(self, told: dict[int, Standing], key: int) -> None:
        answers = +self.answers[key]
        total = answers.total()
        if not total:
            return
        digest, most = answers.most_common(1)[0]
        if 2 * most > total and total >= PEERS_LEAST and self.golden.get(key) != digest:
            self._keep(key, digest)
        golden = self.golden.get(key)
        if golden is None or len(answers) == 1 or 2 * answers[golden] < total:
            return
        wrong = {rank: each for rank, each in told.items() if each.key == key and each.digest != golden}
        clean = min(each.clean_step for each in wrong.values())
        step = max(each.step for each in wrong.values())
        self.found = Contradiction("known answer", clean, step, tuple(sorted(wrong)), with_peers=True)

    def _keep(self, key: int, digest: int) -> None:
        self.golden.pop(key, None)
        self.golden[key] = digest
        for old in list(self.golden)[:-GOLDEN_MAX]:
            del self.golden[old]
        self.golden_is_new = True
