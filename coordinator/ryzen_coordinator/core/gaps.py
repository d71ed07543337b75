"""The longest legitimate silences of a job, by section, and the limit that follows from them.

Agents measure how long a beat page stood still between two records (DESIGN 5: T is learned per section). A
section's figure is the largest that any node reports. It is carried over generations, and gives way to smaller
present ones only when it has not been seen again for a window, so that one long evaluation is remembered while
it matters and not for ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ryzen_coordinator.core.settings import CoreSettings

START = "(start)"
"""The section of a rank that has written no record yet: imports, process groups, the checkpoint's load."""

FIRST_STEP = "(first step)"
"""Whatever section it is in: compilation, autotuning and DDP's new buckets make a generation's first step long."""

END = "(end)"
"""After the last step: a last evaluation, a last save, the interpreter's end. They take what they take."""

PAUSE = "(pause) "
"""How the name of a section begins that the script has declared to be a pause: no silence in it is a stall."""

_WORTH_KEEPING = 1.05
_SECTIONS_MAX = 1024


@dataclass(slots=True)
class Gaps:
    """Longest silence in seconds by section, and when it was last seen (core time).

    `ever_s`: the longest that this job has ever come back from, in any section but the start and declared pauses.
    """

    longest_s: dict[str, float] = field(default_factory=dict)
    seen_s: dict[str, float] = field(default_factory=dict)
    ever_s: float = 0.0

    def learn(self, gaps: Iterable[tuple[str, float]], settings: CoreSettings, now_s: float) -> bool:
        """Take in what one node reports. True if a figure changed enough to be worth keeping on disk."""
        changed = False
        for section, longest in gaps:
            if section.startswith(PAUSE):
                continue
            if section != START and longest > self.ever_s:
                changed = changed or longest > self.ever_s * _WORTH_KEEPING
                self.ever_s = longest
            known = self.longest_s.get(section)
            if known is None and len(self.longest_s) >= _SECTIONS_MAX:
                continue
            stale = now_s - self.seen_s.get(section, now_s) > settings.gap_window_s
            if known is None or longest >= known or stale:
                self.longest_s[section] = longest
                self.seen_s[section] = now_s
                changed = changed or known is None or longest > known * _WORTH_KEEPING or stale
        return changed

    def limit_s(self, section: str, settings: CoreSettings) -> float:
        """How long a rank may be silent in `section` before that is a stall, in seconds.

        1.2 x the longest known of the section + margin; of a section never seen, the longest of any.
        """
        return limit_s(self.longest_s, section, settings)

    def stall_limit_s(self, section: str, settings: CoreSettings) -> float:
        """The same for a whole job that stands still: starting takes far longer on a busy machine or a cold cache."""
        if section == END:
            return settings.stall_floor_s  # a word about it then, no more (hang.py)
        limit = self.limit_s(section, settings)
        return max(limit, settings.gap_unknown_s) if section == START else limit

    def patient_limit_s(self, section: str, settings: CoreSettings) -> float:
        """The same where silence is the only evidence: a section never seen may be a first checkpoint or evaluation."""
        limit = self.limit_s(section, settings)
        return limit if section in self.longest_s else max(limit, settings.gap_unknown_s)


def limit_s(longest_s: Mapping[str, float], section: str, settings: CoreSettings) -> float:
    if section.startswith(PAUSE):
        return math.inf
    longest = longest_s.get(section)
    if longest is None and section in {START, FIRST_STEP, END}:
        return settings.gap_unknown_s  # of these the others say nothing
    if longest is None:
        longest = max((value for name, value in longest_s.items() if name != START), default=None)
    if longest is None:
        return settings.gap_unknown_s
    return settings.gap_factor * longest + settings.gap_margin_s
