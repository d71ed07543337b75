"""PURE: which processes must be killed now, from what is seen and what is desired. Time is an argument.

What the coordinator desires is a level: ranks of a generation below the desired one must end. torchrun would
take up to 30 s (SIGTERM, wait, SIGKILL) and stops nothing while it waits, so the agent ends them, in an order
that costs no healthy torchrun one of its restarts:

    1. the announcement (generation g) is with the handler; nothing is killed yet
    2. the coordinator says go; the handler answers torchrun's poll
    3. torchrun has taken it (or waits in next_rendezvous, or 0.3 s have passed): kill

A node where a rank of the old generation has failed skips to 3: its torchrun is already stopping the others
and never polls again. A rank that stamped an exception gets a moment to print its traceback.

Without an announcement only these are killed: ranks whose torchrun is dead (orphans), siblings of a failed
rank while the coordinator cannot be reached (torchrun stops them anyway, only 30 s later), and processes that
the coordinator names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

TAKE_WAIT_S = 0.3
"""From go to the kill where torchrun does not poll. Lower: kills before torchrun knows, a restart is spent.
Higher: a torchrun that is stuck delays the restart."""

LAST_WORDS_S = 0.05
"""For a rank with a stamped exception to print its traceback before it is killed."""

CUT_OFF_WAIT_S = 0.5
"""From a local failure to ending its siblings on our own when no coordinator can be reached."""


class Phase(IntEnum):
    """ObservedJob.Handler."""

    UNKNOWN = 0
    ABSENT = 1
    JOINING = 2
    RUNNING = 3
    CLOSED = 4


@dataclass(frozen=True, slots=True)
class RankFacts:
    """One process. `failed_at`: when it ended other than by exit 0 or by us; `stamped_at`: of its exception."""

    pid: int
    generation: int
    alive: bool
    failed_at: float | None = None
    stamped_at: float | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What the coordinator desires of this job here. `go_at`: when go for `generation` arrived."""

    generation: int
    go_at: float | None = None
    dismissed_with: int | None = None
    stop_pids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class JobFacts:
    ranks: tuple[RankFacts, ...]
    phase: Phase
    taken_generation: int = 0
    torchrun_dead: bool = False
    coordinator_connected: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """Pids to kill with the reason in words, and when to decide again though nothing changes."""

    kills: dict[int, str]
    wake_at: float | None = None


NOTHING = Decision({})


def decide(facts: JobFacts, goal: Goal | None, now: float) -> Decision:
    """All that must be killed now. Asking again with the same facts gives the same answer: a level."""
    alive = [rank for rank in facts.ranks if rank.alive]
    if not alive:
        return NOTHING
    if facts.torchrun_dead:
        return Decision({rank.pid: "its torchrun is dead" for rank in alive})
    decisions = [_cut_off(facts, alive, now)]
    if goal is not None:
        decisions += [_stop_named(alive, goal), _dismissed(alive, goal), _old_generation(facts, alive, goal, now)]
    return _merged(decisions)


def is_old(rank: RankFacts, goal: Goal) -> bool:
    """Ranks of a torchrun without our handler have generation 0: membership is not ours, so they are never old."""
    return 0 < rank.generation < goal.generation


def _old_generation(facts: JobFacts, alive: list[RankFacts], goal: Goal, now: float) -> Decision:
    old = [rank for rank in alive if is_old(rank, goal)]
    if not old:
        return NOTHING
    reason = f"generation {goal.generation} is announced"
    if any(is_old(rank, goal) and _has_failed(rank) for rank in facts.ranks):
        return _after_last_words(old, f"{reason} and a rank of this node has failed", now)
    if facts.phase == Phase.JOINING:
        return _kill(old, f"{reason} and torchrun has stopped its ranks")
    if goal.go_at is None:
        return NOTHING
    if facts.taken_generation >= goal.generation:
        return _kill(old, f"{reason} and torchrun knows")
    if now >= goal.go_at + TAKE_WAIT_S:
        return _kill(old, f"{reason}, torchrun did not ask for {TAKE_WAIT_S} s")
    return Decision({}, wake_at=goal.go_at + TAKE_WAIT_S)


def _after_last_words(old: list[RankFacts], reason: str, now: float) -> Decision:
    speaking = [rank for rank in old if rank.stamped_at is not None and now < rank.stamped_at + LAST_WORDS_S]
    ends = [rank.stamped_at + LAST_WORDS_S for rank in speaking if rank.stamped_at is not None]
    return Decision(
        {rank.pid: reason for rank in old if rank not in speaking},
        wake_at=min(ends, default=None),
    )


def _dismissed(alive: list[RankFacts], goal: Goal) -> Decision:
    """The job is over with an error while ranks still run: a world that misses a node never ends by itself."""
    if not goal.dismissed_with:
        return NOTHING
    over = [rank for rank in alive if 0 < rank.generation <= goal.generation]
    return _kill(over, f"the job is over (exit code {goal.dismissed_with})")


def _stop_named(alive: list[RankFacts], goal: Goal) -> Decision:
    return _kill([rank for rank in alive if rank.pid in goal.stop_pids], "the coordinator names it as the culprit")


def _cut_off(facts: JobFacts, alive: list[RankFacts], now: float) -> Decision:
    if facts.coordinator_connected or facts.phase not in (Phase.RUNNING, Phase.JOINING):
        return NOTHING
    failures = [(rank.failed_at, rank.generation) for rank in facts.ranks if rank.failed_at is not None]
    kills: dict[int, str] = {}
    wakes = []
    for failed_at, generation in failures:
        siblings = [rank for rank in alive if rank.generation == generation > 0]
        if not siblings:
            continue
        if now >= failed_at + CUT_OFF_WAIT_S:
            kills |= {rank.pid: "a rank of this node has failed, no coordinator answers" for rank in siblings}
        else:
            wakes.append(failed_at + CUT_OFF_WAIT_S)
    return Decision(kills, wake_at=min(wakes, default=None))


def _has_failed(rank: RankFacts) -> bool:
    return rank.failed_at is not None or rank.stamped_at is not None


def _kill(ranks: Iterable[RankFacts], reason: str) -> Decision:
    return Decision({rank.pid: reason for rank in ranks})


def _merged(decisions: list[Decision]) -> Decision:
    kills: dict[int, str] = {}
    for each in decisions:
        kills = {**each.kills, **kills}
    wakes = [each.wake_at for each in decisions if each.wake_at is not None]
    return Decision(kills, min(wakes, default=None))
