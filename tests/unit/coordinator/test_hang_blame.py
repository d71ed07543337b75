"""The culprit of a stall by evidence, and nobody where there is none."""

from __future__ import annotations

import cProfile
import pstats
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core.events import Collective, Probe
from ryzen_coordinator.core.evidence import Finding, RankView
from ryzen_coordinator.core.hang_blame import PATIENCE_S, SETTLED_S, blame
from ryzen_coordinator.core.settings import CoreSettings

SETTINGS = CoreSettings()
WORLD = {"0": frozenset(range(4)), "1": frozenset(range(4))}
LAST = Collective("0", 9, "all_reduce", "Float[8]", done=True)
NEXT = Collective("0", 10, "all_reduce", "Float[8]")
IN_USER_CODE = "evaluate (train.py:40)\nmain (train.py:90)"


def waiting(rank: int, *entries: Collective, frozen_s: float = 40.0) -> RankView:
    """A rank that is blocked in a collective."""
    probe = Probe(5, 0.1, 7, frozen_s, False, True, "futex_wait", True, entries or (NEXT,))
    return RankView(rank, f"node-{rank // 2}", 12, "backward", 40.0, 1.5, probe=probe, stack="all_reduce (c10d.py:1)")


def elsewhere(rank: int, *entries: Collective, frozen_s: float = 0.0, busy: bool = False) -> RankView:
    """A rank that is in code of its own."""
    probe = Probe(5, 0.1, 8, frozen_s, busy, False, "", True, entries or (LAST,))
    return RankView(rank, f"node-{rank // 2}", 12, "", 40.0, 1.5, probe=probe, stack=IN_USER_CODE)


def found(*views: RankView) -> Finding:
    return blame(views, WORLD, SETTINGS)


def test_a_blocked_rank_that_the_others_wait_for_is_the_culprit() -> None:
    finding = found(waiting(0), waiting(1), elsewhere(2, frozen_s=31.0), waiting(3))
    assert (finding.rule, finding.ranks, finding.proof) == ("never entered", (2,), True)
    assert "evaluate (train.py:40)" in finding.words


def test_a_long_evaluation_looks_the_same_but_moves_and_is_only_named_as_a_suspect() -> None:
    finding = found(elsewhere(0, frozen_s=0.0, busy=True), waiting(1), waiting(2), waiting(3))
    assert (finding.ranks, finding.proof) == ((0,), False)


def test_a_stack_that_stood_still_for_less_than_the_setting_is_no_proof() -> None:
    assert not found(elsewhere(0, frozen_s=29.0), waiting(1), waiting(2), waiting(3)).proof


def test_a_silence_within_what_its_section_may_take_is_no_proof() -> None:
    saving = replace(elsewhere(0, frozen_s=31.0), quiet_s=40.0, limit_s=60.0)
    assert not found(saving, waiting(1), waiting(2), waiting(3)).proof


def test_one_frozen_suspect_is_not_blamed_while_another_still_moves() -> None:
    finding = found(elsewhere(0, frozen_s=0.0), elsewhere(1, frozen_s=60.0), waiting(2), waiting(3))
    assert (finding.ranks, finding.proof) == ((0, 1), False)


def test_a_collective_that_only_one_side_is_in_is_a_cycle_and_the_smaller_side_is_the_culprit() -> None:
    alone = Collective("1", 1, "all_reduce", "Float[1]")
    finding = found(waiting(0), waiting(1), waiting(2, alone, LAST), waiting(3))
    assert (finding.rule, finding.ranks, finding.proof) == ("cycle", (2,), True)


def test_a_cycle_of_equal_sides_is_proof_but_names_nobody() -> None:
    other = Collective("1", 1, "all_reduce", "Float[1]")
    finding = found(waiting(0), waiting(1), waiting(2, other, LAST), waiting(3, other, LAST))
    # the two in group 1 lack 0 and 1, those lack 2 and 3
    assert (finding.rule, finding.ranks, finding.proof) == ("cycle", (), True)


def test_a_cycle_of_a_few_waits_to_hear_of_the_others_and_without_them_names_nobody() -> None:
    """Three are known, four are not yet: the two in group 1 may be the odd ones, though the third is alone for now."""
    world = {"0": frozenset(range(7)), "1": frozenset(range(7))}
    other = Collective("1", 1, "all_reduce", "Float[1]")

    def now(frozen_s: float) -> Finding:
        known = [waiting(0, other, LAST, frozen_s=frozen_s), waiting(2, other, LAST, frozen_s=frozen_s)]
        unheard = [replace(elsewhere(rank), probe=None, stack="") for rank in range(3, 7)]
        return blame([*known, waiting(1, frozen_s=frozen_s), *unheard], world, SETTINGS)

    assert not now(SETTLED_S + 0.1).proof
    assert (now(PATIENCE_S).rule, now(PATIENCE_S).ranks, now(PATIENCE_S).proof) == ("cycle", (), True)


def test_no_cycle_is_believed_before_everybody_in_it_has_stood_still() -> None:
    alone = Collective("1", 1, "all_reduce", "Float[1]")
    finding = found(waiting(0), waiting(1, frozen_s=0.5), waiting(2, alone, LAST, frozen_s=0.5), waiting(3))
    assert finding.rule != "cycle"


def test_another_size_at_the_same_number_is_a_mismatch_and_the_odd_one_is_named() -> None:
    odd = Collective("0", 10, "all_reduce", "Float[1]")
    finding = found(waiting(0), waiting(1), waiting(2), waiting(3, odd))
    assert (finding.rule, finding.ranks, finding.desync) == ("mismatch", (3,), True)


def test_a_mismatch_between_two_ranks_names_neither() -> None:
    odd = Collective("0", 10, "broadcast", "Float[1]")
    finding = found(waiting(0), waiting(1, odd))
    assert (finding.rule, finding.ranks, finding.desync) == ("mismatch", (), True)


def test_inputs_of_a_gather_may_differ_in_size() -> None:
    views = [waiting(rank, Collective("0", 10, "all_gather", f"Float[{rank}]")) for rank in range(4)]
    assert found(*views).rule == "all entered"


def test_where_all_have_entered_and_none_leaves_nobody_is_named() -> None:
    finding = found(*[waiting(rank) for rank in range(4)])
    assert (finding.rule, finding.ranks, finding.proof) == ("all entered", (), False)


def test_a_rank_that_left_with_more_steps_than_the_waiting_ones_was_ahead_of_them() -> None:
    ahead = RankView(1, "node-0", 20, "", 40.0, 1.5, state="exited 0", steps_done=20)
    others = [replace(waiting(rank), steps_done=19) for rank in (0, 2, 3)]
    finding = found(ahead, *others)
    assert (finding.rule, finding.ranks, finding.desync) == ("finished first", (1,), True)


def test_ranks_that_left_a_finished_job_a_little_sooner_are_not_accused() -> None:
    done = RankView(1, "node-0", 20, "", 40.0, 1.5, state="exited 0", steps_done=20)
    others = [replace(waiting(rank), steps_done=20) for rank in (0, 2, 3)]
    assert not found(done, *others).desync


def test_without_recorders_the_stacks_tell_who_is_outside() -> None:
    def without(view: RankView) -> RankView:
        assert view.probe is not None
        return replace(view, probe=view.probe._replace(recorder=False, collectives=()))

    views = [without(waiting(0)), without(waiting(1)), without(waiting(2)), without(elsewhere(3, frozen_s=35.0))]
    finding = found(*views)
    assert (finding.rule, finding.ranks, finding.proof) == ("stacks", (3,), True)


def test_a_whole_world_in_the_same_evaluation_gives_nobody_away() -> None:
    finding = found(*[elsewhere(rank, frozen_s=100.0) for rank in range(4)])
    assert (finding.ranks, finding.proof) == ((), False)


@st.composite
def worlds(draw: st.DrawFn) -> list[RankView]:
    views = []
    for rank in range(draw(st.integers(1, 6))):
        entries = draw(
            st.lists(
                st.builds(
                    Collective,
                    st.sampled_from(["0", "1", "2"]),
                    st.integers(0, 5),
                    st.sampled_from(["all_reduce", "barrier", "send"]),
                    st.just("Float[8]"),
                    st.booleans(),
                ),
                max_size=4,
            )
        )
        probe = draw(
            st.none()
            | st.builds(
                Probe, st.integers(0, 9), st.just(0.1), st.integers(0, 3), st.floats(0, 100), st.booleans(),
                st.booleans(), st.just(""), st.booleans(), st.just(tuple(entries)),
            )
        )  # fmt: skip
        state = draw(st.sampled_from(["running", "exited 0", "exited -9"]))
        views.append(RankView(rank, "n", draw(st.integers(-1, 3)), "", 40.0, 1.5, state, 0, probe, "f (x.py:1)"))
    return views


@given(worlds())
def test_whatever_is_seen_only_still_or_contradicting_ranks_are_proven_guilty(views: list[RankView]) -> None:
    finding = found(*views)
    by_rank = {view.rank: view for view in views}
    for rank in finding.ranks if finding.proof and not finding.desync else ():
        probe = by_rank[rank].probe
        assert probe is not None
        assert probe.frozen_s >= SETTLED_S
    assert len(finding.ranks) * 2 <= max(2, len(views))


def test_a_rank_in_the_kernels_hands_or_under_a_debugger_is_not_frozen() -> None:
    for state in ("uninterruptible", "traced"):
        stuck = replace(elsewhere(0, frozen_s=100.0), state=state)
        assert not found(stuck, waiting(1), waiting(2), waiting(3)).proof, state


def test_a_long_call_while_the_job_starts_is_no_proof_however_still_its_stack_is() -> None:
    starting = replace(elsewhere(0, frozen_s=300.0, busy=True), section="(start)", quiet_s=400.0)
    assert not found(starting, waiting(1), waiting(2), waiting(3)).proof
    assert found(replace(starting, section="forward"), waiting(1), waiting(2), waiting(3)).proof


def test_sizes_that_sum_the_same_are_no_mismatch() -> None:
    scalar = Collective("0", 10, "all_reduce", "Float[]")
    one = Collective("0", 10, "all_reduce", "Float[1]")
    assert found(waiting(0, scalar), waiting(1, one), waiting(2, one), waiting(3, one)).rule == "all entered"


def test_a_rank_that_left_is_not_missed_by_a_group_that_it_does_not_belong_to() -> None:
    gone = RankView(3, "node-1", 20, "", 40.0, 1.5, state="exited 0", steps_done=20)
    alone = [waiting(rank, Collective("7", 2, "barrier")) for rank in (0, 1)]
    views = [replace(view, steps_done=19) for view in alone] + [gone]
    groups = {**WORLD, "7": frozenset({0, 1})}
    assert not blame(views, groups, SETTINGS).desync
    assert blame(views, {**WORLD, "7": frozenset({0, 1, 3})}, SETTINGS).desync


def test_blame_over_thousands_of_ranks_looks_at_each_a_few_times() -> None:
    """A count, not a time: sixteen times the ranks may not cost two hundred times the work."""

    def calls(ranks: int) -> int:
        groups = {"0": frozenset(range(ranks))}
        views = [waiting(rank) for rank in range(ranks - 1)] + [elsewhere(ranks - 1)]
        profile = cProfile.Profile()
        profile.runcall(blame, views, groups, SETTINGS)
        return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]

    assert calls(1600) < 40 * calls(100)
