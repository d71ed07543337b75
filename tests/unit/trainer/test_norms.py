"""The guard's estimates: what is usual, and that nothing unusual gets in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_trainer.norms import Limits, Norms

LIMITS = Limits(warmup=5, window=20)
USUAL = st.lists(st.floats(0.5, 2.0), min_size=6, max_size=60)
ANY = st.floats(0.0, 1e30) | st.just(math.nan) | st.just(math.inf)


def fed(norms: list[float], limits: Limits = LIMITS, max_norm: float | None = None) -> Norms:
    estimates = Norms(limits, max_norm)
    for norm in norms:
        estimates.judge(norm)
    return estimates


@given(USUAL, st.lists(st.tuples(st.integers(5, 60), st.floats(1.01, 1e6) | st.just(math.nan) | st.just(math.inf))))
def test_spikes_never_enter_the_estimates(usual: list[float], spikes: list[tuple[int, float]]) -> None:
    estimates, clean = Norms(LIMITS), Norms(LIMITS)
    for place, norm in enumerate(usual):
        for _, times in [each for each in spikes if each[0] == place]:
            assert estimates.judge(estimates.skip_limit * times) in {"spike", "nonfinite"}
        assert estimates.judge(norm) == clean.judge(norm) == "step"
    assert (estimates.mean, estimates.variance, estimates.seen) == (clean.mean, clean.variance, clean.seen)
    assert estimates.skipped == len([each for each in spikes if each[0] < len(usual)])


@given(st.lists(ANY, max_size=80), st.lists(ANY, max_size=40))
def test_a_resumed_guard_goes_on_as_if_nothing_had_been(before: list[float], after: list[float]) -> None:
    one = fed(before)
    other = Norms(LIMITS)
    other.load(one.state())
    for norm in after:
        assert one.judge(norm) == other.judge(norm)
        assert (one.clip_limit, one.skip_limit) == (other.clip_limit, other.skip_limit)
    assert one.state() == other.state()


@given(st.lists(ANY, max_size=80), st.floats(0.01, 100.0))
def test_no_clip_is_looser_than_the_users(norms: list[float], max_norm: float) -> None:
    estimates = Norms(LIMITS, max_norm)
    for norm in norms:
        estimates.judge(norm)
        assert estimates.clip_limit <= max_norm


@given(USUAL, st.floats(2.0, 15.0))
def test_a_high_norm_below_a_spike_moves_the_mean_by_no_more_than_the_clip_limit_would(
    usual: list[float], times: float
) -> None:
    one, other = fed(usual), fed(usual)
    limit = max(one.limits.floor, one.mean + 4 * math.sqrt(one.variance))
    assert one.judge(times * one.mean) == "step"
    other.judge(min(limit, times * other.mean))
    assert one.mean == other.mean


def test_a_lasting_change_of_the_norm_is_learned() -> None:
    estimates = fed([1.0, 1.1, 0.9] * 10)
    for _ in range(400):
        assert estimates.judge(10.0) == "step"
    assert estimates.mean == pytest.approx(10.0, rel=0.2)


def test_the_limits_are_those_of_the_formula() -> None:
    estimates = fed([2.0, 4.0] * 200, Limits(warmup=5, window=1000))
    assert estimates.mean == pytest.approx(3.0, rel=0.01)
    assert estimates.clip_limit == pytest.approx(3.0 + 4 * 1.0, rel=0.01)
    assert estimates.skip_limit == pytest.approx(60.0, rel=0.01)


def test_small_norms_are_not_clipped_below_one() -> None:
    assert fed([0.01] * 50).clip_limit == 1.0


def test_before_the_warm_up_is_over_only_what_is_not_finite_is_skipped() -> None:
    estimates = Norms(LIMITS)
    assert [estimates.judge(norm) for norm in (1.0, 900.0, math.nan, math.inf)] == [
        "step",
        "step",
        "nonfinite",
        "nonfinite",
    ]
    assert (estimates.clip_limit, estimates.seen) == (math.inf, 2)


def test_a_rollback_is_wanted_once_for_a_row_of_skips() -> None:
    estimates = fed([1.0] * 10, Limits(warmup=5, rollback_after=3))
    wanted = []
    for norm in (99.0, 99.0, 1.0, 99.0, 99.0, math.nan, 99.0, 99.0):
        estimates.judge(norm)
        wanted.append(estimates.wants_rollback())
    assert wanted == [False] * 5 + [True, False, False]


@pytest.mark.parametrize("wrong", [{"skip_factor": 1.0}, {"sigmas": -1.0}, {"warmup": 0}, {"rollback_after": -1}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="guard limits"):
        Limits(**wrong)  # type: ignore[arg-type]


def test_a_state_that_no_guard_had_is_refused() -> None:
    with pytest.raises(ValueError, match="not the state"):
        Norms(LIMITS).load({**fed([1.0]).state(), "variance": math.nan})
