"""What a port's history says. Looks come each 15 seconds, as the collector makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_agent.health.model import Condition
from ryzen_agent.health.port_rules import COUNTER_LIMITS, CounterLimit, PortHistory, slower_than_peers
from ryzen_agent.health.ports import Port

LOOK_S = 15
UP = Port("mlx5_0", "1", "ACTIVE", "LinkUp", 400.0, "InfiniBand", "MT_0000000838", {"link_downed": 3})
DOWN = replace(UP, state="DOWN", phys_state="Polling", rate_gbps=10.0, counters={"link_downed": 4})


class Story:
    """A port, looked at each 15 seconds."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.history = PortHistory()
        self.said: list[Condition] = []

    def goes(self, port: Port, for_s: float = LOOK_S) -> set[str]:
        """Names of what stands at the end."""
        for _ in range(round(for_s / LOOK_S)):
            self.now_s += LOOK_S
            self.said = self.history.look(self.now_s, port)
        return {each.name for each in self.said}


def test_a_port_that_has_never_been_up_is_an_unused_one() -> None:
    assert Story().goes(DOWN, 3600) == set()


def test_a_port_that_goes_down_is_said_at_once_and_taken_back_when_it_is_up() -> None:
    story = Story()
    story.goes(UP, 60)
    assert story.goes(DOWN) == {"ib.port_down"}
    assert story.said[0].device == "mlx5_0/1"
    assert story.goes(UP) == set()


def test_a_port_that_stays_down_for_more_than_four_minutes_has_dropped_and_is_held_ten_minutes() -> None:
    story = Story()
    story.goes(UP)
    assert story.goes(DOWN, 240) == {"ib.port_down"}
    assert story.goes(DOWN, 30) == {"ib.port_down", "ib.port_dropped"}
    assert next(each for each in story.said if each.name == "ib.port_dropped").severity == "critical"
    assert story.goes(UP, 585) == {"ib.port_dropped"}
    assert story.goes(UP, 30) == set()


def test_a_port_that_bounced_between_two_looks_has_not_dropped() -> None:
    story = Story()
    story.goes(UP)
    story.goes(DOWN, 230)
    assert story.goes(replace(DOWN, counters={"link_downed": 5}), 230) == {"ib.port_down"}


def test_a_saturated_count_does_not_keep_a_drop_from_being_seen() -> None:
    story = Story()
    story.goes(UP)
    assert "ib.port_dropped" in story.goes(replace(DOWN, counters={}, saturated=("link_downed",)), 300)


def test_three_returns_after_half_a_minute_in_twelve_hours_are_flapping() -> None:
    story = Story()
    story.goes(UP)
    for _ in range(2):
        story.goes(DOWN, 30)
        assert story.goes(UP, 3600) == set()
    story.goes(DOWN, 30)
    assert story.goes(UP) == {"ib.port_flapping"}


def test_a_blink_is_no_flap_and_flaps_of_yesterday_do_not_count() -> None:
    blinking, rare = Story(), Story()
    for _ in range(10):
        blinking.goes(UP)
        blinking.goes(DOWN, 15)
        rare.goes(UP, 7 * 3600)
        rare.goes(DOWN, 30)
    assert blinking.goes(UP) == set()
    assert rare.goes(UP) == set()


def test_a_port_that_is_gone_is_down_if_it_was_ever_up_but_has_not_dropped_for_a_container_may_have_it() -> None:
    history = PortHistory()
    assert history.gone(0.0) == []
    history.look(0.0, UP)
    for now_s in (15.0, 3600.0, 7200.0):
        (gone,) = history.gone(now_s)
        assert (gone.name, gone.message) == ("ib.port_down", "gone")


def test_a_port_whose_state_cannot_be_read_is_not_taken_for_down() -> None:
    history = PortHistory()
    history.look(0.0, UP)
    assert history.unknown(15.0) == []


@pytest.mark.parametrize("limit", COUNTER_LIMITS, ids=lambda each: each.counter)
def test_a_counter_may_grow_as_far_as_its_limit_and_no_further(limit: CounterLimit) -> None:
    def with_count(value: int) -> Port:
        return replace(UP, counters={limit.counter: value})

    within, beyond = Story(), Story()
    for story in (within, beyond):
        assert story.goes(with_count(1_000_000)) == set(), "what was counted before the first look says nothing"
    assert within.goes(with_count(1_000_000 + limit.at_most)) == set()
    assert beyond.goes(with_count(1_000_001 + limit.at_most)) == {"ib.errors"}
    assert limit.counter in beyond.said[0].message
    assert beyond.goes(with_count(1_000_001 + limit.at_most), limit.window_s + 570) == {"ib.errors"}
    assert beyond.goes(with_count(1_000_001 + limit.at_most), 30) == set()


def test_a_saturated_counter_is_unknown_and_counting_begins_anew_after_its_reset() -> None:
    story = Story()
    story.goes(UP)
    assert story.goes(replace(UP, counters={}, saturated=("link_error_recovery",))) == {"ib.counters_saturated"}
    assert story.goes(replace(UP, counters={"link_error_recovery": 100})) == set()
    assert story.goes(replace(UP, counters={"link_error_recovery": 106})) == {"ib.errors"}


def test_a_port_that_came_back_slower_is_degraded_until_it_is_as_fast_again() -> None:
    story = Story()
    story.goes(UP)
    assert story.goes(replace(UP, rate_gbps=100.0)) == {"ib.degraded_rate"}
    assert (story.said[0].value, story.said[0].limit) == (100.0, 400.0)
    assert story.goes(UP) == set()


def ports(*rates: float, change: Callable[[Port], Port] = lambda each: each) -> list[Port]:
    return [change(replace(UP, device=f"mlx5_{at}", rate_gbps=rate)) for at, rate in enumerate(rates)]


def test_a_port_slower_than_most_of_its_kind_is_degraded() -> None:
    (slow,) = slower_than_peers(ports(400, 400, 200, 400))
    assert (slow.name, slow.device) == ("ib.degraded_rate", "mlx5_2/1")


def test_without_a_majority_of_the_same_board_nobody_is_slow() -> None:
    assert slower_than_peers(ports(400, 200)) == []
    assert slower_than_peers(ports(400, 400, 200, 200)) == []
    assert slower_than_peers(ports(400, 100, 100, 100)) == [], "faster than most is no fault"
    assert slower_than_peers(ports(400, 400, 200, change=lambda each: replace(each, board=each.device))) == []
    assert slower_than_peers(ports(400, 400, 10, change=lambda each: replace(each, state="DOWN"))) == []


@given(st.lists(st.tuples(st.sampled_from(["ACTIVE", "DOWN", "INIT"]), st.none() | st.integers(0, 300)), max_size=60))
def test_any_history_says_only_what_is_in_the_table_and_each_thing_once(looks: list[tuple[str, int | None]]) -> None:
    history = PortHistory()
    was_up = False
    for at, (state, count) in enumerate(looks):
        counters = {} if count is None else {"link_downed": count, "symbol_error": count}
        said = history.look(at * 100.0, replace(UP, state=state, counters=counters))
        was_up |= state == "ACTIVE"
        assert len({each.key for each in said}) == len(said)
        assert ("ib.port_down" in {each.name for each in said}) == (was_up and state != "ACTIVE")
