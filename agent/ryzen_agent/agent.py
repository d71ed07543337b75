"""One event loop: wires the pieces, looks up to eight times a second, and brings about the desired state.

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

from ryzen_agent import desire, executor, news, report
from ryzen_agent.decision import decide
from ryzen_agent.door import Door
from ryzen_agent.health import telling
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.watch import HealthWatch
from ryzen_agent.job import Hooks, Job
from ryzen_agent.jobs import Jobs
from ryzen_agent.local_server import HandlerLink
from ryzen_agent.news import News
from ryzen_agent.pace import PaceBook
from ryzen_agent.places import EveryUsers, Own, Place
from ryzen_agent.prober import Prober
from ryzen_agent.spool import Spool
from ryzen_agent.telemetry.observer import Observer, Sources
from ryzen_agent.upstream import Upstream
from ryzen_protos.run_dir import RunDirError
from ryzen_protos.v1 import local_pb2, node_pb2
from ryzen_telemetry.pipeline import Telemetry

THOROUGH_EVERY_S = 1.0
HURRY_S = 0.02
"""Between two looks while ranks are about to be started."""

EASE = 2
"""Times the interval between two looks while every rank has written since the last one: a look costs most by finding
the caches cold. How long a silence is stands in the page; once one has begun, looks are at the interval itself."""

NUDGE_S = 0.01
"""Least time between two looks that ranks ask for."""

MEET_AGAIN_S = 1.0
"""How long a restarted agent waits for the handlers of living torchruns before its first hello."""

FAREWELL_S = 1.0

log = logging.getLogger(__name__)


class Agent:
    """See the module's header. Made inside a running event loop."""

    def __init__(
        self, identity: node_pb2.NodeHello, served: Own | EveryUsers, coordinator: str, token: str | None,
        scan_interval_s: float = 0.125, spool_bytes: int = 4 << 20, health: HealthSettings | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:  # fmt: skip
        """`health`: None for no collectors; `telemetry`: None where nothing is exported. Raises SettingsError."""
        self.identity = identity
        self._served = served
        self._loop = asyncio.get_running_loop()
        self._scan_interval_s = scan_interval_s
        self._links: dict[HandlerLink, Job] = {}
        self._desire = desire.Keeper()
        self._spool = Spool(served.state_folder / "spool", spool_bytes)
        self._jobs = Jobs(served.state_folder, self._loop, Hooks(self._changed, self._happened))
        self._upstream = Upstream(coordinator, token, self)
        self._prober = Prober(self._loop, self._upstream.dirty)
        self._health = HealthWatch(health, self._jobs, self._keep_health, self._upstream.dirty)
        self._book = PaceBook()
        self._news, self._conditions = News(self._book), telling.ConditionNews()
        self._observer: Observer | None = None
        if telemetry is not None:
            connected, spooled = (lambda: self._upstream.connected), (lambda: len(self._spool))
            sources = Sources(self._jobs, self._desire, self._health, self._book, connected, spooled)
            self._observer = Observer(telemetry, sources)
        self._doors: dict[int, Door] = {}
        self._checking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wakes: dict[Job, asyncio.TimerHandle] = {}
        self._thorough_at_s = 0.0
        self._seq = 0
        self._event_sent = 0
        self._nudged_at_s = 0.0
        self._nudge_timer: asyncio.TimerHandle | None = None
        self._started_s = time.monotonic()
        self._awaited: list[Job] = []
        self._all_met = asyncio.Event()
        self.leave_when_idle = False
        self.idle = asyncio.Event()
        """Set once nothing is left to watch, where `leave_when_idle` asks for it."""

    async def run(self) -> None:
        """Until cancelled. Raises RunDirError, RunDirInUseError, CoordinatorRefusedError."""
        awaited = self._jobs.restore()
        await self._open_doors()
        self._tick()
        self._happened("agent_start", "", {"session": self.identity.session, "version": self.identity.version})
        self._health.start()
        await self._meet_again(awaited)
        await self._upstream.run()

    async def _open_doors(self) -> None:
        """Serve the run directories that are there now, and let go of those that are not."""
        for inode, door in list(self._doors.items()):
            if not door.place.still_there():
                del self._doors[inode]
                await door.close()
        for place in self._served.find():
            if place.inode in self._doors:
                place.close()
                continue
            self._doors[place.inode] = door = Door(place, self._loop, self, self._nudged)
            await door.open()  # one that fails stays in the table: it is complained of once

    async def _check_doors(self) -> None:
        try:
            await self._open_doors()
        except (OSError, RunDirError) as error:
            log.warning("%s: this run directory is not served", error)

    async def stop(self, reason: str) -> None:
        """Goodbye to the coordinator, then let go of everything. Training is not touched."""
        if self._observer is not None:
            self._observer.flush()
        if self._timer is not None:
            self._timer.cancel()
        for wake in self._wakes.values():
            wake.cancel()
        await self._upstream.leave(reason, FAREWELL_S)
        await self._prober.close()
        await self._health.close()
        for door in list(self._doors.values()):
            await door.close()
        for job in self._jobs:
            job.close()
        self._spool.close()

    # ------------------------------------------------------------- looking

    def _tick(self) -> None:
        now_s = time.monotonic()
        thorough = now_s >= self._thorough_at_s - self._scan_interval_s / 2  # the look that is nearest
        if thorough:
            self._thorough_at_s = now_s + THOROUGH_EVERY_S
            self._housekeeping(now_s)
        self._look(now_s, thorough)
        if thorough:
            self._upstream.dirty()  # a timer for it would wake the process once more
        self._timer = self._loop.call_later(self._pause_s(now_s), self._tick)

    def _pause_s(self, now_s: float) -> float:
        """Until the next look, the thorough one at the latest: with it the coordinator hears of this node."""
        if any(job.hurry_until_s > now_s and job.awaits_ranks() for job in self._jobs):
            return HURRY_S
        pause_s = self._scan_interval_s * (EASE if all(job.at_ease for job in self._jobs) else 1)
        return min(pause_s, self._thorough_at_s - now_s)

    def _look(self, now_s: float, thorough: bool) -> None:
        for job in self._jobs:
            if self._scan(job, now_s, thorough) or thorough:
                self._act(job, now_s)

    def _scan(self, job: Job, now_s: float, thorough: bool) -> bool:
        """Look at one job. True where something matters."""
        ranks = job.ranks_added
        news = job.scan(now_s, thorough)
        if news:
            self._upstream.dirty()
        if job.ranks_added != ranks:
            self._jobs.save(job)
        return news

    def _housekeeping(self, now_s: float) -> None:
        idle = self._checking is None or self._checking.done()
        if idle and (self._served.may_grow or not all(door.place.still_there() for door in self._doors.values())):
            self._checking = self._loop.create_task(self._check_doors())
        for door in self._doors.values():
            self._jobs.find_by_pages(door.place)
        self._jobs.forget_gone(now_s, self._desire.connected_since_s)
        self._health.look(now_s)
        self._probe(now_s)
        if self._observer is not None:
            self._observer.look(now_s)
        if self.leave_when_idle and not self._jobs.any_lives(now_s):
            self.idle.set()

    def _nudged(self) -> None:
        """At once, but a flood of nudges costs no more than a look every `NUDGE_S`."""
        now_s = time.monotonic()
        if now_s - self._nudged_at_s >= NUDGE_S:
            self._nudged_at_s = now_s
            self._look(now_s, thorough=True)
        elif self._nudge_timer is None:
            self._nudge_timer = self._loop.call_later(NUDGE_S, self._nudged_again)

    def _nudged_again(self) -> None:
        self._nudge_timer = None
        self._nudged()

    def _changed(self, job: Job) -> None:
        """A rank or torchrun has ended."""
        self._jobs.save(job)
        self._act(job, time.monotonic())
        self._upstream.dirty()

    def _happened(self, kind: str, run_id: str, fields: dict[str, str]) -> None:
        """Keep it for the coordinator, and for who else wants to know."""
        self._spool.add(kind, run_id, fields)
        if self._observer is not None:
            self._observer.happened(kind, run_id, fields)

    def _keep_health(self, run_id: str, event: node_pb2.HealthEvent, unix_ns: int) -> None:
        self._spool.add_health(run_id, event, unix_ns)
        if self._observer is not None:
            self._observer.health(run_id, event, unix_ns)

    # ------------------------------------------------------------- acting

    def _act(self, job: Job, now_s: float) -> None:
        """Bring about what is desired of this job, as far as it can be now."""
        goal = self._desire.goal(job)
        decision = decide(job.facts(now_s, self._upstream.connected), goal, now_s)
        hit = executor.kill(job, decision.kills)
        self._health.killed(hit)
        for rank in hit:
            fields = {"rank": str(rank.identity.rank), "pid": str(rank.pid), "reason": decision.kills[rank.pid]}
            self._happened("kill", job.run_id, fields)
        self._order(job)
        if (wake := self._wakes.pop(job, None)) is not None:
            wake.cancel()
        if decision.wake_at is not None:
            delay_s = max(decision.wake_at - now_s, 0.0)
            self._wakes[job] = self._loop.call_later(delay_s, self._wake, job)

    def _wake(self, job: Job) -> None:
        self._act(job, time.monotonic())
        self._upstream.dirty()

    def _order(self, job: Job) -> None:
        for link, linked in self._links.items():
            if linked is job:
                link.send(self._desire.order(job, self.identity, self._upstream.connected))

    def _probe(self, now_s: float) -> None:
        self._prober.keep(job for job in self._jobs if self._desire.wants_evidence(job, now_s))

    # ------------------------------------------------------------- the handler's side (local_server.Listener)

    def handler_update(self, link: HandlerLink, update: local_pb2.HandlerUpdate, place: Place) -> None:
        now_s = time.monotonic()
        job = self._links.get(link)
        if job is None:
            job = self._links[link] = self._jobs.meet(update, place)
            log.info("job %s: torchrun (pid %d) has met this agent", job.run_id, job.torchrun_pid)
            if all(each in self._links.values() for each in self._awaited):
                self._all_met.set()
        if not job.handler_says(update, now_s):
            return
        self._scan(job, now_s, thorough=False)
        job.sweep()
        self._act(job, now_s)
        self._upstream.dirty()

    def handler_gone(self, link: HandlerLink) -> None:
        job = self._links.pop(link, None)
        if job is not None and job not in self._links.values():
            job.handler_lost(time.monotonic())
            self._upstream.dirty()

    async def _meet_again(self, awaited: list[Job]) -> None:
        """Give the handlers of living torchruns a moment to reconnect, so that the first hello is whole."""
        self._awaited = awaited
        if awaited:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MEET_AGAIN_S):
                    await self._all_met.wait()

    # ------------------------------------------------------------- the coordinator's side (upstream.Node)

    def update(self, first: bool) -> node_pb2.NodeUpdate:
        now_s = time.monotonic()
        self._seq = 1 if first else self._seq + 1
        # A stream loses nothing: each event once a stream, and again on the next one until acknowledged.
        events = self._spool.pending(after=0 if first else self._event_sent)
        self._event_sent = events[-1].id if events else (0 if first else self._event_sent)
        if first:
            self._news, self._conditions = News(self._book), telling.ConditionNews()
        return node_pb2.NodeUpdate(
            seq=self._seq,
            hello=self.identity if first else None,
            jobs=[
                self._news.message(job, self._seq, self._goal_generation(job), now_s, due)
                for job, due in self._news.take(self._jobs, self._desire.inquiry, now_s).items()
            ],
            events=events,
            answered_inquiry=self._desire.inquiry,
            sent_unix_ns=time.time_ns(),
            applied_version=self._desire.version,
            conditions=self._conditions.take(self._health.conditions(now_s), now_s),
        )

    def desired(self, state: node_pb2.DesiredState) -> None:
        now_s = time.monotonic()
        inquired = self._desire.take(state, now_s)
        if self._observer is not None:
            self._observer.desired(now_s)
        self._spool.acknowledge(state.acked_event_id)
        self._probe(now_s)
        self._look(now_s, thorough=True)
        if inquired:
            self._upstream.dirty()

    def connection_changed(self) -> None:
        now_s = time.monotonic()
        self._desire.connection_changed(self._upstream.connected)
        for job in self._jobs:
            self._act(job, now_s)

    def must_go_on(self) -> bool:
        return any(rank.alive for job in self._jobs for rank in job.ranks)

    def _goal_generation(self, job: Job) -> int:
        """Ranks of generations below it must end."""
        goal = self._desire.goal(job)
        return goal.generation if goal else 0

    # ------------------------------------------------------------- the command line's side

    def local_status(self, place: Place) -> local_pb2.LocalStatus:
        """For the user of `place`: root and the agent's own user see all jobs."""
        now_s = time.monotonic()
        jobs = [job for job in self._jobs if place.uid in (job.uid, os.getuid())]
        degraded = [self._spool.error] if self._spool.error else []
        degraded += self._health.complaints()
        degraded += self._observer.complaints() if self._observer is not None else []
        degraded += [f"job {job.run_id}: {each}" for job in jobs for each in job.complaints()]
        return local_pb2.LocalStatus(
            identity=self.identity,
            coordinator=self._upstream.target,
            connected=self._upstream.connected,
            last_error=self._upstream.last_error,
            desired=self._desire.state_of(jobs),
            jobs=[
                report.observed_job(job, self._goal_generation(job), now_s, due)
                for job, due in news.of_all(jobs, now_s).items()
            ],
            spooled_events=len(self._spool),
            uptime_s=now_s - self._started_s,
            degraded=degraded,
            conditions=telling.of_jobs(self._health.conditions(now_s), {job.run_id for job in jobs}),
        )
