"""The core: events and time in, effects out. No clock, no chance, no I/O; the same input gives the same output.

    report ─┐                ┌─► detectors ─► suspicion ─► incident ─► verdict ─► policy, brakes ─┐
    gone   ─┼─► reports.py ──┤                                                                    ├─► desired.py
    tick   ─┘                └─► lifecycle.py (first step, stall, growth, end) ───────────────────┤   durable.py
                                 membership.py (announce, go, plan, form) ────────────────────────┘

Each call ends by comparing what every node concerned should be with what it was last told. The effects come in
an order that matters: records for the journal first, then what depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ryzen_coordinator.core import (
    desired,
    durable,
    health,
    incidents,
    ledger,
    lifecycle,
    membership,
    nodes,
    operator,
    recovery,
    reports,
    verdicts,
    watched,
)
from ryzen_coordinator.core.effects import Effect
from ryzen_coordinator.core.events import Event, NodeGone, NodeReport, OperatorEvict, OperatorReadmit
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.phases import OVER, RECOVERING
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.state import Cluster, Job

_TIDY_EVERY_S = 10.0
_BEHIND_SHARE = 0.25
"""Of the lease, without a tick. A node speaks once a second, so more than that would pass for its silence."""


class Core:
    """All decisions. `unix_offset_s`: what to add to core time for seconds since 1970."""

    def __init__(
        self,
        settings: CoreSettings,
        records: Iterable[tuple[str, str, dict[str, Any]]] = (),
        now_s: float = 0.0,
        unix_offset_s: float = 0.0,
    ) -> None:
        self.cluster = Cluster(settings, unix_offset_s, now_s)
        # Numbers of inquiries must grow over restarts too; agents remember the newest one they answered.
        self.cluster.next_inquiry = max(1, int((now_s + unix_offset_s) * 1000))
        durable.restore(self.cluster, records)
        self._last_tick_s = now_s
        self._tidy_at_s = now_s

    def step(self, event: Event, now_s: float) -> list[Effect]:
        """Take in one event. `now_s` never runs backwards."""
        self._wake(now_s)
        match event:
            case NodeReport():
                self._report(event)
            case NodeGone():
                reports.gone(self.cluster, event)
            case OperatorEvict() | OperatorReadmit():
                operator.command(self.cluster, event)
        return self._effects()

    def tick(self, now_s: float) -> list[Effect]:
        """Time has passed. Call it every 0.05 to 0.1 s."""
        cluster = self.cluster
        self._wake(now_s)
        self._last_tick_s = now_s
        cluster.backlog.look(now_s)
        if cluster.backlog.has_become_long():
            words = f"reports wait for {cluster.backlog.behind_s:.1f} s before they are taken in"
            cluster.say("warning", f"{words}: nodes are given as much longer before they count as silent")
        for job in list(cluster.jobs.values()):
            self._look(job, None)
        nodes.watch(cluster)
        if now_s >= self._tidy_at_s:
            self._tidy_at_s = now_s + _TIDY_EVERY_S
            nodes.retire(cluster)
            incidents.prune(cluster)
        return self._effects()

    def _report(self, report: NodeReport) -> None:
        cluster = self.cluster
        node = reports.attach(cluster, report)
        if node is None:
            return
        reports.note_left(cluster, node, {seen.key for seen in report.jobs})
        for told in report.jobs:
            if (known := reports.take_job(cluster, node, told, report.answered_inquiry)) is not None:
                verdicts.collect(cluster, *known)
                self._look(*known)
        if report.health or report.conditions is not None:
            health.take(cluster, node, report)

    def _look(self, job: Job, member: Member | None) -> None:
        """Everything that may follow from the present state of one job."""
        cluster = self.cluster
        if job.phase in OVER:
            membership.give_go(cluster, job)
            health.settle(cluster, job)
            recovery.judge(cluster, job)
            ledger.look(cluster, job, member)
            return
        if member is None:
            reports.note_silences(cluster, job)
        recovery.detect(cluster, job, member)
        if job.open:
            health.settle(cluster, job)
        if member is None or not job.large:
            recovery.judge(cluster, job)
            membership.give_go(cluster, job)
        if (job.phase == "forming" or job.phase in RECOVERING) and membership.plan_is_due(cluster, job, member):
            membership.plan_anew(cluster, job)
            verdicts.note_dropped(cluster, job)
            membership.form_if_complete(cluster, job)
        if job.watched:
            watched.look(cluster, job)
        lifecycle.advance(cluster, job, member)
        ledger.look(cluster, job, member)

    def _wake(self, now_s: float) -> None:
        self.cluster.now_s = now_s
        if now_s - self._last_tick_s > self.cluster.settings.lease_s * _BEHIND_SHARE:
            self._forgive_own_sleep(now_s - self._last_tick_s)
            self._last_tick_s = now_s

    def _forgive_own_sleep(self, slept_s: float) -> None:
        """We were not looking (a stopped process, a suspended machine) or do not keep up: that silence is ours.

        Counted from tick to tick. With more reports than it can take in, a coordinator hears some nodes all the time
        and others have been waiting in the queue for as long as the clock has not ticked.
        """
        now_s = self.cluster.now_s
        self.cluster.calm_until_s = now_s
        for node in self.cluster.nodes.values():
            node.heard_s = min(now_s, node.heard_s + slept_s)
        for job in self.cluster.jobs.values():
            for member in job.members.values():
                member.heard_s = min(now_s, member.heard_s + slept_s)
            job.table.forgive(slept_s, now_s)
        if slept_s > self.cluster.settings.lease_s / 2:
            self.cluster.say("warning", f"the coordinator itself slept for {slept_s:.1f} s; no node is blamed for that")

    def _effects(self) -> list[Effect]:
        cluster = self.cluster
        if not (cluster.effects or cluster.stale or cluster.durable):
            return []  # as after most reports
        for key in [key for kind, key in cluster.durable if kind == "job"]:
            if (job := cluster.jobs.get(durable.job_key(key))) is not None:
                ledger.look(cluster, job)
        said, cluster.effects = cluster.effects, []
        desires = desired.flush(cluster)
        once = list(dict.fromkeys(said))  # an incident that changed twice in this step is shown as it is now
        return [*durable.flush(cluster), *once, *desires]
