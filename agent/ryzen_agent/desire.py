"""What the coordinator desires of this node, kept as a level, and what follows from it for handler and decision."""

from __future__ import annotations

import time
from collections.abc import Collection

from ryzen_agent.decision import Goal
from ryzen_agent.job import Job
from ryzen_protos.v1 import local_pb2, node_pb2

EVIDENCE_GRACE_S = 30.0
"""How long ranks are probed on while the coordinator is away. Lower: what was watched of a hang is forgotten when it
restarts; higher: a job that has recovered meanwhile is probed in vain."""

_DISMISSED = node_pb2.DesiredJob.DISMISSED


class Keeper:
    """The newest desired state of the coordinator's newest session."""

    def __init__(self) -> None:
        self.state = node_pb2.DesiredState()
        self.inquiry = 0
        self.connected_since_s: float | None = None
        self._lost_at_s = 0.0
        self._go_at_s: dict[tuple[str, str], tuple[int, float]] = {}

    @property
    def version(self) -> int:
        return self.state.version

    def take(self, state: node_pb2.DesiredState, now_s: float) -> bool:
        """Take a state unless it is older than the one held. True where it asks for fresh observations."""
        same_session = state.coordinator_session == self.state.coordinator_session
        if same_session and state.version < self.state.version:
            return False
        self.state = state
        for job in state.jobs:
            key = (job.run_id, job.user)
            if job.go and self._go_at_s.get(key, (0, 0.0))[0] != job.generation:
                self._go_at_s[key] = (job.generation, now_s)
        inquiry = max((job.inquiry for job in state.jobs), default=0)
        grew = inquiry > self.inquiry or not same_session
        self.inquiry = inquiry
        return grew

    def connection_changed(self, connected: bool) -> None:
        now_s = time.monotonic()
        self.connected_since_s = now_s if connected else None
        if not connected:
            self._lost_at_s = now_s

    def job(self, job: Job) -> node_pb2.DesiredJob | None:
        """What is desired of this job. What was decided for an earlier torchrun of the same run id is not meant."""
        for each in self.state.jobs:
            if (each.run_id, each.user) == (job.run_id, job.user) and each.torchrun_pid in (0, job.torchrun_pid):
                return each
        return None

    def wants_evidence(self, job: Job, now_s: float) -> bool:
        """Whether the ranks are to be probed. A coordinator that is away for a moment still wants to know."""
        if self.connected_since_s is None and now_s - self._lost_at_s > EVIDENCE_GRACE_S:
            return False
        desired = self.job(job)
        return desired is not None and desired.evidence

    def state_of(self, jobs: Collection[Job]) -> node_pb2.DesiredState:
        """The state held, with these jobs only: a user is not told of the jobs of others."""
        known = {(job.run_id, job.user) for job in jobs}
        state = node_pb2.DesiredState()
        state.CopyFrom(self.state)
        del state.jobs[:]
        state.jobs.extend(each for each in self.state.jobs if (each.run_id, each.user) in known)
        return state

    def goal(self, job: Job) -> Goal | None:
        """For the decision."""
        desired = self.job(job)
        if desired is None:
            return None
        generation, at_s = self._go_at_s.get((job.run_id, job.user), (0, 0.0))
        return Goal(
            generation=desired.generation,
            go_at=at_s if desired.go and generation == desired.generation else None,
            dismissed_with=desired.exit_code if desired.place == _DISMISSED else None,
            stop_pids=frozenset(desired.stop_pids),
        )

    def order(self, job: Job, identity: node_pb2.NodeHello, connected: bool) -> local_pb2.HandlerOrder:
        """For the handler."""
        order = local_pb2.HandlerOrder(address=identity.address, node=identity.node)
        desired = self.job(job)
        if desired is None:
            if not connected:
                order.reason = "waiting: this node's agent cannot reach the coordinator"
            return order
        order.generation = desired.generation
        order.go = desired.go
        order.place = desired.place
        order.exit_code = desired.exit_code
        order.reason = desired.reason
        if desired.HasField("world"):
            order.world.CopyFrom(desired.world)
        return order
