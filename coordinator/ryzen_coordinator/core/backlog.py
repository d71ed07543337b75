"""How far the coordinator is behind its nodes: each report says when it was sent.

With more to take in than it can, the reports of thousands of nodes wait in a queue, and a node's last word seems old
that has long been said. That is no silence of the node: the lease is longer by as much as the reports are late.

How late one is, is told against the promptest of its node, so clocks need not agree. The promptest is forgotten
slowly: a clock that has been set is no backlog for ever, and one that does not grow silences nobody, because its
reports come late but as often as ever.
"""

from __future__ import annotations

from dataclasses import dataclass

_NODES_LEAST = 64
"""Fewer cannot keep a coordinator busy; and one of a few whose clock has been set would pass for all."""
_LATE_S_MAX = 5.0
_FORGOTTEN_S_A_SECOND = 0.1
_SMOOTHING = 1 / 32
"""Of the reports' lateness: one node's clock that has been set is not heard in it."""


@dataclass(slots=True)
class Promptness:
    """Of one node: the largest `sent - received` of late, in seconds of two clocks, and when it was looked at last."""

    best_s: float | None = None
    looked_s: float = 0.0

    def late_s(self, sent_s: float, now_s: float) -> float:
        """How late a report is; `sent_s`: sent - received."""
        if self.best_s is None:
            best_s = sent_s
        else:
            best_s = max(sent_s, self.best_s - _FORGOTTEN_S_A_SECOND * (now_s - self.looked_s))
        self.best_s, self.looked_s = best_s, now_s
        return min(best_s - sent_s, _LATE_S_MAX)


@dataclass(slots=True)
class Backlog:
    """`behind_s`: how late reports are now, on the average of the last ones."""

    behind_s: float = 0.0

    def note(self, late_s: float, nodes: int) -> None:
        """A report was so late."""
        if nodes < _NODES_LEAST:
            self.behind_s = 0.0
        else:
            self.behind_s += (late_s - self.behind_s) * _SMOOTHING
