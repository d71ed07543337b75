"""The arithmetic of time accounting: whatever happens, each second of each GPU is booked once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core.book import STATES, STEPS_KEPT, STRETCHES_KEPT, Book

NODES = ("a", "b", "c", "d")
GPUS = {"a": 8, "b": 8, "c": 4, "d": 1}

hold = st.tuples(
    st.just("hold"),
    st.dictionaries(st.sampled_from(NODES), st.just("idle"), max_size=2),
    st.sampled_from(["productive", "detection", "recovery", "waiting"]),
    st.sets(st.sampled_from(NODES)),
)
moves = st.one_of(
    hold,
    st.tuples(st.just("pass"), st.floats(0.0, 1e4)),
    st.tuples(st.just("rewind"), st.floats(0.0, 1.2), st.sampled_from(["lost_steps", "detection", "checkpoint"])),
    st.tuples(st.just("give back"), st.floats(0.0, 1e4)),
    st.tuples(st.just("step"), st.integers(0, 500)),
    st.tuples(st.just("resume"), st.integers(0, 500)),
)


def total(book: Book) -> float:
    return sum(sum(account.seconds().values()) * account.weight for account in book.accounts)


@given(st.lists(moves, max_size=60))
def test_the_sum_of_all_states_is_wall_time_times_gpus_whatever_happens(story: list[tuple[object, ...]]) -> None:
    book, now_s, held, expected = Book(), 0.0, 0, 0.0
    for move in story:
        match move:
            case ("hold", idle, state, working):
                book.settle(now_s)
                states = {**idle, **dict.fromkeys(sorted(working), state)}
                book.hold(states, GPUS)
                held = sum(GPUS[node] for node in states)
            case ("pass", seconds):
                now_s += seconds
                expected += seconds * held
                book.settle(now_s)
            case ("rewind", share, state):
                book.rewind(book.clock_s * share, state)
            case ("give back", seconds):
                book.give_back(seconds)
            case ("step", step):
                book.note_step(step)
            case ("resume", step):
                book.resume(step)
        seconds = [spent for account in book.accounts for spent in account.seconds().values()]
        assert all(each >= -1e-6 for each in seconds)
        assert total(book) == pytest.approx(expected, rel=1e-9, abs=1e-6)
        assert len(book.steps) <= STEPS_KEPT
        assert all(len(account.worked) <= STRETCHES_KEPT + 1 for account in book.accounts)
        assert [step for step, _ in book.steps] == sorted({step for step, _ in book.steps})
        assert all(one[1] <= other[1] for one, other in zip(book.steps, book.steps[1:], strict=False))


def test_nodes_with_one_history_share_an_account_and_part_when_they_must() -> None:
    book = Book()
    book.hold(dict.fromkeys(("a", "b"), "productive"), GPUS)
    book.settle(10.0)
    assert [account.nodes for account in book.accounts] == [("a", "b")]
    book.hold({"a": "recovery", "c": "recovery"}, GPUS)
    book.settle(12.0)
    booked = {account.nodes: {k: v for k, v in account.seconds().items() if v} for account in book.accounts}
    assert booked == {
        ("a",): {"productive": 10.0, "recovery": 2.0},
        ("b",): {"productive": 10.0},
        ("c",): {"recovery": 2.0},
    }


def test_time_that_is_lost_is_taken_from_those_who_worked_then_not_from_those_who_came_later() -> None:
    book = Book()
    book.hold(dict.fromkeys(("a", "b"), "productive"), GPUS)
    book.note_step(0)
    book.settle(10.0)
    book.note_step(100)
    book.hold({"a": "productive", "c": "productive"}, GPUS)
    book.settle(12.0)
    book.note_step(120)
    assert book.resume(80) == pytest.approx((2.0 + 2.0) * 8 + 2.0 * 8 + 2.0 * 4)
    lost = {node: account.spent_s["lost_steps"] for account in book.accounts for node in account.nodes}
    assert lost == {"a": pytest.approx(4.0), "b": pytest.approx(2.0), "c": pytest.approx(2.0)}
    assert book.clock_s == pytest.approx(8.0)


def test_a_step_finds_its_place_between_known_points_and_a_later_one_loses_nothing() -> None:
    book = Book()
    book.hold({"a": "productive"}, GPUS)
    for step in range(0, 2000, 10):
        book.note_step(step)
        book.settle(float(step) + 10.0)
    assert book.clock_of(1234) == pytest.approx(1234.0, abs=10.0)
    assert book.clock_of(-5) == book.clock_of(0) == 0.0
    assert book.resume(5000) == 0.0


def test_a_node_that_comes_back_with_another_number_of_gpus_keeps_what_it_spent_before() -> None:
    book = Book()
    book.hold({"a": "productive"}, {"a": 8})
    book.settle(10.0)
    book.hold({"a": "productive"}, {"a": 4})
    book.settle(20.0)
    assert total(book) == 10.0 * 8 + 10.0 * 4


def test_no_two_states_have_one_name() -> None:
    assert len(set(STATES)) == len(STATES)
