"""A rank that skips a collective is found by the counts, and no healthy pattern of them accuses anybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core.marks import STEPS_KEPT, Marks

GOOD = {step: [2 * step] * 4 for step in (8, 16, 24, 32)}
"""Marks at which all four ranks agree, as many as it takes."""


def observed(counts: dict[int, list[int]], size: int = 4) -> Marks:
    """All ranks report the counts at these steps."""
    marks = Marks()
    marks.begin(1, size)
    for step, each in counts.items():
        for rank, count in enumerate(each):
            marks.observe((rank,), ((step, count),))
    return marks


def test_a_rank_that_skips_one_collective_is_named_at_the_second_mark_after_it() -> None:
    counts = {**GOOD, 40: [80, 80, 79, 80]}
    marks = observed(counts)
    assert marks.confirmed is None
    assert marks.suspected is not None
    marks = observed({**counts, 48: [96, 96, 95, 96]})
    assert marks.confirmed is not None
    assert marks.confirmed.ranks == (2,)
    assert (marks.confirmed.clean_step, marks.confirmed.step, marks.confirmed.behind) == (32, 40, 1)


def test_a_barrier_on_the_other_side_of_a_steps_begin_accuses_nobody() -> None:
    for odd in ([81, 80, 80, 80], [79, 80, 80, 80]):
        marks = observed({**GOOD, 40: odd, 48: [96] * 4, 56: [112] * 4})
        assert marks.confirmed is None
        assert marks.agreed_step == 56


def test_one_more_collective_on_rank_0_at_the_start_is_its_own_affair() -> None:
    marks = observed({8: [17, 16, 16, 16], 16: [33, 32, 32, 32], 24: [49, 48, 48, 48], 32: [65, 64, 64, 64]})
    assert marks.confirmed is None
    assert marks.agreed_step == 32


def test_of_two_ranks_neither_is_named() -> None:
    good = {step: [step, step] for step in (8, 16, 24, 32)}
    marks = observed({**good, 40: [40, 39], 48: [48, 47]}, size=2)
    assert marks.confirmed is not None
    assert marks.confirmed.ranks == ()


def test_counts_of_steps_that_never_become_whole_do_not_pile_up() -> None:
    marks = Marks()
    marks.begin(1, 2)
    for step in range(10 * STEPS_KEPT):
        marks.observe((0,), ((step, step),))
    assert len(marks.counts) <= STEPS_KEPT


@given(st.lists(st.integers(0, 5), min_size=3, max_size=30), st.permutations(list(range(4))), st.data())
def test_ranks_that_do_the_same_are_never_accused_whatever_arrives_when(
    per_step: list[int], offsets: list[int], data: st.DataObject
) -> None:
    marks = Marks()
    marks.begin(1, 4)
    reports = []
    total = 0
    for step, count in enumerate(per_step):
        total += count
        reports += [(rank, step, total + offsets[rank]) for rank in range(4)]
    order = data.draw(st.permutations(reports))
    for rank, step, count in order:
        marks.observe((rank,), ((step, count),))
    assert marks.suspected is None
    assert marks.confirmed is None


def test_a_collective_skipped_while_the_coordinator_was_away_is_still_found() -> None:
    before = observed(GOOD)
    assert before.even_step == 32
    marks = Marks()
    marks.begin(1, 4)
    marks.restore(before.even_step)
    for step, counts in {80: [160, 160, 159, 160], 88: [176, 176, 175, 176]}.items():
        for rank, count in enumerate(counts):
            marks.observe((rank,), ((step, count),))
    assert marks.confirmed is not None
    assert (marks.confirmed.ranks, marks.confirmed.clean_step) == ((2,), 32)


def test_counts_that_were_never_equal_are_not_remembered_over_a_restart() -> None:
    assert observed({8: [17, 16, 16, 16], 16: [33, 32, 32, 32], 24: [49, 48, 48, 48]}).even_step is None


def test_a_rank_that_does_more_than_the_others_has_skipped_nothing() -> None:
    marks = observed({**GOOD, 40: [83, 80, 80, 80], 48: [99, 96, 96, 96], 56: [115, 112, 112, 112]})
    assert marks.confirmed is None


def test_a_pipeline_whose_stages_send_and_receive_is_never_accused() -> None:
    marks = observed({8 * step: [8 * step, 16 * step, 16 * step, 8 * step] for step in range(1, 30)})
    assert marks.suspected is None
    assert marks.even_step is None


def test_steps_that_begin_from_0_with_each_epoch_are_not_compared() -> None:
    marks = Marks()
    marks.begin(1, 4)
    for epoch in range(5):
        for step in range(0, 96, 8):
            for rank in range(4):
                done = 96 * epoch + step
                if (rank + epoch + step // 8) % 3:  # not everybody reports every mark
                    marks.observe((rank,), ((step, 2 * done),), offset=step - done)
    assert marks.off
    assert marks.confirmed is None
    assert marks.suspected is None
