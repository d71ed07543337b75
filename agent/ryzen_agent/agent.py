"""One event loop: wires the pieces, looks ten times a second, and brings about the desired state.

    something happens (pidfd, nudge, handler, coordinator, the clock)
      -> look (scan)            what is observed
      -> decide (pure)          what must be killed
      -> execute                kill, order the handler
      -> tell (upstream.dirty)  if it matters to the coordinator

Everything runs in this one thread; nothing in it blocks. A restarted agent learns again all that it needs:
from the handler's reconnect, /proc, the pages and the records; it acts on desired state only once the
coordinator has sent it in this session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ryzen_agent import adoption, desire, executor, procfs, record, report
from ryzen_agent.decision import Phase, decide
from ryzen_agent.job import Hooks, Job
from ryzen_agent.local_server import HandlerLink, LocalServer
from ryzen_agent.nudge import Nudge
from ryzen_agent.spool import Spool
from ryzen_agent.upstream import Upstream
from ryzen_protos import run_dir
from ryzen_protos.v1 import local_pb2, node_pb2

THOROUGH_EVERY_S = 1.0
HURRY_S = 0.02
"""Between two looks while ranks are about to be started."""

GONE_AFTER_S = 10.0
"""How long a job that is gone is still told of, counted while the coordinator listens."""

MEET_AGAIN_S = 1.0
"""How long a restarted agent waits for the handlers of living torchruns before its first hello."""

FAREWELL_S = 1.0

log = logging.getLogger(__name__)


class Agent:
    """See the module's header. Made inside a running event loop."""

    def __init__(
        self, identity: node_pb2.NodeHello, folder: Path, coordinator: str, token: str | None,
        scan_interval_s: float = 0.1, spool_bytes: int = 4 << 20,
    ) -> None:  # fmt: skip
        self.identity = identity
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._scan_interval_s = scan_interval_s
        self._jobs: dict[str, Job] = {}
        self._links: dict[HandlerLink, Job] = {}
        self._desire = desire.Keeper()
        self._spool = Spool(folder / "spool", spool_bytes)
        self._hooks = Hooks(changed=self._changed, event=self._spool.add)
        self._upstream = Upstream(coordinator, token, self)
        self._server = LocalServer(folder, self)
        self._nudge: Nudge | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wakes: dict[str, asyncio.TimerHandle] = {}
        self._thorough_at_s = 0.0
        self._seq = 0
        self._scout = adoption.Scout(folder)
        self._started_s = time.monotonic()
        self._degraded: dict[str, str] = {}
        self._awaited: list[Job] = []
        self._all_met = asyncio.Event()
        self.leave_when_idle = False
        self.idle = asyncio.Event()
        """Set once there is no job, where `leave_when_idle` asks for it."""

    async def run(self) -> None:
        """Until cancelled. Raises RunDirError, RunDirInUseError, CoordinatorRefusedError."""
        self._nudge = Nudge(self._folder, self._loop, self._nudged)
        awaited = adoption.restore(self._folder, self._loop, self._hooks, self._jobs)
        await self._server.start()
        self._tick()
        self._spool.add("agent_start", "", {"session": self.identity.session, "version": self.identity.version})
        await self._meet_again(awaited)
        await self._upstream.run()

    async def stop(self, reason: str) -> None:
        """Goodbye to the coordinator, then let go of everything. Training is not touched."""
        if self._timer is not None:
            self._timer.cancel()
        for wake in self._wakes.values():
            wake.cancel()
        await self._upstream.leave(reason, FAREWELL_S)
        await self._server.stop()
        if self._nudge is not None:
            self._nudge.close()
        for job in self._jobs.values():
            job.close()
        self._spool.close()

    # ------------------------------------------------------------- looking

    def _tick(self) -> None:
        now_s = time.monotonic()
        thorough = now_s >= self._thorough_at_s
        if thorough:
            self._thorough_at_s = now_s + THOROUGH_EVERY_S
            self._scout.find(self._loop, self._hooks, self._jobs)
            self._forget_jobs(now_s)
            if self.leave_when_idle and not self._jobs:
                self.idle.set()
        self._look(now_s, thorough)
        hurry = any(job.hurry_until_s > now_s and job.awaits_ranks() for job in self._jobs.values())
        self._timer = self._loop.call_later(HURRY_S if hurry else self._scan_interval_s, self._tick)

    def _look(self, now_s: float, thorough: bool) -> None:
        for job in self._jobs.values():
            before = len(job.ranks)
            news = job.scan(now_s, thorough)
            if news:
                self._upstream.dirty()
                if len(job.ranks) != before:
                    self._save(job)
            if news or thorough:
                self._act(job, now_s)

    def _nudged(self) -> None:
        self._look(time.monotonic(), thorough=True)

    def _changed(self, job: Job) -> None:
        """A rank or torchrun has ended."""
        self._save(job)
        self._act(job, time.monotonic())
        self._upstream.dirty()

    # ------------------------------------------------------------- acting

    def _act(self, job: Job, now_s: float) -> None:
        """Bring about what is desired of this job, as far as it can be now."""
        goal = self._desire.goal(job)
        decision = decide(job.facts(now_s, self._upstream.connected), goal, now_s)
        for rank in executor.kill(job, decision.kills):
            fields = {"rank": str(rank.identity.rank), "pid": str(rank.pid), "reason": decision.kills[rank.pid]}
            self._spool.add("kill", job.run_id, fields)
        self._order(job)
        if (wake := self._wakes.pop(job.run_id, None)) is not None:
            wake.cancel()
        if decision.wake_at is not None:
            delay_s = max(decision.wake_at - now_s, 0.0)
            self._wakes[job.run_id] = self._loop.call_later(delay_s, self._wake, job)

    def _wake(self, job: Job) -> None:
        self._act(job, time.monotonic())
        self._upstream.dirty()

    def _order(self, job: Job) -> None:
        for link, linked in self._links.items():
            if linked is job:
                link.send(self._desire.order(job, self.identity, self._upstream.connected))

    # ------------------------------------------------------------- the handler's side (local_server.Listener)

    def handler_update(self, link: HandlerLink, update: local_pb2.HandlerUpdate) -> str | None:
        now_s = time.monotonic()
        job = self._links.get(link)
        if job is None:
            job, refusal = self._meet(update)
            if job is None:
                return refusal
            self._links[link] = job
            if all(each in self._links.values() for each in self._awaited):
                self._all_met.set()
        if job.handler_says(update, now_s):
            job.scan(now_s, thorough=False)
            self._upstream.dirty()
        self._act(job, now_s)
        return None

    def handler_gone(self, link: HandlerLink) -> None:
        job = self._links.pop(link, None)
        if job is not None and job not in self._links.values():
            job.handler_lost(time.monotonic())
            self._upstream.dirty()

    def _meet(self, update: local_pb2.HandlerUpdate) -> tuple[Job | None, str]:
        """The job of a handler that has just connected, or why it is refused."""
        try:
            run_dir.check_name("run id", update.run_id)
        except run_dir.RunDirError as error:
            return None, str(error)
        pid = update.torchrun_pid
        job = self._jobs.get(update.run_id)
        if job is not None and job.torchrun is not None and job.torchrun_ended_at_s is None and job.torchrun_pid != pid:
            return None, f"job {update.run_id} has a torchrun on this node already (pid {job.torchrun_pid})"
        if job is not None and job.torchrun_pid not in (0, pid):
            self._forget(job)
            job = None
        if job is None:
            uid = procfs.owner_of(pid)
            job = self._new_job(update.run_id, os.getuid() if uid is None else uid)
        if not job.watch_torchrun(pid, update.torchrun_start_ticks):
            self._degraded[job.run_id] = (
                f"job {job.run_id}: torchrun (pid {pid}) cannot be seen from here (another pid namespace?): "
                "its ranks are not watched"
            )
        self._save(job)
        log.info("job %s: torchrun (pid %d) has met this agent", job.run_id, pid)
        return job, ""

    def _new_job(self, run_id: str, uid: int) -> Job:
        job = Job(run_id, procfs.user_name(uid), uid, self._folder, self._loop, self._hooks)
        self._jobs[run_id] = job
        return job

    async def _meet_again(self, awaited: list[Job]) -> None:
        """Give the handlers of living torchruns a moment to reconnect, so that the first hello is whole."""
        self._awaited = awaited
        if awaited:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_met.wait(), MEET_AGAIN_S)

    # ------------------------------------------------------------- the coordinator's side (upstream.Node)

    def update(self, first: bool) -> node_pb2.NodeUpdate:
        now_s = time.monotonic()
        self._seq = 1 if first else self._seq + 1
        return node_pb2.NodeUpdate(
            seq=self._seq,
            hello=self.identity if first else None,
            jobs=self._observed(now_s),
            events=self._spool.pending(),
            answered_inquiry=self._desire.inquiry,
            sent_unix_ns=time.time_ns(),
            applied_version=self._desire.version,
        )

    def desired(self, state: node_pb2.DesiredState) -> None:
        now_s = time.monotonic()
        inquired = self._desire.take(state, now_s)
        self._spool.acknowledge(state.acked_event_id)
        self._look(now_s, thorough=True)
        if inquired:
            self._upstream.dirty()

    def connection_changed(self) -> None:
        now_s = time.monotonic()
        self._desire.connection_changed(self._upstream.connected)
        for job in self._jobs.values():
            self._act(job, now_s)

    def must_go_on(self) -> bool:
        return any(rank.alive for job in self._jobs.values() for rank in job.ranks)

    def _observed(self, now_s: float) -> Iterator[node_pb2.ObservedJob]:
        for job in self._jobs.values():
            goal = self._desire.goal(job)
            yield report.observed_job(job, goal.generation if goal else 0, now_s)

    # ------------------------------------------------------------- the command line's side

    def local_status(self) -> local_pb2.LocalStatus:
        now_s = time.monotonic()
        degraded = [*self._degraded.values(), *([self._spool.error] if self._spool.error else [])]
        for job in self._jobs.values():
            degraded += [f"job {job.run_id}: {error}" for error in job.page_errors()]
        return local_pb2.LocalStatus(
            identity=self.identity,
            coordinator=self._upstream.target,
            connected=self._upstream.connected,
            last_error=self._upstream.last_error,
            desired=self._desire.state,
            jobs=self._observed(now_s),
            spooled_events=len(self._spool),
            uptime_s=now_s - self._started_s,
            degraded=degraded,
        )

    # ------------------------------------------------------------- the jobs' end

    def _forget_jobs(self, now_s: float) -> None:
        for job in list(self._jobs.values()):
            over_since_s = job.is_over()
            told_since_s = self._desire.connected_since_s
            if over_since_s is None or told_since_s is None:
                continue
            if now_s - max(over_since_s, told_since_s) > GONE_AFTER_S:
                self._forget(job)

    def _forget(self, job: Job) -> None:
        job.close()
        self._jobs.pop(job.run_id, None)
        self._degraded.pop(job.run_id, None)
        record.remove(self._folder, job.run_id)

    def _save(self, job: Job) -> None:
        if job.torchrun is not None or job.phase(time.monotonic()) != Phase.ABSENT:
            record.save(self._folder, adoption.as_record(job))
