"""Counters that only grow, and conditions that stand a while longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent.health.growth import Growth, Held
from ryzen_agent.health.model import Condition


def test_a_first_look_says_nothing_and_a_reset_begins_anew() -> None:
    growth = Growth(60.0)
    assert growth.look(0.0, 1000) == 0
    assert growth.look(1.0, 1007) == 7
    assert growth.look(2.0, 3) == 0
    assert growth.look(3.0, 5) == 2
    assert growth.within(3.0, 60.0) == 9


def test_what_is_unknown_for_a_while_is_not_made_up_for_later() -> None:
    growth = Growth(60.0)
    growth.look(0.0, 5)
    growth.look(1.0, None)
    assert growth.look(2.0, 50) == 0


@given(st.lists(st.none() | st.integers(0, 1 << 64), max_size=50))
def test_growth_is_never_negative_and_never_more_than_was_counted(values: list[int | None]) -> None:
    growth = Growth(1000.0)
    seen = [growth.look(float(at), value) for at, value in enumerate(values)]
    assert all(each >= 0 for each in seen)
    assert growth.within(float(len(values)), 1000.0) == sum(seen)


def test_a_condition_is_held_after_it_was_last_said_and_its_newest_words_count() -> None:
    held = Held(10.0)
    held.look(0.0, [Condition("ib.errors", "old", "mlx5_0/1")])
    held.look(5.0, [Condition("ib.errors", "new", "mlx5_0/1")])
    assert [each.message for each in held.look(14.0, ())] == ["new"]
    assert held.look(15.0, ()) == ()
