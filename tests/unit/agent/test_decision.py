"""Who is killed, when, and who never is."""

from __future__ import annotations

from ryzen_agent.decision import (
    CUT_OFF_WAIT_S,
    LAST_WORDS_S,
    TAKE_WAIT_S,
    Goal,
    JobFacts,
    Phase,
    RankFacts,
    decide,
)

OLD = (RankFacts(10, 1, alive=True), RankFacts(11, 1, alive=True))


def facts(*ranks: RankFacts, phase: Phase = Phase.RUNNING, **more: object) -> JobFacts:
    return JobFacts(ranks=ranks, phase=phase, **more)  # type: ignore[arg-type]


def killed(job: JobFacts, goal: Goal | None, now: float = 100.0) -> set[int]:
    return set(decide(job, goal, now).kills)


def test_nothing_desired_means_nothing_is_killed() -> None:
    assert killed(facts(*OLD), None) == set()


def test_ranks_of_the_desired_generation_live_on() -> None:
    assert killed(facts(*OLD), Goal(1, go_at=0.0)) == set()


def test_ranks_newer_than_a_coordinator_that_has_forgotten_them_live_on() -> None:
    assert killed(facts(RankFacts(10, 5, alive=True)), Goal(4, go_at=0.0)) == set()


def test_an_announcement_alone_kills_nobody() -> None:
    assert killed(facts(*OLD), Goal(2)) == set()


def test_go_waits_until_torchrun_has_taken_it() -> None:
    goal = Goal(2, go_at=100.0)
    decision = decide(facts(*OLD, taken_generation=1), goal, 100.1)
    assert decision.kills == {}
    assert decision.wake_at == 100.0 + TAKE_WAIT_S
    assert killed(facts(*OLD, taken_generation=2), goal, 100.1) == {10, 11}


def test_a_torchrun_that_does_not_poll_delays_the_kill_only_so_long() -> None:
    assert killed(facts(*OLD), Goal(2, go_at=100.0), 100.0 + TAKE_WAIT_S) == {10, 11}


def test_a_torchrun_that_joins_has_left_its_ranks() -> None:
    assert killed(facts(*OLD, phase=Phase.JOINING), Goal(2)) == {10, 11}


def test_a_local_failure_needs_neither_go_nor_poll() -> None:
    dead = RankFacts(9, 1, alive=False, failed_at=99.0)
    assert killed(facts(dead, *OLD), Goal(2)) == {10, 11}


def test_a_rank_that_stamped_an_exception_may_print_it_first() -> None:
    stamped = RankFacts(10, 1, alive=True, stamped_at=100.0)
    decision = decide(facts(stamped, OLD[1]), Goal(2), 100.0)
    assert set(decision.kills) == {11}
    assert decision.wake_at == 100.0 + LAST_WORDS_S
    assert killed(facts(stamped, OLD[1]), Goal(2), 100.0 + LAST_WORDS_S) == {10, 11}


def test_a_rank_that_we_have_killed_does_not_count_as_a_failure() -> None:
    ours = RankFacts(9, 1, alive=False)
    assert killed(facts(ours, *OLD), Goal(2)) == set()


def test_a_straggler_of_an_older_generation_is_killed_whenever_it_is_found() -> None:
    young = RankFacts(20, 3, alive=True)
    old = RankFacts(10, 1, alive=True)
    assert killed(facts(old, young, phase=Phase.RUNNING), Goal(3, go_at=0.0)) == {10}


def test_orphans_of_a_dead_torchrun_are_killed_without_a_coordinator() -> None:
    assert killed(facts(*OLD, torchrun_dead=True, coordinator_connected=False), None) == {10, 11}


def test_siblings_of_a_failed_rank_are_ended_when_no_coordinator_answers() -> None:
    dead = RankFacts(9, 1, alive=False, failed_at=100.0)
    job = facts(dead, *OLD, coordinator_connected=False)
    early = decide(job, None, 100.1)
    assert early.kills == {}
    assert early.wake_at == 100.0 + CUT_OFF_WAIT_S
    assert killed(job, None, 100.0 + CUT_OFF_WAIT_S) == {10, 11}
    assert killed(facts(dead, *OLD), None, 200.0) == set(), "the coordinator decides while it is there"


def test_cut_off_is_no_reason_to_kill_while_all_ranks_are_well() -> None:
    well = RankFacts(9, 1, alive=False)  # exit code 0
    assert killed(facts(well, *OLD, coordinator_connected=False), Goal(1), 1e9) == set()


def test_beside_another_rendezvous_backend_only_named_processes_are_killed() -> None:
    ranks = (RankFacts(10, 0, alive=True), RankFacts(11, 0, alive=True))
    dead = RankFacts(9, 0, alive=False, failed_at=1.0)
    job = facts(*ranks, dead, phase=Phase.ABSENT, coordinator_connected=False)
    assert killed(job, Goal(7, go_at=0.0)) == set()
    assert killed(job, Goal(7, go_at=0.0, stop_pids=frozenset({11, 4711}))) == {11}


def test_a_job_that_is_over_with_an_error_ends_the_ranks_that_wait_for_lost_ones() -> None:
    assert killed(facts(*OLD), Goal(1, dismissed_with=1)) == {10, 11}
    assert killed(facts(*OLD), Goal(1, dismissed_with=0)) == set()
    assert killed(facts(RankFacts(10, 2, alive=True)), Goal(1, dismissed_with=1)) == set(), "an older dismissal"


def test_the_same_question_has_the_same_answer() -> None:
    job, goal = facts(*OLD, taken_generation=2), Goal(2, go_at=100.0)
    assert decide(job, goal, 100.1) == decide(job, goal, 100.1)
