"""Whose fault an Xid is: a pure judgement over the history of all nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core import health_judge
from ryzen_coordinator.core.events import ConditionSeen, HealthSeen
from ryzen_coordinator.core.health_judge import course, recovers, whose
from ryzen_coordinator.core.health_record import BURSTS_KEPT, HISTORY_S, Burst, window_s, with_burst

REPEATING = health_judge.REPEATING
HOUR_S = 3600.0


def burst(
    at_s: float, node: str = "a", code: int = 31, device: str = "G0", unit: str = "", generation: int = 1, **more: str
) -> Burst:
    action, run_id = more.get("action", REPEATING), more.get("run_id", "job")
    return Burst(node, "xid", code, device, unit, action, "", at_s, at_s, 1, "me", run_id, generation)


def judged(*history: Burst) -> str:
    """Whose fault the newest one is."""
    return whose(history[-1], history).whose


def test_one_is_nobodys_until_it_repeats() -> None:
    assert judged(burst(0)) == "unknown"


def test_the_second_on_the_same_gpu_is_the_devices() -> None:
    assert judged(burst(0), burst(HOUR_S, generation=2)) == "device"


@pytest.mark.parametrize(
    "first",
    [
        burst(0, device="G1"),
        burst(0, code=13),
        burst(-HISTORY_S - 1),
        burst(0, node="b", run_id="other"),
    ],
    ids=["another GPU", "another Xid", "more than a day ago", "another job on another node"],
)
def test_what_was_elsewhere_or_long_ago_is_no_first_one(first: Burst) -> None:
    assert judged(first, burst(HOUR_S, generation=2)) == "unknown"


def test_a_gpu_without_a_name_cannot_repeat() -> None:
    assert judged(burst(0, device=""), burst(HOUR_S, device="", generation=2)) == "unknown"


def test_an_illegal_instruction_repeats_on_the_same_part_alone() -> None:
    first = burst(0, code=13, unit="GPC 1 TPC 3")
    assert judged(first, burst(HOUR_S, code=13, unit="GPC 1 TPC 3", generation=2)) == "device"
    assert judged(first, burst(HOUR_S, code=13, unit="GPC 1 TPC 4", generation=2)) == "unknown"
    assert judged(replace(first, unit=""), burst(HOUR_S, code=13, unit="", generation=2)) == "unknown"


def test_what_two_nodes_show_within_a_window_is_the_applications_in_either_order() -> None:
    one, other = burst(100), burst(100 + window_s(31) - 1, node="b", generation=2)
    assert judged(one, other) == judged(other, one) == "application"
    late = burst(100 + window_s(31) + 1, node="b", generation=2)
    assert judged(one, late) == "unknown"


def test_what_two_nodes_show_in_one_generation_is_the_applications_however_long_it_lasts() -> None:
    assert judged(burst(0), burst(10 * HOUR_S, node="b")) == "application"


def test_what_repeated_on_one_node_and_is_soon_on_another_has_followed_the_job() -> None:
    moved = burst(2 * HOUR_S, node="b", generation=4), burst(2.5 * HOUR_S, node="b", generation=5)
    assert judged(burst(0), burst(1.5 * HOUR_S, generation=2), *moved) == "application"
    assert judged(burst(0), *moved) == "device"


def test_other_xids_that_ask_for_a_restart_never_become_the_devices() -> None:
    first = burst(0, code=94, action="restart_app")
    assert judged(first, burst(HOUR_S, code=94, action="restart_app", generation=2)) == "unknown"


# Few values each, so that histories are full of coincidences.
bursts = st.builds(
    burst,
    at_s=st.integers(0, 40).map(lambda minutes: 60.0 * minutes),
    node=st.sampled_from("abc"),
    code=st.sampled_from([13, 31]),
    device=st.sampled_from(["G0", "G1", ""]),
    unit=st.sampled_from(["", "GPC 1 TPC 3", "GPC 2 TPC 0"]),
    generation=st.integers(0, 4),
    run_id=st.sampled_from(["job", "other", ""]),
)


@given(st.lists(bursts, max_size=8), bursts)
def test_nobody_is_blamed_for_what_another_node_of_the_job_shows_at_the_same_time(
    history: list[Burst], last: Burst
) -> None:
    twin = replace(last, node=last.node + "'", device="G9")
    assert whose(last, [*history, last, twin]).whose == "application"


@given(st.lists(bursts, max_size=8), bursts)
def test_nobody_is_blamed_without_an_earlier_one_on_the_very_same_device(history: list[Burst], last: Burst) -> None:
    others = [each for each in history if (each.node, each.device) != (last.node, last.device)]
    assert whose(last, [*others, last]).whose != "device"


@given(st.lists(bursts, max_size=8), bursts, st.randoms())
def test_the_order_of_the_history_does_not_matter(history: list[Burst], last: Burst, dice: object) -> None:
    mixed = [*history, last]
    dice.shuffle(mixed)  # type: ignore[attr-defined]
    assert whose(last, mixed).whose == whose(last, [*history, last]).whose


@given(st.lists(bursts, max_size=60))
def test_a_history_stays_short_and_loses_no_line_of_its_newest_burst(found: list[Burst]) -> None:
    kept: tuple[Burst, ...] = ()
    for each in found:
        before = kept
        kept, now = with_burst(kept, each)
        assert kept[-1] == now
        assert len(kept) <= min(BURSTS_KEPT, len(before) + 1)
        assert now.first_unix_s <= each.first_unix_s <= now.last_unix_s
        assert now.count >= 1


def test_lines_of_one_generation_within_the_window_are_one_burst_and_a_restart_begins_another() -> None:
    kept, _ = with_burst((), burst(0))
    kept, again = with_burst(kept, burst(60))
    assert (len(kept), again.count, again.first_unix_s, again.last_unix_s) == (1, 2, 0, 60)
    kept, other = with_burst(kept, burst(70, generation=2))
    assert (len(kept), other.count) == (2, 1)


# ---------------------------------------------------------------- what an event asks for


def seen(code: int = 31, action: str = REPEATING, kind: str = "xid") -> HealthSeen:
    return HealthSeen(1, 0.0, kind, code=code, action=action)


@pytest.mark.parametrize("action", sorted(health_judge.EVICTING))
@pytest.mark.parametrize("kind", ["xid", "sxid", "gpu"])
def test_what_needs_a_reset_a_reboot_or_service_evicts_whoever_says_it(action: str, kind: str) -> None:
    assert course(seen(79, action, kind), ()) == "evict"


def test_the_literal_rule_evicts_on_its_xids_and_no_others() -> None:
    assert course(seen(31), (13, 31, 79)) == "evict"
    assert course(seen(94, "restart_app"), (13, 31, 79)) == "restart"
    assert course(seen(31, REPEATING, "sxid"), (13, 31, 79)) == "note"


@pytest.mark.parametrize("action", ["ignore", "watch_repeat", "follow_other", "", "a word of a later version"])
def test_everything_else_is_only_noted(action: str) -> None:
    assert course(seen(45, action), ()) == "note"


def test_only_the_drivers_own_word_is_a_recovery() -> None:
    assert recovers(seen(154, "ignore"))
    assert not recovers(seen(154, "reboot"))
    assert not recovers(seen(43, "ignore"))


def test_a_condition_evicts_if_it_is_critical_needs_a_reset_and_is_of_a_job_here() -> None:
    lost = ConditionSeen("gpu.lost", "G0", "critical", "reboot")
    assert health_judge.condition_evicts(lost)
    for other in (replace(lost, severity="warning"), replace(lost, action="ignore"), replace(lost, foreign=True)):
        assert not health_judge.condition_evicts(other)
