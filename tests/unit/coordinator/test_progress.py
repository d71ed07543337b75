"""Silences: what is learned, what is known, what only seems."""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulation.coordinator.columns import beats_of

from ryzen_coordinator.core.events import NO_BEATS, ProgressSeen, RankSeen
from ryzen_coordinator.core.gaps import START, Gaps
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.settings import CoreSettings

SETTINGS = CoreSettings()
GAPS = Gaps({"": 1.0, "eval": 100.0}, {"": 0.0, "eval": 0.0})


def table(*observed: tuple[str, int, float, float, dict[str, Any]]) -> ProgressTable:
    """(node, rank, arrival, quiet, more) each."""
    made = ProgressTable(1, ["a", "b"])
    for node, rank, now_s, quiet_s, more in observed:
        section = more.pop("section", "")
        record = ProgressSeen(5, section, quiet_s, quiet_s, 4)
        process = RankSeen(rank, rank, 100 + rank, 1, attached=True, **more)
        made.observe(node, (process,), beats_of([record]), now_s)
    return made


def test_the_limit_of_a_section_is_a_fifth_above_its_longest_silence_and_a_margin() -> None:
    assert GAPS.limit_s("", SETTINGS) == pytest.approx(1.2 * 1.0 + 0.75)
    assert GAPS.limit_s("eval", SETTINGS) == pytest.approx(120.75)


def test_a_section_never_seen_gets_the_longest_known_and_nothing_known_a_minute() -> None:
    assert GAPS.limit_s("new", SETTINGS) == GAPS.limit_s("eval", SETTINGS)
    assert Gaps().limit_s("", SETTINGS) == 60.0


def test_the_largest_silence_of_any_node_is_kept() -> None:
    gaps = Gaps()
    assert gaps.learn([("", 1.0)], SETTINGS, 0.0)
    assert gaps.learn([("", 2.0)], SETTINGS, 1.0)
    assert not gaps.learn([("", 1.5)], SETTINGS, 2.0)
    assert gaps.longest_s[""] == 2.0


def test_a_long_silence_that_is_not_seen_again_gives_way_after_the_window() -> None:
    gaps = Gaps()
    gaps.learn([("", 90.0)], SETTINGS, 0.0)
    gaps.learn([("", 1.0)], SETTINGS, SETTINGS.gap_window_s - 1)
    assert gaps.longest_s[""] == 90.0
    assert gaps.learn([("", 1.0)], SETTINGS, SETTINGS.gap_window_s + 1)
    assert gaps.longest_s[""] == 1.0


def test_a_change_too_small_to_matter_is_not_written_to_disk() -> None:
    gaps = Gaps()
    gaps.learn([("", 1.0)], SETTINGS, 0.0)
    assert not gaps.learn([("", 1.01)], SETTINGS, 1.0)
    assert gaps.longest_s[""] == 1.01


def test_a_stopped_rank_over_its_limit_is_found_and_only_that_one() -> None:
    seen = table(("a", 0, 10.0, 3.0, {}), ("b", 1, 10.0, 3.0, {"process_state": "T", "process_state_s": 2.5}))
    assert seen.sweep(GAPS, set(), SETTINGS, 10.0).frozen == (1,)


def test_a_stopped_rank_within_the_limit_of_its_section_is_left_alone() -> None:
    seen = table(("a", 0, 10.0, 3.0, {"section": "eval", "process_state": "T", "process_state_s": 2.9}))
    assert seen.sweep(GAPS, set(), SETTINGS, 10.0).frozen == ()


def test_a_rank_counts_as_silent_only_up_to_its_last_report() -> None:
    seen = table(("a", 0, 10.0, 0.1, {}))
    assert not seen.sweep(GAPS, set(), SETTINGS, 15.0).all_silent
    assert seen.others_silent(set(), GAPS, SETTINGS, 15.0), "at 15.0 it seems to be"
    assert not seen.others_silent(set(), GAPS, SETTINGS, None), "but it is not known to be"


def test_ranks_of_silent_nodes_say_nothing_about_a_stall() -> None:
    seen = table(("a", 0, 10.0, 0.0, {}), ("b", 1, 15.0, 9.0, {}))
    assert seen.sweep(GAPS, {"a"}, SETTINGS, 15.0).all_silent
    assert not seen.sweep(GAPS, set(), SETTINGS, 15.0).all_silent


def test_a_debuggers_sample_is_no_evidence() -> None:
    brief = table(("a", 0, 10.0, 3.0, {"process_state": "t", "process_state_s": 0.09}))
    assert brief.evidence(set(), 10.0) == ()


def test_a_rank_without_a_record_is_in_the_start_section_since_it_was_born() -> None:
    made = ProgressTable(1, ["a"])
    frozen = RankSeen(0, 0, 1, 1, process_state="T", process_state_s=9.0, attached=True)
    made.observe("a", (frozen,), NO_BEATS, 10.0)
    assert made.sections[int(made.section[0])] == START
    start_known = Gaps({START: 5.0, "": 0.1}, {START: 0.0, "": 0.0})
    assert made.sweep(start_known, set(), SETTINGS, 16.0).frozen == ()
    assert made.sweep(start_known, set(), SETTINGS, 17.0).frozen == (0,)


def test_a_world_is_alive_since_its_youngest_rank() -> None:
    made = ProgressTable(1, ["a"])
    made.observe("a", (RankSeen(0, 0, 1, 1),), NO_BEATS, 10.0)
    assert made.all_alive_since_s(2) is None
    made.observe("a", (RankSeen(0, 0, 1, 1), RankSeen(1, 1, 2, 1)), NO_BEATS, 12.0)
    assert made.all_alive_since_s(2) == 12.0
