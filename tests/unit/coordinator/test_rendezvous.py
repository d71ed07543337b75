"""Who belongs to the next world, and why."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core.rendezvous import Candidate, Plan, Standing, plan_first, plan_next
from ryzen_coordinator.core.settings import CoreSettings

SETTINGS = CoreSettings(form_wait_s=30, hint_wait_s=5)


def ready(node: str, hint: int = 1 << 30, since_s: float = 0.0) -> Candidate:
    return Candidate(node, "ready", hint, since_s)


def coming(node: str) -> Candidate:
    return Candidate(node, "coming")


def out(node: str) -> Candidate:
    return Candidate(node, "out", reason="silent")


def test_the_first_world_is_formed_at_once_when_all_are_there() -> None:
    plan = plan_first([ready("b"), ready("a")], 1, 2, SETTINGS, now_s=0.0)
    assert (plan.complete, plan.wanted) == (True, ("a", "b"))


def test_hints_order_the_world_before_names() -> None:
    plan = plan_first([ready("a", hint=1), ready("z", hint=0)], 2, 2, SETTINGS, now_s=0.0)
    assert plan.wanted == ("z", "a")


def test_fewer_than_all_wait_for_form_wait_s_after_the_last_join() -> None:
    nodes = [ready("a", since_s=0.0), ready("b", since_s=10.0)]
    assert not plan_first(nodes, 2, 3, SETTINGS, now_s=39.9).complete
    assert plan_first(nodes, 2, 3, SETTINGS, now_s=40.0).complete


def test_fewer_than_min_wait_for_ever_and_say_for_what() -> None:
    plan = plan_first([ready("a")], 2, 3, SETTINGS, now_s=1e6)
    assert (plan.complete, plan.reason) == (False, "waits for nodes: 1 of at least 2")


def test_a_spare_by_its_hint_takes_a_place_only_after_hint_wait_s() -> None:
    nodes = [ready("a", hint=0), ready("spare", hint=2)]
    assert not plan_first(nodes, 2, 2, SETTINGS, now_s=4.9).complete
    assert plan_first(nodes, 2, 2, SETTINGS, now_s=5.0).wanted == ("a", "spare")


def test_a_replacement_takes_the_group_rank_of_the_node_it_replaces() -> None:
    plan = plan_next(("a", "b", "c"), [out("a"), ready("b"), ready("c"), ready("spare")], 3, 3)
    assert plan.wanted == ("spare", "b", "c")
    assert plan.complete


def test_a_world_that_shrinks_is_compacted_and_keeps_the_vacancy() -> None:
    plan = plan_next(("a", "b", "c"), [ready("a"), out("b"), ready("c")], 2, 3)
    assert (plan.wanted, plan.slots) == (("a", "c"), ("a", "b", "c"))


def test_a_node_that_returns_takes_its_old_place() -> None:
    assert plan_next(("a", "b", "c"), [ready("a"), ready("b"), ready("c")], 2, 3).wanted == ("a", "b", "c")


def test_a_newcomer_takes_a_vacancy_before_it_is_appended() -> None:
    assert plan_next(("a", "b"), [out("a"), ready("b"), ready("d")], 1, 3).wanted == ("d", "b")
    assert plan_next(("a", "b"), [ready("a"), ready("b"), ready("d")], 1, 3).wanted == ("a", "b", "d")


def test_a_survivor_on_its_way_is_waited_for_by_name() -> None:
    plan = plan_next(("a", "b"), [ready("a"), coming("b")], 1, 2)
    assert (plan.complete, plan.missing, plan.reason) == (
        False,
        frozenset({"b"}),
        "waits for b to come to the rendezvous",
    )


def test_below_min_the_world_waits() -> None:
    plan = plan_next(("a", "b"), [ready("a"), out("b")], 2, 2)
    assert (plan.complete, plan.reason) == (False, "waits for nodes: 1 of at least 2")


names = st.sampled_from([f"n{i}" for i in range(8)])
standings: st.SearchStrategy[Standing] = st.sampled_from(["ready", "coming", "out"])


@given(
    slots=st.lists(names, unique=True, max_size=5),
    nodes=st.dictionaries(names, standings, max_size=8),
    minimum=st.integers(1, 5),
    more=st.integers(0, 3),
)
def test_whatever_the_nodes_do_a_plan_keeps_its_promises(
    slots: list[str], nodes: dict[str, Standing], minimum: int, more: int
) -> None:
    maximum = max(minimum + more, len(slots))
    plan = plan_next(tuple(slots), [Candidate(name, standing) for name, standing in nodes.items()], minimum, maximum)
    check(plan, tuple(slots), nodes, minimum, maximum)


def check(plan: Plan, slots: tuple[str, ...], nodes: dict[str, Standing], minimum: int, maximum: int) -> None:
    assert len(set(plan.wanted)) == len(plan.wanted) <= maximum
    assert len(set(plan.slots)) == len(plan.slots) <= maximum
    assert all(nodes.get(name, "out") != "out" for name in plan.wanted)
    assert plan.missing == {name for name in plan.wanted if nodes[name] != "ready"}
    assert plan.complete == (len(plan.wanted) >= minimum and not plan.missing)
    survivors = [name for name in slots if nodes.get(name, "out") != "out"]
    assert [name for name in plan.wanted if name in survivors] == survivors, "survivors keep their order"
    assert all(plan.slots[slots.index(name)] == name for name in survivors), "survivors keep their slots"
    assert plan.complete or plan.reason
