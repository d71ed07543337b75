"""What the beat pages of a job's ranks say, on the wire: columns in `Beats`, rows here.

The row of a rank stands where the rank stands in `ObservedJob.ranks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ryzen_protos.v1.node_pb2 import Beats, Marks


class Record(NamedTuple):
    """The newest record of one rank.

    `quiet_s`: since the page last changed. `marks`: step, collectives begun on the default group when it began, and
    so on, for a few of the newest steps.
    """

    step: int = 0
    section: str = ""
    quiet_s: float = 0.0
    step_age_s: float = 0.0
    steps_done: int = 0
    tokens: int = 0
    loss: float | None = None
    grad_norm: float | None = None
    marks: tuple[int, ...] = ()


_EMPTY = Record()


def pack(records: Sequence[Record | None]) -> Beats:
    """The columns."""
    rows = [each or _EMPTY for each in records]
    sections = list(dict.fromkeys(each.section for each in records if each is not None))
    number = {name: place for place, name in enumerate(sections, 1)}
    same: dict[tuple[int, ...], list[int]] = {}
    for place, row in enumerate(rows):
        if row.marks:
            same.setdefault(row.marks, []).append(place)
    return Beats(
        sections=sections,
        section=[0 if each is None else number[each.section] for each in records],
        step=[row.step for row in rows],
        steps_done=[row.steps_done for row in rows],
        quiet_s=[row.quiet_s for row in rows],
        step_age_s=[row.step_age_s for row in rows],
        tokens=[row.tokens for row in rows],
        loss=[math.nan if row.loss is None else row.loss for row in rows],
        grad_norm=[math.nan if row.grad_norm is None else row.grad_norm for row in rows],
        marks=[Marks(rows=places, counts=counts) for counts, places in same.items()],
    )


def unpack(beats: Beats, ranks: int) -> list[Record | None]:
    """A row for each of `ranks` ranks; all empty where the columns are not of that length."""
    columns = (
        beats.section, beats.step, beats.quiet_s, beats.step_age_s, beats.steps_done, beats.tokens, beats.loss,
        beats.grad_norm,
    )  # fmt: skip
    if any(len(column) != ranks for column in columns):
        return [None] * ranks
    marks: dict[int, tuple[int, ...]] = {}
    for each in beats.marks:
        marks |= dict.fromkeys(each.rows, tuple(each.counts))
    names = list(beats.sections)
    found: list[Record | None] = []
    for place, (section, step, quiet_s, step_age_s, done, tokens, loss, norm) in enumerate(zip(*columns, strict=True)):
        if not 0 < section <= len(names):
            found.append(None)
            continue
        known_loss, known_norm = (None if math.isnan(each) else each for each in (loss, norm))
        figures = (step, names[section - 1], quiet_s, step_age_s, done, tokens, known_loss, known_norm)
        found.append(Record(*figures, marks.get(place, ())))
    return found
