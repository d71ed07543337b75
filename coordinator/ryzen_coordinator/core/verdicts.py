"""The verdict on an exit, once its evidence has been collected, and on nodes that are lost.

somebody is guilty and their node still speaks      that rank
nobody is, or the guilty may have followed another  wait for the nodes that have not spoken, up to the lease:
    they speak                                      with what they say
    they do not                                     node_lost
nobody is and all have spoken                       a torchrun that is gone, else unknown: nobody is named
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ryzen_coordinator.core import blame, ending, health_judge, incidents, membership, policy, rollback
from ryzen_coordinator.core.blame import Failure, Verdict
from ryzen_coordinator.core.detectors import exits
from ryzen_coordinator.core.evidence import Finding
from ryzen_coordinator.core.health_record import NEAR_S, Burst
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.phases import OVER, RECOVERING
from ryzen_coordinator.core.state import Cluster, Incident, Job
from ryzen_coordinator.core.words import few

_AT_THE_END = "other nodes had ended already: the job ends"


def collect(cluster: Cluster, job: Job, member: Member) -> None:
    """Ends of ranks that belong to an incident still without a verdict."""
    for incident in incidents.open_of(cluster, job):
        if incident.kind == "exit" and incident.verdict is None and member.node in incident.nodes:
            take_failures(cluster, incident, member)


def take_failures(cluster: Cluster, incident: Incident, member: Member) -> None:
    changed = False
    for failure in exits.failures_of(incident.generation, member, cluster.now_s):
        changed |= incidents.add_failure(incident, failure)
    if changed:
        cluster.incident_changed(incident)


def judge_exits(cluster: Cluster, job: Job) -> None:
    """Decide on every exit that has been collected for long enough."""
    for incident in incidents.open_of(cluster, job):
        collected = cluster.now_s - incident.marks["suspected"] >= cluster.settings.collect_s
        if incident.kind == "exit" and incident.verdict is None and collected and not _is_left_to_weighing(incident):
            _judge(cluster, job, incident)
            close_if_over(cluster, job)


def _is_left_to_weighing(incident: Incident) -> bool:
    """Whose fault the Xid is will be settled before the exits are judged."""
    return incidents.awaits_weighing(incident)


def close_if_over(cluster: Cluster, job: Job) -> None:
    """A verdict that came after the recovery was over, or with the job's end, closes its incident."""
    if job.phase not in RECOVERING and job.phase != "restoring":
        words = f"the job is over: {job.note}" if job.phase in OVER else "decided after the recovery was over"
        incidents.close_all(cluster, job, words)


def decide_node_loss(cluster: Cluster, job: Job, incident: Incident, verdict: Verdict) -> None:
    """`verdict` names the nodes; what is done about them follows from the world to come."""
    for node in verdict.nodes:
        incidents.close_network(cluster, job.members[node], "the node is lost")
    stop = _AT_THE_END if job.phase == "ending" else job.note if job.phase in OVER else None
    if stop is None and job.phase in RECOVERING:
        membership.replan(cluster, job)
    if job.watched:
        incidents.decide(cluster, incident, policy.watch_only(verdict))
    elif stop is not None or job.plan is None:
        incidents.decide(cluster, incident, policy.for_exit(verdict, stop))
    else:
        world, minimum = incident.nodes, job.shape.min_nodes
        incidents.decide(cluster, incident, policy.for_node_loss(verdict, world, job.plan, minimum))
    close_if_over(cluster, job)


def note_dropped(cluster: Cluster, job: Job) -> None:
    """Survivors that were waited for are out of the plan now: a fault of their own, on the same recovery.

    All that have fallen silent are one incident: where a rack or a switch goes, the on-call reads one line.
    """
    plan = job.plan
    if plan is None or job.world is None or job.formed or job.phase not in RECOVERING:
        return
    open_now = incidents.open_of(cluster, job)
    if any(incident.verdict is None for incident in open_now):
        return
    named = {node for incident in open_now if incident.verdict for node in incident.verdict.nodes}
    lost = []
    for node in sorted(set(job.world.nodes).difference(plan.wanted, named)):
        member = job.members[node]
        if member.dropped == job.generation:
            continue
        member.dropped = job.generation
        known = cluster.nodes[node]
        if cluster.silent(member) and not (member.torchrun_gone or known.barred or known.said_goodbye):
            lost.append(member)
        else:
            reason = membership.candidate(cluster, job, member).reason
            cluster.say("warning", f"{job.run_id}: goes on without {node}: {reason}", job=job.run_id)
            for incident in open_now:
                incident.tell(cluster.now_s, f"{node} is left out: {reason}")
                cluster.incident_changed(incident)
    if lost:
        _lost_in_recovery(cluster, job, lost)


def _lost_in_recovery(cluster: Cluster, job: Job, members: list[Member]) -> None:
    nodes = tuple(sorted(member.node for member in members))
    words = f"{few(nodes)} fell silent while the job was recovering"
    incident = incidents.open_incident(cluster, job, "node_loss", max(m.heard_s for m in members), (words,))
    job.open.append(incident.id)
    incidents.share_marks(cluster, job, incident)
    decide_node_loss(cluster, job, incident, Verdict("node_lost", nodes=nodes, reason=words))


def _judge(cluster: Cluster, job: Job, incident: Incident) -> None:
    failures = [_explained(cluster, failure) for failure in incident.failures.values()]
    guilty = blame.culprits(failures)
    unheard = [member for member in _struck(job, incident) if not _has_spoken(cluster, incident, member)]
    doubted = [m for m in unheard if not guilty or any(blame.may_follow(f) or _may_be_the_node(f, m) for f in guilty)]
    if any(not cluster.silent(member) for member in doubted):
        return  # within the lease it may still speak; the next look decides
    incident.evidence = _evidence(cluster, incident, failures)
    if doubted:
        _judge_lost(cluster, job, incident, doubted, failures)
    else:
        _judge_failures(cluster, job, incident, failures)
    if job.phase == "ending" and incident.verdict is not None:
        ending.finish(cluster, job, "failed", 1, f"failed at its end: {incident.verdict.reason}")


def _judge_lost(cluster: Cluster, job: Job, incident: Incident, doubted: list[Member], failures: list[Failure]) -> None:
    lost = tuple(sorted(member.node for member in doubted))
    heard_s = max(member.heard_s for member in doubted)
    peers = sorted({failure.rank for failure in failures if failure.node not in lost})
    told = f"; ranks {few(peers)} of other nodes lost their peers" if peers else ""
    words = f"{few(lost)} silent for {cluster.now_s - heard_s:.1f} s{told}"
    incident.marks["fault"] = min(incident.marks["fault"], heard_s)
    decide_node_loss(cluster, job, incident, Verdict("node_lost", nodes=lost, reason=words))


def _judge_failures(cluster: Cluster, job: Job, incident: Incident, failures: list[Failure]) -> None:
    verdict = blame.judge_exit(failures)
    gone = None
    unread = all(failure.exit_code is None and not failure.error_type for failure in blame.culprits(failures))
    if verdict.fault_class == "unknown" or unread:
        gone = _torchrun_to_blame(job, incident)
    apart = desync_of(job, incident, failures)
    if apart is not None and not job.watched and job.phase not in OVER and job.phase != "ending":
        _decide_desync(cluster, job, incident, apart)
        return
    by_hand = any(not failure.error_type for failure in blame.culprits(failures))
    own_fault = None if by_hand else blame.shared_exception(failures)
    over = _AT_THE_END if job.phase == "ending" else job.note if job.phase in OVER else None
    if job.watched:
        incidents.decide(cluster, incident, policy.watch_only(gone or verdict))
        return
    if gone is not None and over is None:
        decide_node_loss(cluster, job, incident, gone)
        return
    decided = _of_the_node(cluster, incident, gone or verdict)
    incidents.decide(cluster, incident, policy.for_exit(decided, over or own_fault))
    if own_fault is not None and over is None:
        ending.give_up(cluster, job, f"the job's own fault: {own_fault}")


def desync_of(job: Job, incident: Incident, failures: list[Failure]) -> Finding | None:
    """The ranks had fallen out of step, and the failures are what came of it; None where nothing says so."""
    if not blame.only_consequences(failures) or not failures:
        return None
    same = job.marks.generation == incident.generation
    apart = (job.marks.confirmed or job.marks.suspected) if same else None
    if apart is not None and apart.ranks:
        return Finding("mismatch", apart.ranks, apart.words(), proof=True, desync=True)
    done = _ahead(job, incident, failures)
    if done:
        words = f"rank {few(done)} had done all steps and left while the others still waited for it"
        return Finding("finished first", done if len(done) <= len(failures) else (), words, desync=True)
    if any(blame.is_mismatch(failure) for failure in failures):
        words = "; ".join(failure.words() for failure in failures if blame.is_mismatch(failure))
        return Finding("mismatch", (), words, desync=True)
    return None


def _ahead(job: Job, incident: Incident, failures: list[Failure]) -> tuple[int, ...]:
    """Ranks that have exited 0 with more steps done than any that failed: at a proper end all have done as many."""
    done = {
        rank: progress.steps_done
        for member in _members(job, incident)
        for rank, progress in member.rows()
        if rank.generation == incident.generation and progress is not None
    }
    failed = {failure.rank for failure in failures}
    most = max((steps for rank, steps in done.items() if rank.rank in failed), default=None)
    if most is None:
        return ()
    left = [rank for rank in done if rank.life == "exited" and rank.exit_code == 0 and rank.rank not in failed]
    return tuple(sorted(rank.rank for rank in left if done[rank] > most))


def _decide_desync(cluster: Cluster, job: Job, incident: Incident, apart: Finding) -> None:
    """The next world is announced already; it must not resume from what was saved since."""
    clean = rollback.clean_step(job)
    if clean is not None:
        rollback.taint(job, clean)
        incident.resume_at_most = rollback.resume_at_most(job)
        cluster.job_changed(job)
    nodes = tuple(sorted({job.table.node_of(rank) for rank in apart.ranks}))
    verdict = Verdict(
        "desync", apart.ranks, nodes, reason=apart.words, confidence="likely" if apart.ranks else "unknown"
    )
    incidents.decide(cluster, incident, policy.for_desync(verdict, clean, None))


def _members(job: Job, incident: Incident) -> list[Member]:
    return [job.members[node] for node in incident.nodes if node in job.members]


def _struck(job: Job, incident: Incident) -> list[Member]:
    """The world that was struck, without the nodes that are done: they may leave as they like."""
    return [member for member in _members(job, incident) if not member.left_well(incident.generation)]


def _has_spoken(cluster: Cluster, incident: Incident, member: Member) -> bool:
    return cluster.nodes[member.node].connected and member.heard_s >= incident.marks["suspected"]


def _may_be_the_node(failure: Failure, member: Member) -> bool:
    """A rank that was killed, on a node that has gone quiet since: the node may have died with it."""
    return failure.node == member.node and not failure.error_type and failure.exit_code in {None, -9}


def _near(cluster: Cluster, incident: Incident, nodes: Iterable[str]) -> list[Burst]:
    """What the kernel logs of these nodes said at about the time of the fault."""
    fault_unix_s = incident.marks["fault"] + cluster.unix_offset_s
    said = [burst for name in sorted(set(nodes)) for burst in cluster.nodes[name].health.bursts]
    return [burst for burst in said if abs(burst.last_unix_s - fault_unix_s) <= NEAR_S]


def _explained(cluster: Cluster, failure: Failure) -> Failure:
    """A SIGKILL of which the kernel log says that it was for want of memory."""
    if failure.exit_code != -9 or failure.killed_by_agent or failure.oom_killed:
        return failure
    ended_unix_s = failure.ended_s + cluster.unix_offset_s
    oom = any(
        burst.kind == "oom" and failure.rank in burst.ranks and abs(burst.last_unix_s - ended_unix_s) <= NEAR_S
        for burst in cluster.nodes[failure.node].health.bursts
    )
    return replace(failure, oom_killed=True) if oom else failure


def _of_the_node(cluster: Cluster, incident: Incident, verdict: Verdict) -> Verdict:
    """A rank that ended with its device is not to blame; the node, which a mode or a brake has kept in, is."""
    broken = [burst for burst in _near(cluster, incident, verdict.nodes) if burst.action in health_judge.EVICTING]
    if not broken:
        return verdict
    return replace(verdict, fault_class="hardware", reason=f"{broken[-1].words()}; {verdict.reason}")


def _evidence(cluster: Cluster, incident: Incident, failures: list[Failure]) -> list[str]:
    ordered = sorted(failures, key=lambda failure: (failure.ended_s, failure.rank))
    words = [f"{f.words()} ({f.ended_s - incident.marks['fault']:+.3f} s)" for f in ordered]
    said = [*incident.bursts, *_near(cluster, incident, (failure.node for failure in failures))]
    words += list(dict.fromkeys(burst.words() for burst in said))
    return words or incident.evidence


def _torchrun_to_blame(job: Job, incident: Incident) -> Verdict | None:
    """No rank can be the cause, but some torchruns are gone or new: those nodes are."""
    words = {}
    for member in _struck(job, incident):
        code = member.seen.torchrun_exit_code
        if member.torchrun_gone and code != 0:
            ended = blame.ending_words(code) if code is not None else "ended"
            words[member.node] = f"torchrun of {member.node}: {ended}"
        elif _is_another_torchrun(incident, member):
            words[member.node] = f"torchrun of {member.node} was started anew"
    if not words or len(words) == len(incident.nodes) > 1:
        return None
    return Verdict("exit", nodes=tuple(sorted(words)), reason="; ".join(words.values()), confidence="likely")


def _is_another_torchrun(incident: Incident, member: Member) -> bool:
    """By its pid; in a container, where that is always the same, by having forgotten the world that it took."""
    seen = member.seen
    if seen.handler != "joining":
        return False
    before = incident.torchruns.get(member.node, seen.torchrun_pid)
    return before != seen.torchrun_pid or (member.took == incident.generation and seen.generation < incident.generation)
