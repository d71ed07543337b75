"""A job as the coordinator's message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ryzen_agent import procfs, recorder
from ryzen_agent.beats import SKIPS_KEPT
from ryzen_agent.decision import Phase
from ryzen_agent.job import Job
from ryzen_agent.probe import Probe, groups_of
from ryzen_agent.rank import Rank
from ryzen_protos import beat_columns, beat_page
from ryzen_protos.beat_checks import Check
from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import node_pb2

ERROR_TYPE_CHARS = 64
ERROR_MESSAGE_CHARS = 300
MARKS = 32
"""Steps that are told of while evidence is asked for; otherwise the newest three that ranks have in common."""

_Life = node_pb2.ObservedRank
_HANDLER = {
    Phase.ABSENT: node_pb2.ObservedJob.ABSENT,
    Phase.JOINING: node_pb2.ObservedJob.JOINING,
    Phase.RUNNING: node_pb2.ObservedJob.RUNNING,
    Phase.CLOSED: node_pb2.ObservedJob.CLOSED,
    Phase.UNKNOWN: node_pb2.ObservedJob.HANDLER_UNSPECIFIED,
}


GAPS_EVERY_S = 10.0
"""The longest silences are told again after so long though nothing has changed."""


class StackNews:
    """Which stacks one stream has been told of: their texts are long and stay the same while a job hangs."""

    def __init__(self) -> None:
        self._told: dict[Job, frozenset[int]] = {}
        self._inquiry = 0

    def take(self, jobs: Iterable[Job], inquiry: int) -> dict[Job, dict[int, str]]:
        """Texts by id that are due: the set has changed, or a new inquiry is answered."""
        due = {}
        now_known = {}
        for job in jobs:
            texts = stack_texts(job)
            now_known[job] = frozenset(texts)
            if now_known[job] != self._told.get(job, frozenset()) or inquiry != self._inquiry:
                due[job] = texts
        self._told, self._inquiry = now_known, inquiry
        return due


class GapNews:
    """Which silences one stream has been told of: they hardly ever change, and the coordinator keeps the longest."""

    def __init__(self) -> None:
        self._told: dict[Job, tuple[float, dict[str, float]]] = {}

    def take(self, jobs: Iterable[Job], now_s: float) -> dict[Job, dict[str, float]]:
        """The silences that are due: they have changed, or are to be confirmed."""
        due = {}
        told = {}
        for job in jobs:
            longest = job.gaps.longest()
            at_s, known = self._told.get(job, (-GAPS_EVERY_S, {}))
            if longest != known or now_s - at_s >= GAPS_EVERY_S:
                due[job] = longest
                at_s = now_s
            told[job] = (at_s, longest)
        self._told = told
        return due


def stack_texts(job: Job) -> dict[int, str]:
    """By id, of all ranks that are probed."""
    found = [rank.probe.stack for rank in job.newest() if rank.probe is not None and rank.probe.stack is not None]
    return {stack.id: stack.text for stack in found}


class Due(NamedTuple):
    """Of one job, what changes seldom and is to be told now."""

    stacks: Mapping[int, str]
    gaps: Mapping[str, float]
    pace: node_pb2.Pace | None = None
    self_checks: Sequence[node_pb2.SelfChecks] = ()
    first_batches: node_pb2.FirstBatches | None = None


def observed_job(job: Job, desired_generation: int, now_s: float, due: Due) -> node_pb2.ObservedJob:
    """The whole job as it is now. `desired_generation`: ranks below it are the ones that must end."""
    phase = job.phase(now_s)
    ranks = job.newest()
    message = node_pb2.ObservedJob(
        run_id=job.run_id,
        user=job.user,
        handler=_HANDLER[phase],
        ranks=[observed_rank(rank, now_s) for rank in ranks],
        old_ranks_alive=job.old_alive(desired_generation),
        torchrun_pid=job.torchrun_pid,
        torchrun_exit_code=job.torchrun_exit_code,
    )
    _add_handler(message, job, phase)
    message.stacks.extend(node_pb2.StackText(id=id_, text=text) for id_, text in due.stacks.items())
    if due.stacks:  # as long as the stacks, and hardly ever another: they go together
        probes = [rank.probe for rank in ranks if rank.probe is not None]
        message.groups.extend(node_pb2.Group(name=name, ranks=ranks) for name, ranks in groups_of(probes).items())
    _add_news(message, job, ranks, now_s, due)
    wanted = [rank.page.rollback_wanted for rank in ranks if rank.page and rank.page.rollback_wanted is not None]
    if wanted:
        message.rollback_wanted = min(wanted)
    return message


def job_news(job: Job, as_of: int, now_s: float, due: Due) -> node_pb2.ObservedJob:
    """What changes all the time; else the job is as the update `as_of` of this stream has told."""
    message = node_pb2.ObservedJob(run_id=job.run_id, user=job.user, as_of=as_of)
    _add_news(message, job, job.newest(), now_s, due)
    return message


def steady(job: Job, desired_generation: int, now_s: float) -> tuple[object, ...] | None:
    """What `observed_job` would say beside the news, to be compared; None while something is afoot.

    Whether a process runs or sleeps at the moment is nothing that would have to be told.
    """
    ranks = job.newest()
    if job.phase(now_s) != Phase.RUNNING or any(_is_remarkable(rank) for rank in ranks):
        return None
    told = [(rank.pid, rank.identity, rank.page is None) for rank in ranks]
    return job.handler, job.torchrun_pid, job.torchrun_exit_code, job.old_alive(desired_generation), told


def _is_remarkable(rank: Rank) -> bool:
    if not rank.alive or rank.state in procfs.HALTED_STATES or rank.probe is not None:
        return True
    return rank.page is not None and (rank.page.failure is not None or rank.page.rollback_wanted is not None)


def _add_news(message: node_pb2.ObservedJob, job: Job, ranks: list[Rank], now_s: float, due: Due) -> None:
    message.beats.CopyFrom(beat_columns.pack([_record(rank, now_s) for rank in ranks]))
    message.gaps.extend(node_pb2.SectionGap(section=name, longest_s=gap) for name, gap in due.gaps.items())
    if due.pace is not None:
        message.pace.CopyFrom(due.pace)
    message.self_checks.extend(due.self_checks)
    if due.first_batches is not None:
        message.first_batches.CopyFrom(due.first_batches)
    steps = [rank.page.checkpoint_step for rank in job.ranks if rank.page and rank.page.checkpoint_step is not None]
    if steps:
        message.checkpoint_step, message.checkpoint_known = max(steps), True
    _add_checks(message, ranks)


def _add_checks(message: node_pb2.ObservedJob, ranks: list[Rank]) -> None:
    """What guards and checks of the newest generation say. The ranks decide and digest alike, so once for all."""
    pages = [rank.page for rank in ranks if rank.page is not None]
    skipped = {step: nonfinite for page in pages for step, nonfinite in page.skipped.items()}
    for step in sorted(skipped)[-SKIPS_KEPT:]:
        message.skipped.add(step=step, nonfinite=skipped[step])
    same: dict[tuple[Check, ...], list[int]] = {}
    for place, rank in enumerate(ranks):
        if rank.page is not None and rank.page.checks:
            same.setdefault(rank.page.checks, []).append(place)
    for checks, places in same.items():
        steps, digests = [each.step for each in checks], [each.digest for each in checks]
        message.checks.add(rows=places, group=checks[0].group, steps=steps, digests=digests)


def observed_rank(rank: Rank, now_s: float) -> node_pb2.ObservedRank:
    who = rank.identity
    message = node_pb2.ObservedRank(
        rank=who.rank,
        local_rank=who.local_rank,
        pid=rank.pid,
        generation=who.generation,
        life=_life(rank),
        process_state="Z" if rank.state == "X" else rank.state,
        process_state_s=now_s - rank.state_since_s if rank.state in procfs.HALTED_STATES and rank.alive else 0.0,
        exit_code=rank.exit_code,
        killed_by_agent=rank.killed,
        attached=rank.page is not None,
        oom_killed=rank.oom_killed,
    )
    ended = [each for each in (rank.stamped_at_s, rank.exited_at_s) if each is not None]
    if ended:
        message.ended_ago_s = max(now_s - min(ended), 0.0)
    if (error := rank.told_error) is not None:
        message.error_type = error[0][:ERROR_TYPE_CHARS]
        message.error_message = error[1].partition("\n")[0][:ERROR_MESSAGE_CHARS]
    if rank.probe is not None and rank.probe.samples:
        message.probe.CopyFrom(_probe(rank.probe, now_s))
    return message


def _probe(probe: Probe, now_s: float) -> node_pb2.Probe:
    return node_pb2.Probe(
        samples=probe.samples,
        age_s=max(now_s - probe.sampled_at_s, 0.0),
        stack=probe.stack.id if probe.stack is not None else 0,
        frozen_s=probe.frozen_s,
        busy=probe.busy,
        in_collective=probe.in_collective,
        wait_channel=probe.wait_channel,
        recorder=probe.entries is not None,
        collectives=[
            node_pb2.Collective(
                group=each.group, sequence=each.sequence, operation=each.operation, shape=each.shape, done=each.done
            )
            for each in recorder.telling(probe.entries or [])
        ],
    )


def _life(rank: Rank) -> node_pb2.ObservedRank.Life:
    if not rank.alive:
        return _Life.EXITED
    return _Life.FAILING if rank.stamped_at_s is not None else _Life.ALIVE


def _add_handler(message: node_pb2.ObservedJob, job: Job, phase: Phase) -> None:
    handler = job.handler
    if handler is None:
        message.generation = job.generation
        return
    message.generation = handler.generation
    message.seen_generation = handler.seen_generation
    message.join_id = handler.join_id
    message.shape.CopyFrom(handler.shape)
    if phase == Phase.JOINING and handler.HasField("store"):
        message.store.CopyFrom(handler.store)


def _record(rank: Rank, now_s: float) -> Record | None:
    """What its page says now; None where it has none, or nothing in it yet."""
    page = rank.page
    if page is None or page.progress is None:
        return None
    progress = page.progress
    marks = page.reader.marks(progress, MARKS if rank.probe is not None else 0)
    return Record(
        step=progress.step,
        section=progress.section,
        quiet_s=max(now_s - page.changed_ns / 1e9, 0.0),
        step_age_s=max(now_s - progress.step_started_ns / 1e9, 0.0),
        steps_done=progress.steps_done,
        tokens=progress.tokens,
        loss=beat_page.finite_or_none(progress.loss),
        grad_norm=beat_page.finite_or_none(progress.grad_norm),
        marks=tuple(value for mark in marks for value in (mark.step, mark.collectives)),
    )
