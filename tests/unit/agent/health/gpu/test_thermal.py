"""Heat against peers and over time: says what it should, and nothing of ordinary ups and downs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent.health.gpu import thermal
from ryzen_agent.health.gpu.rules.heat import HEATING_S

TEMPERATURES = st.floats(20, 110, allow_nan=False)


def climb(per_minute: float, start_c: float = 70.0, minutes: float = 5.0, every_s: float = 10.0) -> list[thermal.Point]:
    return [
        (at, start_c + per_minute * at / 60)
        for at in (each * every_s for each in range(int(minutes * 60 / every_s) + 1))
    ]


# ---------------------------------------------------------------- peers


def test_few_peers_say_nothing() -> None:
    assert thermal.peers([50.0, 51.0]) is None


def test_gpus_that_are_all_alike_allow_the_floor() -> None:
    assert thermal.peers([60.0] * 7) == (60.0, 60.0 + thermal.PEER_FLOOR_C)


def test_one_more_hot_gpu_does_not_hide_the_first() -> None:
    said = thermal.peers([60.0, 61.0, 62.0, 60.0, 61.0, 62.0, 88.0])
    assert said is not None
    assert said.limit_c < 80


def test_gpus_that_differ_widely_by_their_places_allow_more() -> None:
    said = thermal.peers([50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0])
    assert said is not None
    assert said.limit_c > 65 + thermal.PEER_FLOOR_C


@given(st.lists(TEMPERATURES, min_size=3, max_size=16))
def test_the_limit_is_above_the_median_by_the_floor_at_least(others: list[float]) -> None:
    said = thermal.peers(others)
    assert said is not None
    assert min(others) <= said.median_c <= max(others)
    assert said.limit_c >= said.median_c + thermal.PEER_FLOOR_C


@given(st.lists(TEMPERATURES, min_size=3, max_size=16), st.floats(-20, 20))
def test_a_warmer_room_warms_the_limit_by_as_much(others: list[float], by: float) -> None:
    here, there = thermal.peers(others), thermal.peers([each + by for each in others])
    assert here is not None
    assert there is not None
    assert there.limit_c == pytest.approx(here.limit_c + by, abs=1e-6)


# ---------------------------------------------------------------- trend


def test_a_steady_climb_says_when_it_will_be_there() -> None:
    assert thermal.reaches_in_s(climb(1.0, 80.0), 89.0) == pytest.approx(4 * 60, abs=1)


def test_whole_degrees_are_enough() -> None:
    points = [(at, float(math.floor(value))) for at, value in climb(1.0, 80.0)]
    assert thermal.reaches_in_s(points, 89.0) == pytest.approx(4 * 60, rel=0.2)


def test_a_gpu_at_one_temperature_goes_nowhere() -> None:
    assert thermal.reaches_in_s([(at, 85.0) for at, _ in climb(0.0)], 89.0) is None


def test_a_gpu_that_cools_goes_nowhere() -> None:
    assert thermal.reaches_in_s(climb(-1.0, 88.0), 89.0) is None


def test_a_gpu_far_from_its_limit_may_climb() -> None:
    assert thermal.reaches_in_s(climb(3.0, 40.0), 89.0) is None


def test_a_job_that_begins_warms_its_gpu_up_and_is_not_taken_for_a_failing_fan() -> None:
    for constant_s in (30.0, 60.0, 120.0):
        for settles_c in (75.0, 80.0, 84.0):
            for until in range(12, 90):
                points = [
                    (at * 10.0, 35 + (settles_c - 35) * (1 - math.exp(-at * 10.0 / constant_s))) for at in range(until)
                ]
                seconds = thermal.reaches_in_s([(at, float(round(value))) for at, value in points], 89.0)
                assert seconds is None or seconds > HEATING_S, (constant_s, settles_c, until)


def test_a_sensor_that_wavers_goes_nowhere() -> None:
    chance = random.Random(7)
    for _ in range(200):
        points = [(at * 10.0, 80.0 + chance.choice((-2, -1, 0, 0, 1, 2))) for at in range(31)]
        assert thermal.reaches_in_s(points, 89.0) is None


def test_two_minutes_are_the_least() -> None:
    assert thermal.reaches_in_s(climb(2.0, 80.0, minutes=1.5), 89.0) is None


def test_what_is_older_than_the_window_does_not_count() -> None:
    old = [(at - 2000.0, 30.0) for at, _ in climb(0.0)]
    assert thermal.reaches_in_s([*old, *climb(1.0, 80.0)], 89.0) == pytest.approx(240, abs=1)


def test_above_the_limit_it_is_there() -> None:
    assert thermal.reaches_in_s(climb(1.0, 88.0), 89.0) == 0.0


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(-50, 150)), max_size=80).map(lambda found: sorted(found)),
    st.floats(40, 110),
)
def test_no_points_whatever_make_it_fail_or_promise_the_past(points: list[thermal.Point], limit_c: float) -> None:
    seconds = thermal.reaches_in_s(points, limit_c) if points else None
    assert seconds is None or seconds >= 0


@given(st.floats(-5, 5), st.floats(20, 100), st.integers(2, 60))
def test_a_line_through_points_of_a_line_is_that_line(per_minute: float, start_c: float, count: int) -> None:
    points = [(at * 10.0, start_c + per_minute * at / 6) for at in range(count)]
    found = thermal.line(points)
    assert found is not None
    assert found.slope_c_per_s == pytest.approx(per_minute / 60, abs=1e-9)
    assert found.now_c == pytest.approx(points[-1][1], abs=1e-6)


def test_points_at_one_time_have_no_line() -> None:
    assert thermal.line([(1.0, 50.0), (1.0, 60.0)]) is None
    assert thermal.line([(1.0, 50.0)]) is None
