"""Replicas that differ in their bits are found, the odd one is named, and nobody is where that cannot be told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core.replicas import STEPS_KEPT, Difference, Replicas

ALL = (1 << 64) - 1


def replicas(size: int) -> Replicas:
    made = Replicas()
    made.begin(1, size)
    return made


def told(found: Replicas, step: int, *digests: int, groups: tuple[int, ...] = ()) -> Difference | None:
    for rank, digest in enumerate(digests):
        found.observe([rank], groups[rank] if groups else 0, [(step, digest)])
    return found.difference


@given(st.integers(3, 40), st.data(), st.integers(0, ALL), st.integers(0, ALL))
def test_the_odd_one_out_is_named(size: int, data: st.DataObject, common: int, other: int) -> None:
    odd = data.draw(st.integers(0, size - 1))
    found = replicas(size)
    assert told(found, 20, *[common] * size) is None
    wrong = [other if rank == odd else common for rank in range(size)]
    difference = told(found, 40, *wrong)
    if other == common:
        assert difference is None
    else:
        assert difference == Difference(20, 40, (odd,), tuple(range(size)))
        assert f"rank {odd} differ" in difference.words()


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, ALL)), min_size=1, max_size=60), st.integers(2, 5))
def test_equal_digests_are_never_a_difference(checks: list[tuple[int, int]], size: int) -> None:
    found = replicas(size)
    for step, digest in dict(checks).items():
        assert told(found, step, *[digest] * size) is None
    assert not found.off


def test_of_two_that_differ_neither_is_named() -> None:
    found = replicas(2)
    told(found, 20, 7, 7)
    difference = told(found, 40, 7, 8)
    assert difference == Difference(20, 40, (), (0, 1))
    assert "cannot be told" in difference.words()


def test_ranks_that_never_agreed_are_no_replicas() -> None:
    found = replicas(3)
    assert told(found, 20, 1, 2, 3) is None
    assert told(found, 40, 5, 5, 5) is None
    assert told(found, 60, 5, 5, 6) is None
    assert found.off


def test_only_replicas_of_one_shard_are_compared() -> None:
    groups = (0, 1, 0, 1, 0, 1)
    found = replicas(6)
    assert told(found, 20, 1, 2, 1, 2, 1, 2, groups=groups) is None
    difference = told(found, 40, 3, 4, 3, 9, 3, 4, groups=groups)
    assert difference == Difference(20, 40, (3,), (1, 3, 5))


def test_one_group_without_a_majority_makes_nobody_sure() -> None:
    groups = (0, 0, 0, 1, 1)
    found = replicas(5)
    told(found, 20, 1, 1, 1, 2, 2, groups=groups)
    difference = told(found, 40, 1, 1, 9, 2, 3, groups=groups)
    assert difference == Difference(20, 40, (), (0, 1, 2, 3, 4))


def test_nothing_is_compared_before_all_have_told() -> None:
    found = replicas(3)
    told(found, 20, 1, 1, 1)
    found.observe([0], 0, [(40, 1)])
    found.observe([1], 0, [(40, 2)])
    assert found.difference is None
    found.observe([2], 0, [(40, 1)])
    assert found.difference is not None
    assert found.difference.ranks == (1,)


def test_what_is_told_again_changes_nothing_and_another_digest_of_one_step_ends_the_comparison() -> None:
    found = replicas(2)
    found.observe([0], 0, [(20, 1)])
    found.observe([0], 0, [(20, 1)])
    assert not found.off
    found.observe([0], 0, [(20, 2)])
    assert found.off


def test_what_is_kept_is_bounded() -> None:
    found = replicas(2)
    for step in range(1000):
        found.observe([0], 0, [(step, 1)])
    assert len(found.digests) == len(found.known) == STEPS_KEPT


def test_a_new_world_begins_anew() -> None:
    found = replicas(2)
    told(found, 20, 1, 1)
    told(found, 40, 1, 2)
    found.begin(2, 3)
    assert found.difference is None
    assert told(found, 20, 5, 5, 5) is None
    assert found.agreed_step == 20
