"""A rank that contradicts itself is named; arithmetic that does not repeat accuses nobody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core.events import CheckKind, Standing
from ryzen_coordinator.core.self_checks import LEARNT, OUTVOTED, SelfChecks

ALL = (1 << 64) - 1
KEY = 4711
SELF_ALONE: tuple[CheckKind, ...] = ("recomputation", "replay")


def checks(size: int) -> SelfChecks:
    made = SelfChecks()
    made.begin(1, size)
    return made


def answer(digest: int, *, key: int = KEY, agreed: int = 1) -> Standing:
    return Standing("known answer", agreed, digest=digest, key=key, clean_step=10)


def answered(found: SelfChecks, *digests: int) -> tuple[int, ...] | None:
    for rank, digest in enumerate(digests):
        found.observe([rank], answer(digest))
    return found.found.ranks if found.found is not None else None


@given(st.sampled_from(SELF_ALONE), st.integers(0, 40), st.integers(2, 9), st.data())
def test_a_rank_that_contradicts_itself_is_named_once_it_has_agreed_often_enough(
    kind: CheckKind, agreed: int, size: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, size - 1))
    found = checks(size)
    found.observe(range(size), Standing(kind, agreed))
    assert found.found is None
    found.observe([rank], Standing(kind, agreed, 1, clean_step=30, step=40))
    if agreed >= LEARNT:
        assert found.found is not None
        assert (found.found.ranks, found.found.clean_step, found.found.step) == ((rank,), 30, 40)
        assert f"rank {rank}" in found.found.words()
        assert not found.news
    else:
        assert found.found is None
        assert len(found.news) == 1


def test_a_rank_that_two_others_outvote_is_named_at_the_third_time() -> None:
    found = checks(4)
    found.observe(range(4), Standing("neighbours", LEARNT))
    for times in (1, 2):
        found.observe([2], Standing("neighbours", LEARNT, times, clean_step=30, step=40))
        assert found.found is None
    found.observe([2], Standing("neighbours", LEARNT, OUTVOTED, clean_step=30, step=40))
    assert found.found is not None
    assert (found.found.ranks, found.found.clean_step) == ((2,), 30)


def test_a_rank_that_was_outvoted_from_the_first_may_only_have_other_kernels() -> None:
    found = checks(4)
    for times in range(1, OUTVOTED + 2):
        found.observe([2], Standing("neighbours", 0, times, step=5))
    assert found.found is None
    assert len(found.news) == 1
    assert "rank 2" in found.news[0]


def test_of_arithmetic_that_does_not_repeat_there_is_word_once() -> None:
    found = checks(4)
    for rank in range(4):
        found.observe([rank], Standing("replay", 0, 1, step=2))
        found.observe([rank], Standing("replay", 0, 2, step=2))
    assert found.found is None
    assert len(found.news) == 1


def test_what_a_rank_number_has_learnt_holds_in_the_next_generation_of_the_same_size() -> None:
    found = checks(2)
    found.observe([0, 1], Standing("replay", LEARNT - 1))
    found.begin(2, 2)
    found.observe([1], Standing("replay", 1, 1, clean_step=50, step=60))
    assert found.found is not None
    assert found.found.ranks == (1,)


def test_it_does_not_hold_for_another_number_of_ranks() -> None:
    found = checks(2)
    found.observe([0, 1], Standing("replay", LEARNT))
    found.begin(2, 3)
    found.observe([1], Standing("replay", 0, 1, step=60))
    assert found.found is None


def test_who_differed_too_early_has_learnt_nothing() -> None:
    found = checks(2)
    found.observe([1], Standing("replay", LEARNT - 1, 1, step=60))
    found.begin(2, 2)
    found.observe([1], Standing("replay", 1, 1, step=70))
    assert found.found is None


@given(st.integers(3, 30), st.integers(0, ALL), st.integers(0, ALL), st.data())
def test_who_gives_another_known_answer_than_most_is_wrong(
    size: int, common: int, other: int, data: st.DataObject
) -> None:
    odd = data.draw(st.integers(0, size - 1))
    wrong = answered(checks(size), *(other if rank == odd else common for rank in range(size)))
    assert wrong == (None if other == common else (odd,))


def test_of_two_without_a_golden_value_nobody_is_wrong() -> None:
    found = checks(2)
    assert answered(found, 7, 8) is None
    assert found.golden == {}


def test_of_two_the_golden_value_of_a_larger_world_decides() -> None:
    found = checks(3)
    assert answered(found, 7, 7, 7) is None
    assert found.golden == {KEY: 7}
    assert found.golden_is_new
    found.begin(2, 2)
    assert answered(found, 8, 7) == (0,)


def test_nobody_is_wrong_where_no_device_gives_the_golden_value_any_more() -> None:
    found = checks(3)
    answered(found, 7, 7, 7)
    found.begin(2, 2)
    assert answered(found, 8, 8) is None
    found.begin(3, 3)
    assert answered(found, 8, 8, 8) is None
    assert found.golden == {KEY: 8}, "the key has missed what has changed: most decide"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_devices_of_different_keys_are_never_compared(keyed: list[tuple[int, int]]) -> None:
    found = checks(len(keyed))
    for rank, (key, _) in enumerate(keyed):
        found.observe([rank], answer(100 + key, key=key))
    assert found.found is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 64)), max_size=40), st.integers(0, ALL))
def test_equal_answers_accuse_nobody_in_whatever_order_and_number_they_come(
    told: list[tuple[int, int]], digest: int
) -> None:
    found = checks(6)
    for rank, agreed in told:
        found.observe([rank], answer(digest, agreed=agreed))
    assert found.found is None
    assert found.news == []


def test_who_answers_otherwise_than_before_is_wrong_where_others_have_agreed_on_an_answer() -> None:
    found = checks(3)
    answered(found, 7, 7, 7)
    found.observe([1], Standing("known answer", 1, 1, clean_step=100, step=200, digest=9, key=KEY))
    assert found.found is not None
    assert (found.found.ranks, found.found.clean_step, found.found.with_peers) == ((1,), 100, False)
