"""How long a rank may be silent: learned by section, larger as the job gets slower, never for a declared pause."""

from __future__ import annotations

import math

from ryzen_coordinator.core.gaps import FIRST_STEP, PAUSE, START, Gaps
from ryzen_coordinator.core.settings import CoreSettings

SETTINGS = CoreSettings()


def test_the_limit_follows_steps_that_get_longer_for_good() -> None:
    gaps = Gaps()
    gaps.learn([("backward", 0.5)], SETTINGS, 0.0)
    before = gaps.limit_s("backward", SETTINGS)
    gaps.learn([("backward", 2.0)], SETTINGS, 10.0)
    assert gaps.limit_s("backward", SETTINGS) == 1.2 * 2.0 + 0.75 > before


def test_one_long_evaluation_is_forgotten_when_it_has_not_come_again_for_a_window() -> None:
    gaps = Gaps()
    gaps.learn([("", 60.0)], SETTINGS, 0.0)
    gaps.learn([("", 0.5)], SETTINGS, SETTINGS.gap_window_s)
    assert gaps.limit_s("", SETTINGS) > 60.0
    gaps.learn([("", 0.5)], SETTINGS, SETTINGS.gap_window_s + 1.0)
    assert gaps.limit_s("", SETTINGS) == 1.2 * 0.5 + 0.75


def test_but_the_longest_ever_is_remembered_for_the_floor() -> None:
    gaps = Gaps()
    gaps.learn([("", 60.0), (START, 500.0)], SETTINGS, 0.0)
    gaps.learn([("", 0.5)], SETTINGS, 2 * SETTINGS.gap_window_s)
    assert gaps.ever_s == 60.0


def test_a_declared_pause_has_no_limit_and_teaches_none() -> None:
    gaps = Gaps()
    assert not gaps.learn([(f"{PAUSE}evaluation", 900.0)], SETTINGS, 0.0)
    assert math.isinf(gaps.limit_s(f"{PAUSE}evaluation", SETTINGS))
    assert gaps.limit_s("", SETTINGS) == SETTINGS.gap_unknown_s


def test_the_start_and_the_first_step_have_values_of_their_own() -> None:
    gaps = Gaps()
    gaps.learn([("forward", 0.2), (START, 20.0)], SETTINGS, 0.0)
    assert gaps.limit_s(FIRST_STEP, SETTINGS) == SETTINGS.gap_unknown_s
    assert gaps.limit_s("backward", SETTINGS) == 1.2 * 0.2 + 0.75
    gaps.learn([(FIRST_STEP, 5.0)], SETTINGS, 1.0)
    assert gaps.limit_s(FIRST_STEP, SETTINGS) == 1.2 * 5.0 + 0.75
