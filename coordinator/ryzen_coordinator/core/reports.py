"""Taking in what a node reports: who it is, which jobs it sees, how their ranks fare.

Everything is a level, so a report is taken in by replacing what was known; what it does not repeat (`JobNews`)
stands as it was. A job or a world that nobody here
remembers (a lost journal) but that runs out there is adopted as it is: never hurt a healthy run.
"""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core import ending, incidents, rollback, shards, watched
from ryzen_coordinator.core.events import (
    Beats,
    Hello,
    JobKey,
    JobNews,
    JobSeen,
    NodeGone,
    NodeReport,
    RankSeen,
    SelfCheckSeen,
)
from ryzen_coordinator.core.gaps import END
from ryzen_coordinator.core.members import Member, Node
from ryzen_coordinator.core.phases import JOB_PHASES, OVER, can
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.state import Cluster, Job, World
from ryzen_coordinator.core.words import few


def attach(cluster: Cluster, report: NodeReport) -> Node | None:
    """The node that reports, with its stream brought up to date; None for a report of a stream that is over."""
    node = cluster.nodes.get(report.node)
    if node is None:
        node = Node(report.node, report.hello or Hello(report.node), heard_s=cluster.now_s)
        cluster.nodes[report.node] = node
    if report.hello is not None and report.stream > node.stream:  # a repeated hello is as old as it was
        node.hello = report.hello
        node.stream = report.stream
        node.seq = -1
        node.connected = True
        node.met_s = cluster.now_s
        node.said_goodbye = False
        node.sent = None
        cluster.stale.add(node.name)
        _greet(cluster, node)
    if report.stream != node.stream or report.seq <= node.seq:
        return None
    node.seq = report.seq
    node.heard_s = cluster.now_s
    node.clock_offset_s = report.clock_offset_s
    cluster.backlog.note(node.name, node.promptness.late_s(report.clock_offset_s, cluster.now_s))
    if node.phase == "suspect":
        cluster.node_moves(node, "returned")
    return node


def _greet(cluster: Cluster, node: Node) -> None:
    if node.phase == "retired":
        cluster.node_moves(node, "returned")
    if node.phase == "joining":
        cluster.node_moves(node, "attached")
    cluster.say("info", f"{node.name} is connected ({node.hello.host} {node.hello.address})", node=node.name)


def gone(cluster: Cluster, event: NodeGone) -> None:
    """A stream has ended. Silence counts from the last report; what it means is the detectors' to say."""
    node = cluster.nodes.get(event.node)
    if node is None or node.stream != event.stream:
        return
    node.connected = False
    node.said_goodbye = event.goodbye
    if event.goodbye:
        note_left(cluster, node, set())
    cluster.say("info", f"{node.name} is disconnected{': ' + event.reason if event.reason else ''}", node=node.name)


def note_silences(cluster: Cluster, job: Job) -> None:
    """Remember how far the others were when a node's lease ran out: further steps will acquit it.

    Not at the moment when its stream broke: what we knew of the others then was up to a second old.
    """
    for member in cluster.silent_members(job) if job.formed else ():
        if member.silence_step is None:
            member.silence_step = job.table.others_step(member.node)


def take_job(cluster: Cluster, node: Node, told: JobSeen | JobNews, answered: int) -> tuple[Job, Member] | None:
    """Take in one job of a report. None where the news refer to what is not known here: it is told whole again soon."""
    found = _take_whole(cluster, node, told) if isinstance(told, JobSeen) else _as_known(cluster, node, told)
    if found is None:
        return None
    job, member = found
    member.beats = told.beats
    member.pace = told.pace or member.pace
    member.batches = told.batches or member.batches
    member.heard_s = cluster.now_s
    member.answered = max(member.answered, answered)
    member.silence_step = None
    incidents.close_network(cluster, member, f"{node.name} is back")
    if member.as_of is not None:  # its handler runs
        member.handler_s = cluster.now_s
    _take_figures(cluster, job, member.seen, told)
    if job.watched:
        watched.take(cluster, job, member)
    else:
        _adopt(cluster, job, member)
    _take_ranks(cluster, job, member, told)
    return job, member


def _as_known(cluster: Cluster, node: Node, news: JobNews) -> tuple[Job, Member] | None:
    job = cluster.jobs.get(news.key)
    member = job.members.get(node.name) if job is not None else None
    if job is None or member is None or member.as_of != (node.stream, news.as_of):
        return None
    return (job, member) if len(news.beats.section) in {0, len(member.seen.ranks)} else None


def _take_whole(cluster: Cluster, node: Node, seen: JobSeen) -> tuple[Job, Member]:
    """Handler, torchrun and ranks of a job."""
    job = _job_for(cluster, node, seen)
    member = job.members.get(node.name)
    if member is None:
        member = Member(node.name, seen, cluster.now_s, cluster.now_s)
        job.members[node.name] = member
        cluster.stale.add(node.name)
    # A handler that is absent for long must be seen to be: later reports do not refer to it.
    member.as_of = (node.stream, node.seq) if seen.handler == "running" else None
    changed_handler = member.seen.handler != seen.handler or member.seen.join != seen.join
    if seen.handler == "absent" and member.seen.handler != "absent":
        # The handler has lost its way to the agent for a moment. What it said last still holds.
        seen = _with_handler_of(member.seen, seen)
    member.seen = seen
    if seen.stacks:
        member.stacks = dict(seen.stacks)
    if seen.groups:
        member.groups = dict(seen.groups)
    if member.torchrun_gone:
        job.unended.pop(node.name, None)
    if seen.handler != "absent":
        member.handler_s = cluster.now_s
        member.took = max(member.took, seen.generation) if seen.handler == "running" else member.took
        if job.watched:  # an agent that had just come back did not know the shape yet
            job.shape = seen.shape
        job.watched = False
        known = cluster.last_generation.get(job.key, 0)
        cluster.last_generation[job.key] = max(known, seen.generation, seen.seen_generation)
    if changed_handler:
        cluster.stale.add(node.name)
    if changed_handler or seen.handler == "joining":
        _note_ready(cluster, job, member)
    return job, member


def _job_for(cluster: Cluster, node: Node, seen: JobSeen) -> Job:
    job = cluster.jobs.get(seen.key)
    if job is not None and not _is_another_run(cluster, job, node, seen):
        return job
    job = Job(seen.user, seen.run_id, seen.shape, cluster.now_s, watched=seen.handler == "absent")
    cluster.jobs[seen.key] = job
    if seen.run_id == "none" and seen.shape.max_nodes > 1:
        job.members[node.name] = Member(node.name, seen, cluster.now_s, cluster.now_s)
        ending.refuse(
            cluster, job, 2, 'rendezvous id "none" is torchrun\'s default and names no job: give --rdzv-id=NAME'
        )
    cluster.say("info", f"{seen.run_id}: new job of {seen.user or 'an unknown user'}", job=seen.run_id)
    cluster.job_changed(job)
    return job


def _is_another_run(cluster: Cluster, job: Job, node: Node, seen: JobSeen) -> bool:
    """The job of that name is over, and this is a torchrun that has nothing to do with it.

    A node that died about the job's end and is back soon after came back to this job, not to begin another one.
    """
    fresh = seen.handler in {"joining", "running"} and seen.generation == 0  # "running" until its first join
    if job.phase not in OVER or not fresh:
        return False
    left = job.unended.get(node.name)
    if left is None:
        return True
    if cluster.now_s - job.over_s < cluster.settings.late_return_s:
        return False
    # In a container torchrun's pid is always the same; one that had a world does not forget it.
    return left.torchrun_pid != seen.torchrun_pid or job.members[node.name].took > 0


def note_left(cluster: Cluster, node: Node, reported: set[JobKey]) -> None:
    """Jobs that are over and that the agent does not see any more: their torchrun has left."""
    for key, job in cluster.jobs.items():
        left = job.unended.get(node.name)
        if left is not None and key not in reported and left.stream == node.stream:
            del job.unended[node.name]


def _with_handler_of(before: JobSeen, now: JobSeen) -> JobSeen:
    return replace(
        now,
        handler=before.handler if now.torchrun_exit_code is None else "closed",
        generation=before.generation,
        seen_generation=before.seen_generation,
        join_id=before.join_id,
        store=None,
        shape=before.shape,
        torchrun_pid=before.torchrun_pid,
    )


def _note_ready(cluster: Cluster, job: Job, member: Member) -> None:
    """Since when, and since which checkpoint, the node waits for a world."""
    seen = member.seen
    waits = seen.handler == "joining" and seen.store is not None and seen.join != member.used
    if not waits:
        member.ready_s = None
    elif member.ready_s is None:
        member.ready_s = cluster.now_s
        member.ready_checkpoint = job.checkpoint_step


def _take_figures(cluster: Cluster, job: Job, seen: JobSeen, told: JobSeen | JobNews) -> None:
    if told.gaps and job.gaps.learn(told.gaps, cluster.settings, cluster.now_s):
        cluster.durable[("job", job.record)] = None
    if told.skipped or seen.rollback_wanted is not None:
        _take_skips(cluster, job, seen, told.skipped)
    if told.checkpoint_step is not None and rollback.take_checkpoint(job, told.checkpoint_step, seen.ranks):
        cluster.durable[("job", job.record)] = None


def _take_skips(cluster: Cluster, job: Job, seen: JobSeen, skipped: tuple[tuple[int, bool], ...]) -> None:
    """What the gradient guards say. Each skipped step is told of once, by whichever node reports it first."""
    generation = max((rank.generation for rank in seen.ranks), default=0)
    if generation != job.generation:
        return
    for step, nonfinite in skipped:
        if (generation, step) > job.skip_told:
            job.skip_told = (generation, step)
            why = "a gradient is not finite" if nonfinite else "the gradient norm is a spike"
            cluster.say("warning", f"{job.run_id}: step {step} is skipped by the gradient guard: {why}", job=job.run_id)
    if seen.rollback_wanted is not None:
        job.rollback_wanted = (generation, seen.rollback_wanted)


def _take_ranks(cluster: Cluster, job: Job, member: Member, told: JobSeen | JobNews) -> None:
    if not job.formed or job.world is None or member.node not in job.world:
        return
    seen, generation = member.seen, job.table.generation
    job.table.observe(member.node, seen.ranks, told.beats, cluster.now_s)
    if member.batches is not None and member.batches.generation <= generation:
        shards.note(cluster, job, member.batches)
        member.batches = None
    if job.marks.generation == generation and not job.marks.off:
        known = job.marks.even_step is not None
        _take_marks(job, seen.ranks, told.beats)
        if not known and job.marks.even_step is not None:
            cluster.durable[("job", job.record)] = None
    for places, group, checks in told.checks:
        fresh = [seen.ranks[place].rank for place in places if seen.ranks[place].generation == job.replicas.generation]
        job.replicas.observe(fresh, group, checks)
    if told.self_checks:
        _take_self_checks(cluster, job, seen.ranks, told.self_checks)
    if not job.sends_progress:
        job.sends_progress = any(rank.attached for rank in seen.ranks if rank.generation == generation)


def _take_self_checks(cluster: Cluster, job: Job, ranks: tuple[RankSeen, ...], told: tuple[SelfCheckSeen, ...]) -> None:
    """What ranks found comparing their arithmetic with their own."""
    checks = job.self_checks
    for places, standing in told:
        checks.observe([ranks[each].rank for each in places if ranks[each].generation == checks.generation], standing)
    if checks.golden_is_new:
        checks.golden_is_new = False
        cluster.durable[("job", job.record)] = None
    for words in checks.news:
        cluster.say("warning", f"{job.run_id}: {words}", job=job.run_id)
    checks.news.clear()


def _take_marks(job: Job, processes: tuple[RankSeen, ...], beats: Beats) -> None:
    """Ranks after their last step are left out: what they do there is not a step's."""
    sections, section, step, _, _, steps_done, all_marks = beats
    ends, generation = END in sections, job.marks.generation
    for places, marks in all_marks:
        by_offset: dict[int, list[int]] = {}
        for place in places:
            number, rank = section[place], processes[place]
            if number and not (ends and sections[number - 1] == END) and rank.generation == generation:
                by_offset.setdefault(step[place] - steps_done[place], []).append(rank.rank)
        for offset, ranks in by_offset.items():
            job.marks.observe(ranks, marks, offset)


def _adopt(cluster: Cluster, job: Job, member: Member) -> None:
    """A world that runs out there and is newer than what we know, or one more node of one that was adopted."""
    seen, world = member.seen, job.world
    if seen.handler != "running" or seen.generation == 0 or job.phase in OVER:
        return
    # A node that slept through the end of an earlier run of that name brings that run's number.
    known = cluster.last_generation.get(job.key, 0)
    newer = seen.generation > job.generation and max(seen.generation, seen.seen_generation) >= known
    another = (
        world is not None
        and world.store is None
        and world.generation == seen.generation == job.generation
        and member.node not in world
    )
    if not (newer or another) or not can(JOB_PHASES, job.phase, "adopted"):
        return
    nodes = [member.node] if newer or world is None else [*world.nodes, member.node]
    nodes.sort(key=lambda name: min((rank.rank for rank in job.members[name].seen.ranks), default=1 << 30))
    joins = tuple(job.members[name].seen.join for name in nodes)
    ranks = sum(max(1, job.members[name].seen.shape.ranks_per_node) for name in nodes)
    job.generation = seen.generation
    job.world = World(seen.generation, tuple(nodes), joins, None, True, ranks)
    job.slots = tuple(nodes)
    job.go = True
    job.formed_s = cluster.now_s
    job.marks.begin(seen.generation, ranks)
    job.replicas.begin(seen.generation, ranks)
    job.self_checks.begin(seen.generation, ranks)
    for name in nodes:
        job.members[name].used = job.members[name].seen.join
    if newer:
        job.table = ProgressTable(seen.generation, list(nodes))
        job.hang = None
        incidents.close_all(cluster, job, f"generation {seen.generation} runs already: adopted")
    job.move("adopted")
    cluster.say("warning", f"{job.run_id}: adopted generation {seen.generation} on {few(nodes)}", job=job.run_id)
    cluster.job_changed(job)
