"""What the core must not lose, and which check notices if it does: a visible list, one mutation a line of `MUTATIONS`.

A mutation switches off a detector, a brake or a rule of order. `caught` says by what: a scenario whose text changes, or
a checker that some seed of a family breaks. test_mutations.py tries each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pytest

from ryzen_coordinator.core import (
    blame,
    brakes,
    conditions,
    desired,
    durable,
    ending,
    eviction,
    hang,
    hang_blame,
    health,
    health_judge,
    incidents,
    lifecycle,
    membership,
    recovery,
    rendezvous,
    reports,
    rollback,
    self_checks,
    verdicts,
)
from ryzen_coordinator.core.book import Book
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.detectors import DETECTORS, node_loss
from ryzen_coordinator.core.effects import DesiredJob, Effect, Journal, Say
from ryzen_coordinator.core.health_record import NO_HEALTH
from ryzen_coordinator.core.members import Member, Node
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.rendezvous import Candidate, Plan
from ryzen_coordinator.core.state import Cluster, Incident, Job

Patch: TypeAlias = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Scenario:
    """The scenario file of this name gives something else."""

    name: str


@dataclass(frozen=True)
class Seeds:
    """A seed of the family breaks the checker's promise, within so many of them."""

    family: str
    checker: str
    most: int = 60


@dataclass(frozen=True)
class Mutation:
    """`covers`: the detectors, and the functions of brakes.py, that it switches off."""

    name: str
    apply: Patch
    caught: Scenario | Seeds
    covers: tuple[str, ...] = ()


def _put(target: object, name: str, value: object) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(target, name, value)


def _without(detector: str) -> Patch:
    left = tuple(each for each in DETECTORS if each[0] != detector)
    return _put(recovery, "DETECTORS", left)


def _nothing(*_: object, **__: object) -> None:
    return None


# ---------------------------------------------------------------------- rules of order


def _go_at_once(cluster: Cluster, job: Job) -> None:
    if not job.go and job.generation:
        job.go = True
        cluster.job_changed(job, keep=False)


_core_effects = Core._effects


def _desires_first(core: Core) -> list[Effect]:
    effects = _core_effects(core)
    return sorted(effects, key=lambda effect: isinstance(effect, Journal))


def _unkept(cluster: Cluster, job: Job, keep: bool = True) -> None:
    cluster.stale.update(job.members)


def _in_the_order_of_arrival(slots: tuple[str, ...], candidates: list[Candidate], minimum: int, maximum: int) -> Plan:
    there = tuple(each.node for each in candidates if each.standing != "out")
    kept = tuple(name for name in slots if name in there)
    return _plan_next(tuple(reversed(kept)), candidates, minimum, maximum)


_plan_next = rendezvous.plan_next


def _any_join(job: Job, member: Member) -> bool:
    return member.seen.handler == "joining" and member.seen.store is not None


def _nobody_is_missing(slots: tuple[str, ...], candidates: list[Candidate], minimum: int, maximum: int) -> Plan:
    plan = _plan_next(slots, candidates, minimum, maximum)
    return replace(plan, missing=frozenset(), complete=len(plan.wanted) >= minimum)


def _same_number_again(cluster: Cluster, job: Job) -> None:
    job.generation = cluster.last_generation[job.key] = max(1, job.generation)


def _learns_no_number(cluster: Cluster, job: Job) -> None:
    job.generation += 1
    cluster.last_generation[job.key] = job.generation


_take_job = reports.take_job


def _as_if_never_told(cluster: Cluster, *about: Any) -> Any:
    job, member = _take_job(cluster, *about)
    cluster.last_generation[job.key] = job.generation
    return job, member


_core_tick = Core.tick
_moods: list[int] = []


def _moody(core: Core, now_s: float) -> list[Effect]:
    _moods.append(1)
    return [*_core_tick(core, now_s), Say("info", f"mood {len(_moods)}")]


# ---------------------------------------------------------------------- evidence and blame


def _no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    before = desired.desired_job

    def blind(cluster: Cluster, job: Job, node: Node) -> DesiredJob:
        return replace(before(cluster, job, node), evidence=False)

    monkeypatch.setattr(desired, "desired_job", blind)


def _judge_at_once(cluster: Cluster, job: Job) -> None:
    for incident in incidents.open_of(cluster, job):
        if incident.kind == "exit" and incident.verdict is None:
            verdicts._judge(cluster, job, incident)
            verdicts.close_if_over(cluster, job)


def _floor_of_a_second(cluster: Cluster, job: Job) -> float:
    return 1.0


# ---------------------------------------------------------------------- health


def _no(*_: object) -> bool:
    return False


def _yes(*_: object) -> bool:
    return True


def _weigh_at_once(cluster: Cluster, incident: Incident) -> bool:
    return incident.marks.get("noted", -1.0) > incident.marks.get("weighed", -1.0)


def _always_the_device(*_: object) -> health_judge.Judgement:
    return health_judge.Judgement("device", "")


def _of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    before = health_judge.condition_evicts
    monkeypatch.setattr(health_judge, "condition_evicts", lambda seen: before(replace(seen, foreign=False)))


MUTATIONS: tuple[Mutation, ...] = (
    # detectors
    Mutation("exits are not seen", _without("exits"), Seeds("single", "blame"), ("exits",)),
    Mutation("stopped ranks are not seen", _without("stall"), Seeds("single", "blame"), ("stall",)),
    Mutation("skipped collectives are not seen", _without("desync"), Seeds("skipping", "rollback"), ("desync",)),
    Mutation("replicas that differ are not seen", _without("corruption"), Scenario("corruption_spare"),
             ("corruption",)),
    Mutation("a guard's wish for a rollback is not heard", _without("divergence"), Scenario("divergence_rollback"),
             ("divergence",)),
    Mutation("silent nodes are not seen", _without("node_loss"), Seeds("single", "blame"), ("node_loss",)),
    Mutation("standing still is not looked into", _put(hang, "look", _nothing), Seeds("single", "blame")),
    Mutation("no evidence is asked for", _no_evidence, Seeds("single", "blame")),
    Mutation("a node that never takes its world is waited for", _put(membership, "world_broken", _nothing),
             Scenario("came_back_without_the_world")),
    # brakes
    Mutation("restarts are not counted", _put(brakes, "account", _nothing), Seeds("braked", "brakes"), ("account",)),
    Mutation("no reason to stop is ever found", _put(brakes, "reason_to_stop", _nothing),
             Seeds("braked", "brakes"), ("reason_to_stop",)),
    Mutation("a guard is rolled back for at one step without end", _put(brakes, "reason_not_to_roll_back", _nothing),
             Scenario("divergence_rollback"), ("reason_not_to_roll_back",)),
    Mutation("nobody is named and the job is rolled back without end",
             _put(brakes, "reason_not_to_roll_back_unnamed", _nothing), Scenario("corruption_unnamed"),
             ("reason_not_to_roll_back_unnamed",)),
    Mutation("ranks of one node after another are believed that they contradict themselves",
             _put(brakes, "reason_not_to_believe", _nothing), Scenario("corruption_itself"),
             ("reason_not_to_believe",)),
    Mutation("one difference is a device's though its arithmetic never repeated",
             _put(self_checks, "LEARNT", 0), Scenario("corruption_not_comparable")),
    Mutation("a rank is wrong as soon as two others outvote it", _put(self_checks, "OUTVOTED", 1),
             Scenario("corruption_outvoted")),
    # what must not be done
    Mutation("the others' steps do not acquit a silent node",
             _put(ProgressTable, "others_silent", lambda *_: True), Seeds("quiet", "false actions")),
    Mutation("one that moves counts as frozen", _put(hang_blame, "_frozen", lambda *_: True),
             Seeds("patient", "false actions")),
    Mutation("the floor is a second", _put(hang, "floor_s", _floor_of_a_second), Seeds("patient", "false actions")),
    Mutation("evicted nodes are not barred", _put(Node, "barred", property(lambda _: False)),
             Seeds("operated", "barred nodes")),
    Mutation("a done node is waited for", _put(Member, "left_well", lambda *_: False),
             Scenario("done_node_is_not_blamed")),
    Mutation("a coordinator that slept blames the nodes", _put(Core, "_forgive_own_sleep", _nothing),
             Scenario("coordinator_slept")),
    # health
    Mutation("a dead device does not evict", _put(health_judge, "EVICTING", frozenset()), Seeds("sick", "sick nodes")),
    Mutation("a lost device does not evict", _put(health_judge, "condition_evicts", _no), Seeds("sick", "sick nodes")),
    Mutation("one Xid of the application evicts", _put(health_judge, "whose", _always_the_device),
             Seeds("sick", "applications")),
    Mutation("nodes are evicted without end", _put(brakes, "reason_to_keep", _nothing), Scenario("xid_brake"),
             ("reason_to_keep",)),
    Mutation("a fault of several nodes is not the application's", _put(health_judge, "_shown_together", _no),
             Scenario("xid_31_two_nodes")),
    Mutation("a shared fault counts as the first of two", _put(health_judge, "_shared", _no),
             Scenario("xid_31_two_nodes")),
    Mutation("a fault that moves with the job is the device's", _put(health_judge, "_where_it_was", _nothing),
             Scenario("xid_31_follows_the_job")),
    Mutation("the part of the GPU does not count", _put(health_judge, "ILLEGAL_INSTRUCTION", 0),
             Scenario("xid_13_places")),
    Mutation("the second node's line is not waited for", _put(health, "_is_due", _weigh_at_once),
             Scenario("xid_31_twice_then_two_nodes")),
    Mutation("the world does not wait for that", _put(membership, "_is_held", _no), Scenario("xid_31_twice")),
    Mutation("exits are judged before the Xid of theirs", _put(verdicts, "_is_left_to_weighing", _no),
             Scenario("exit_then_xid_31")),
    Mutation("an Xid is an incident of its own", _put(eviction, "joinable", _nothing), Scenario("exit_then_xid_79")),
    Mutation("an Xid joins whatever is open", _put(blame, "culprits", lambda _: []),
             Scenario("xid_elsewhere_at_once")),
    Mutation("what our own kill causes counts", _put(health, "_concerns_us", _yes), Scenario("xid_45_ours")),
    Mutation("an event that is told again is another one", _put(health, "_is_new", _yes), Scenario("xid_79_spare")),
    Mutation("the driver's recovery is not heard", _put(health_judge, "recovers", _no), Scenario("xid_154_none")),
    Mutation("Xids are forgotten with the coordinator", _put(durable, "_health", lambda _: NO_HEALTH),
             Scenario("xid_after_a_restart")),
    Mutation("somebody else's broken device evicts", _of_nobody, Scenario("condition_advice")),
    Mutation("what nodes share is not seen", _put(conditions, "_look_for_what_is_shared", lambda *_: {}),
             Scenario("condition_rack")),
    Mutation("what was pardoned evicts again", _put(conditions, "_pardoned", lambda *_: frozenset()),
             Scenario("condition_critical")),
    Mutation("the kernel's word on memory is not heeded", _put(verdicts, "_explained", lambda _, failure: failure),
             Scenario("oom_in_the_kernel_log")),
    Mutation("a node that was kept in is not to blame", _put(verdicts, "_of_the_node", lambda *about: about[-1]),
             Scenario("xid_brake")),
    # order
    Mutation("go comes with the announcement", _put(membership, "give_go", _go_at_once),
             Seeds("recovery", "two phases")),
    Mutation("desires come before their records", _put(Core, "_effects", _desires_first),
             Seeds("recovery", "journal first")),
    Mutation("decisions about jobs are not kept", _put(Cluster, "job_changed", _unkept),
             Seeds("recovery", "journal first")),
    Mutation("slots are not kept", _put(rendezvous, "plan_next", _in_the_order_of_arrival),
             Seeds("spare", "slots")),
    Mutation("a join may answer two worlds", _put(membership, "_waits_usably", _any_join),
             Scenario("join_used_again")),
    Mutation("a world is formed before all have come", _put(rendezvous, "plan_next", _nobody_is_missing),
             Scenario("killed_rank")),
    Mutation("a number is used twice", _put(membership, "next_number", _same_number_again),
             Seeds("spare", "generations")),
    Mutation("what the nodes know of numbers is not heeded", _put(reports, "take_job", _as_if_never_told),
             Scenario("job_end")),
    Mutation("the same input gives another output", _put(Core, "tick", _moody), Seeds("quiet", "replay")),
    Mutation("no world is formed after the first", _put(membership, "replan", _nothing), Seeds("single", "stalls")),
    # blame
    Mutation("exits are judged before the others have spoken", _put(verdicts, "judge_exits", _judge_at_once),
             Scenario("two_at_once")),
    Mutation("a consequence counts as a cause", _put(blame, "is_collective", lambda _: False),
             Seeds("single", "blame")),
    Mutation("of equals all are to blame", _put(blame, "culprits", lambda failures: failures),
             Seeds("mixed", "innocents")),
    Mutation("every checkpoint is good", _put(rollback, "resume_at_most", _nothing), Seeds("skipping", "rollback")),
    # time
    Mutation("steps that are done again are not lost", _put(Book, "resume", lambda *_: 0.0),
             Seeds("hung", "accounting")),
    Mutation("a stall that was none counts as one", _put(Book, "give_back", lambda *_: 0.0),
             Seeds("patient", "accounting")),
    # ends
    Mutation("a job that was given up ends with 0", _put(ending, "DO_NOT_REQUEUE", 0), Seeds("braked", "endings")),
    Mutation("a job's end is not seen", _put(lifecycle, "_watch_end", _nothing), Scenario("job_end")),
    Mutation("a step acquits sooner than it may", _put(node_loss, "STEPS_THAT_ACQUIT", 0),
             Scenario("silent_agent")),
)  # fmt: skip
