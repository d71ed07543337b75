"""How far the coordinator is behind its nodes: each report says when it was sent.

With more to take in than it can, the reports of thousands of nodes wait in a queue, and a node's last word seems old
that has long been said. That is no silence of the node: the lease is longer by as much as reports come late, five
seconds at most.

How late one is, is told against the promptest of its node, so clocks need not agree. Clocks that are set make reports
seem late too: one of many is not heard in the median, and what all of them were set by is forgotten within a minute.
A backlog that does not grow is forgotten as well; it silences nobody, for its reports come as often as ever.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

NODES_LEAST = 16
"""So many must have spoken for a median. Fewer nodes than that do not keep a coordinator busy either."""
LATE_S_MAX = 5.0
_WINDOW_S = 2.0
"""In which they must have spoken: twice what lies between two reports of a node."""
_FORGOTTEN_S_A_SECOND = 0.1
_WARN_S = 1.0
_CAUGHT_UP_S_A_SECOND = 1.0
"""A queue may hold prompt reports and late ones, when all nodes speak at once. So the figure rises at once and falls
slowly."""


@dataclass(slots=True)
class Promptness:
    """Of one node: the largest `sent - received` of late, in seconds of two clocks, and when it was looked at last."""

    best_s: float | None = None
    looked_s: float = 0.0

    def late_s(self, sent_s: float, now_s: float) -> float:
        """How late a report is, up to `LATE_S_MAX`; `sent_s`: sent - received."""
        best_s = sent_s
        if self.best_s is not None:
            forgotten_s = _FORGOTTEN_S_A_SECOND * (now_s - self.looked_s)
            best_s = max(sent_s, min(self.best_s - forgotten_s, sent_s + LATE_S_MAX))
        self.best_s, self.looked_s = best_s, now_s
        return best_s - sent_s


@dataclass(slots=True)
class Backlog:
    """`behind_s`: how late reports are now. `late_s`: the newest of each node since the last look."""

    behind_s: float = 0.0
    late_s: dict[str, float] = field(default_factory=dict)
    looked_s: float = 0.0
    window_s: float = 0.0
    warned: bool = False

    def note(self, node: str, late_s: float) -> None:
        """A report of the node was so late."""
        self.late_s[node] = late_s

    def look(self, now_s: float) -> None:
        """Time has passed."""
        self.behind_s = max(0.0, self.behind_s - _CAUGHT_UP_S_A_SECOND * (now_s - self.looked_s))
        self.looked_s = now_s
        if len(self.late_s) >= NODES_LEAST:
            self.behind_s = max(self.behind_s, statistics.median(self.late_s.values()))
        elif now_s - self.window_s < _WINDOW_S:
            return
        self.late_s.clear()
        self.window_s = now_s

    def has_become_long(self) -> bool:
        """Whether it is worth a word now: once, until it has been caught up with."""
        if self.warned:
            self.warned = self.behind_s > _WARN_S / 2
            return False
        self.warned = self.behind_s > _WARN_S
        return self.warned
