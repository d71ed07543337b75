"""What pages say, as columns: a test thinks in rows."""

from __future__ import annotations

from collections.abc import Sequence

from ryzen_coordinator.core.events import Beats, ProgressSeen

Pairs = tuple[tuple[int, int], ...]
_EMPTY = ProgressSeen(0, "", 0.0, 0.0, 0)


def beats_of(rows: Sequence[ProgressSeen | None], marks: Sequence[Pairs] = ()) -> Beats:
    """`marks`: of each rank, (step, collectives begun when it began)."""
    sections = tuple(dict.fromkeys(row.section for row in rows if row is not None))
    filled = [row or _EMPTY for row in rows]
    same: dict[Pairs, list[int]] = {}
    for place, each in enumerate(marks):
        if each:
            same.setdefault(each, []).append(place)
    return Beats(
        sections,
        tuple(0 if row is None else sections.index(row.section) + 1 for row in rows),
        tuple(row.step for row in filled),
        tuple(row.quiet_s for row in filled),
        tuple(row.step_age_s for row in filled),
        tuple(row.steps_done for row in filled),
        tuple((tuple(places), pairs) for pairs, places in same.items()),
    )
