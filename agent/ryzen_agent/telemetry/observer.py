"""Watches the agent for the pipeline: called once a second, and when something happens.

It reads what the agent knows and changes nothing. Where no telemetry is wanted there is no observer.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ryzen_agent.desire import Keeper
from ryzen_agent.health.watch import HealthWatch
from ryzen_agent.job import Job
from ryzen_agent.pace import PaceBook, RankSteps, of_ranks
from ryzen_agent.telemetry import figures
from ryzen_agent.telemetry.history import History
from ryzen_agent.telemetry.recovery import Recoveries
from ryzen_protos.v1 import node_pb2
from ryzen_telemetry.pipeline import Telemetry
from ryzen_telemetry.records import EventRecord, Sample, Trace, Value, read_traceparent

PERFORMANCE_EVERY_S = 60.0
"""Between two events of a rank's pace: 270 a second come from 16,384 ranks."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What the observer reads."""

    jobs: Iterable[Job]
    desire: Keeper
    health: HealthWatch
    book: PaceBook
    connected: Callable[[], bool]
    spooled: Callable[[], int]


class Observer:
    """See the module's header."""

    def __init__(self, telemetry: Telemetry, sources: Sources) -> None:
        self._telemetry = telemetry
        self._from = sources
        self._recoveries = Recoveries(telemetry.span, _unix_offset_s)
        self._history = History(telemetry.event, self._recoveries.trace_of, self._user_of)
        self._conditions: dict[tuple[str, str], node_pb2.HealthCondition] = {}
        self._connected = False
        self._observed_s = -math.inf
        self._performance_s: dict[str, float] = {}
        self._pending: set[tuple[str, int, str, int]] = set()

    # ------------------------------------------------------------- what happens

    def happened(self, kind: str, run_id: str, fields: dict[str, str]) -> None:
        """An event that the spool keeps."""
        self._history.happened(kind, run_id, fields, self._generation_of(run_id))
        if kind == "rank_exit":
            self._recoveries.exited(run_id, int(fields["rank"]), int(fields["generation"]), time.monotonic())

    def health(self, run_id: str, event: node_pb2.HealthEvent, unix_ns: int) -> None:
        self._history.health(run_id, event, unix_ns, self._generation_of(run_id))

    def desired(self, now_s: float) -> None:
        """A desired state has come."""
        for job in self._from.jobs:
            if (desired := self._from.desire.job(job)) is not None:
                self._recoveries.desired(job, desired, now_s)
        self._history.release(now_s)

    # ------------------------------------------------------------- once a second

    def look(self, now_s: float) -> None:
        self._connection(self._from.connected())
        conditions = self._from.health.conditions(now_s)
        self._conditions_news(conditions)
        jobs = list(self._from.jobs)
        for job in jobs:
            self._recoveries.look(job)
            self._pending_collectives(job)
            self._performance(job, now_s)
        self._history.release(now_s)
        if now_s - self._observed_s < self._telemetry.interval_s:
            return
        self._observed_s = now_s
        known = {job.run_id for job in jobs}
        self._recoveries.forget(known)
        self._pending = {each for each in self._pending if each[0] in known}
        self._from.book.keep(jobs)
        if self._telemetry.wants_snapshot:
            self._telemetry.observe(self.samples(now_s, conditions))

    def samples(self, now_s: float, conditions: Iterable[node_pb2.HealthCondition]) -> Iterator[Sample]:
        """All of the node."""
        for job in self._from.jobs:
            yield from figures.of_job(job, self._from.book.newest(job, now_s), now_s)
        yield from figures.of_conditions(conditions)
        yield from self._from.health.samples()
        yield from self._history.samples()
        yield Sample("ryzen.agent.connected", float(self._from.connected()))
        yield Sample("ryzen.agent.spool", float(self._from.spooled()))

    def complaints(self) -> list[str]:
        return self._telemetry.complaints()

    def flush(self) -> None:
        """The agent is about to end: what is held goes out."""
        self._history.flush()

    # ------------------------------------------------------------- inside

    def _connection(self, connected: bool) -> None:
        if connected == self._connected:
            return
        self._connected = connected
        words = "connected to the coordinator" if connected else "no stream to the coordinator; training goes on"
        severity = "info" if connected else "warning"
        self._event("ryzen.coordinator.connection", words, {"ryzen.connected": connected}, severity)

    def _conditions_news(self, conditions: Iterable[node_pb2.HealthCondition]) -> None:
        standing = {(each.name, each.device): each for each in conditions}
        for key in standing.keys() - self._conditions.keys():
            each = standing[key]
            attributes: dict[str, Value] = {
                "ryzen.condition": each.name, "ryzen.device": each.device, "ryzen.severity": each.severity,
                "ryzen.action": each.action,
            }  # fmt: skip
            self._event("ryzen.condition.begin", each.message, attributes, _severity(each.severity))
        for name, device in self._conditions.keys() - standing.keys():
            words = f"{name} {device}".strip()
            self._event("ryzen.condition.end", words, {"ryzen.condition": name, "ryzen.device": device})
        self._conditions = standing

    def _pending_collectives(self, job: Job) -> None:
        """Of ranks that are probed: what each waits in, once."""
        desired = self._from.desire.job(job)
        trace = read_traceparent(desired.traceparent) if desired is not None else None
        for rank in job.newest():
            for entry in (rank.probe.entries or ()) if rank.probe is not None else ():
                key = (job.run_id, rank.identity.rank, entry.group, entry.sequence)
                if entry.done or key in self._pending:
                    continue
                self._pending.add(key)
                attributes = {
                    **_of(job), "ryzen.rank": rank.identity.rank,
                    "ryzen.collective.group": entry.group, "ryzen.collective.sequence": entry.sequence,
                    "ryzen.collective.operation": entry.operation, "ryzen.collective.shape": entry.shape,
                }  # fmt: skip
                words = f"rank {rank.identity.rank} waits in {entry.operation} {entry.sequence} of group {entry.group}"
                self._event("ryzen.collective.pending", words, attributes, "warning", trace)

    def _performance(self, job: Job, now_s: float) -> None:
        if now_s - self._performance_s.get(job.run_id, -math.inf) < PERFORMANCE_EVERY_S:
            return
        readings = [each for each in self._from.book.newest(job, now_s) if each.steps]
        if not readings:
            return
        self._performance_s = {**self._performance_s, job.run_id: now_s}
        for each in readings:
            self._rank_performance(job, each)
        pace = of_ranks(readings)
        if pace is not None and pace.communication_s > 0:
            attributes = {
                **_of(job), "ryzen.communication.share": pace.communication_s / pace.step_s,
                "ryzen.collective.duration.p50": pace.all_reduce_p50_s,
                "ryzen.collective.duration.p99": pace.all_reduce_p99_s,
            }  # fmt: skip
            words = f"{pace.communication_s / pace.step_s:.0%} of a step with a gradient sum under way"
            self._event("ryzen.communication.pace", words, attributes)

    def _rank_performance(self, job: Job, reading: RankSteps) -> None:
        rates = figures.rates(reading)
        progress = reading.progress
        values = {
            "ryzen.step.duration": rates.get("ryzen.rank.step.duration"),
            "ryzen.throughput": rates.get("ryzen.rank.throughput"),
            "ryzen.mfu": rates.get("ryzen.rank.mfu"),
            "ryzen.loss": progress.loss,
            "ryzen.gradient.norm": progress.grad_norm,
            "ryzen.learning_rate": progress.learning_rate,
        }
        attributes: dict[str, Value] = {
            **_of(job), "ryzen.rank": reading.rank, "ryzen.generation": reading.generation, "ryzen.step": progress.step,
            **{name: value for name, value in values.items() if value is not None},
            "ryzen.section.duration": json.dumps(
                {name: round(mean_s, 6) for name, mean_s in figures.section_means(reading).items()}
            ),
        }  # fmt: skip
        words = f"rank {reading.rank}: step {progress.step}, {rates['ryzen.rank.step.duration']:.3g} s each"
        self._event("ryzen.rank.performance", words, attributes)

    def _event(
        self, name: str, body: str, attributes: dict[str, Value], severity: str = "info", trace: Trace | None = None
    ) -> None:
        self._telemetry.event(EventRecord(name, time.time(), body, attributes, severity, trace))

    def _user_of(self, run_id: str) -> str:
        return next((job.user for job in self._from.jobs if job.run_id == run_id), "")

    def _generation_of(self, run_id: str) -> int:
        return next((job.generation for job in self._from.jobs if job.run_id == run_id), 0)


def _of(job: Job) -> dict[str, Value]:
    return {"ryzen.job": job.run_id, "ryzen.user": job.user}


def _severity(of_condition: str) -> str:
    return {"critical": "error", "warning": "warning"}.get(of_condition, "info")


def _unix_offset_s() -> float:
    return time.time() - time.monotonic()
