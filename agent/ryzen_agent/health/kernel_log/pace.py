"""How much of a core reading a log may take: as much as it needs for a moment, a share of one in a long flood.

A bucket of CPU seconds that fills with time. While it is empty the reader rests; meanwhile a file or FIFO keeps its
lines, and the kernel's own buffer holds some thousand records and then drops the oldest, which is counted.
"""

from __future__ import annotations

SHARE = 0.5
"""Of a core, in the long run. Lower drops records of a flooded device earlier, higher takes more from the ranks."""
CREDIT_S = 1.0
"""CPU seconds at hand after a quiet while: 100,000 lines at once are read without a rest."""


class Pace:
    """Times are seconds, of a monotonic clock and of the thread's CPU clock."""

    def __init__(self, now_s: float) -> None:
        self._credit_s = CREDIT_S
        self._at_s = now_s

    def spent(self, cpu_s: float, now_s: float) -> None:
        """Takes what was used, puts in what time has earned."""
        earned = (now_s - self._at_s) * SHARE
        self._credit_s = min(CREDIT_S, self._credit_s + earned) - cpu_s
        self._at_s = now_s

    def rest_s(self) -> float:
        """How long to leave the log alone now."""
        return max(0.0, -self._credit_s / SHARE)
