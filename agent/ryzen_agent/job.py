"""One torchrun job on this node: its handler, its torchrun, its ranks. All that is observed meets here.

Ranks of the newest generation stay, with their exits, until ranks of a newer one appear or the job is gone:
what the coordinator is told is a level, and an exit that it has not heard of must still be there to be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ryzen_agent import leftovers, procfs, worker
from ryzen_agent.beats import Gaps, PageFinder, PageTrack
from ryzen_agent.decision import JobFacts, Phase, RankFacts
from ryzen_agent.endings import ERROR_FILE, OomCount
from ryzen_agent.leftovers import Leftover
from ryzen_agent.process import Process
from ryzen_agent.rank import Rank
from ryzen_agent.ranks import FoundRank, RankFinder
from ryzen_protos import run_dir
from ryzen_protos.beat_page import Header
from ryzen_protos.v1 import local_pb2

HANDLER_GRACE_S = 2.0
"""How long the last phase stands when the handler's stream breaks though torchrun lives: it reconnects in 0.2 s."""

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a job tells the agent. `changed`: something that matters; `event`: history for the spool."""

    changed: Callable[[Job], None]
    event: Callable[[str, str, dict[str, str]], None]


@dataclass(slots=True, eq=False)
class Job:
    """See the module's header. Times in seconds of CLOCK_MONOTONIC."""

    run_id: str
    user: str
    uid: int
    folder: Path  # the run directory
    loop: asyncio.AbstractEventLoop
    hooks: Hooks
    gaps: Gaps = field(default_factory=Gaps)
    ranks: list[Rank] = field(default_factory=list)
    torchrun: Process | None = None
    torchrun_pid: int = 0
    torchrun_ended_at_s: float | None = None
    handler: local_pb2.HandlerUpdate | None = None
    handler_connected: bool = False
    handler_lost_at_s: float = 0.0
    finder: RankFinder | None = None
    degraded: str = ""
    leftovers: list[Leftover] = field(default_factory=list)
    ranks_added: int = 0
    """How many have been found: grows whenever the record of the job must be written anew."""
    hurry_until_s: float = 0.0
    scanned_ns: int = 0
    at_ease: bool = False
    """Every living rank had written when it was last looked at, and there was nothing else to see."""

    # ------------------------------------------------------------- torchrun and its handler

    def watch_torchrun(self, pid: int, start_ticks: int) -> bool:
        """Begin to watch. False where it cannot be seen from here (another pid namespace) or has ended."""
        if self.torchrun is not None and (self.torchrun.pid, self.torchrun.start_ticks) == (pid, start_ticks):
            return True
        try:
            process = Process(pid, start_ticks, self.loop, self._torchrun_ended)
            finder = RankFinder(pid, self.run_id)
        except (ProcessLookupError, PermissionError):
            return False
        self._forget_torchrun()
        self.torchrun, self.finder = process, finder
        self.torchrun_pid, self.torchrun_ended_at_s = pid, None
        return True

    def handler_says(self, update: local_pb2.HandlerUpdate, now_s: float) -> bool:
        """Take a handler's level. True where it differs from the last one."""
        changed = not self.handler_connected or update != self.handler
        if self.handler is None or update.generation != self.handler.generation:
            self.hurry_until_s = now_s + 2.0  # ranks are about to be started
        self.handler, self.handler_connected, self.torchrun_pid = update, True, update.torchrun_pid
        return changed

    def handler_lost(self, now_s: float) -> None:
        self.handler_connected, self.handler_lost_at_s = False, now_s

    def phase(self, now_s: float) -> Phase:
        if self.torchrun_ended_at_s is not None:
            return Phase.CLOSED
        if self.handler is None:
            return Phase.ABSENT
        if Phase(self.handler.phase) == Phase.CLOSED:
            return Phase.CLOSED  # its last word: torchrun is about to end
        if not self.handler_connected and now_s - self.handler_lost_at_s > HANDLER_GRACE_S:
            return Phase.ABSENT
        return Phase(self.handler.phase)

    @property
    def torchrun_exit_code(self) -> int | None:
        """From the kernel where it tells, else what the handler said of it in its last word."""
        if self.torchrun_ended_at_s is None:
            return None
        if self.torchrun is not None and self.torchrun.exit_code is not None:
            return self.torchrun.exit_code
        if self.handler is not None and Phase(self.handler.phase) == Phase.CLOSED:
            return 1 if self.handler.failed else 0
        return None

    # ------------------------------------------------------------- looking

    def scan(self, now_s: float, thorough: bool) -> bool:
        """Look at children, states and pages. `thorough` also at rare things. True where something matters."""
        news = self._find_ranks(now_s, thorough)
        if thorough:
            self.sweep()
        alive = [rank for rank in self.ranks if rank.exited_at_s is None]
        changed: list[PageTrack] = []
        for rank in alive:
            if fresh := rank.page is not None and rank.page.has_changed():
                changed.append(rank.page)
            # A page that changed within the last tenth of a second was not written by a stopped process.
            if thorough or not fresh or rank.state in procfs.HALTED_STATES:
                news |= self._look_at_state(rank, now_s)
        now_ns = int(now_s * 1e9)
        halted = any(rank.state in procfs.HALTED_STATES for rank in alive)
        for rank in alive:
            self._find_worker(rank, thorough)
            if rank.page is None:
                news |= self._find_page(rank, now_ns)
            elif halted:
                rank.page.taint()
        for page in changed:
            news |= page.look(now_ns, self.scanned_ns, self.gaps, halted)
        if thorough:
            for rank in alive:
                if rank.page is not None:
                    news |= rank.page.look_at_events()
                    rank.page.learn_sections(self.gaps, now_ns)
            OomCount.look_at(rank.oom for rank in alive if rank.oom is not None)
        self.scanned_ns = now_ns
        self.at_ease = len(changed) == len(alive) and not news and not halted
        return news

    def sweep(self) -> None:
        """Look for what ranks that did not end well have left behind."""
        groups = {
            group: each.identity.generation
            for each in self.ranks
            if not each.alive and each.exit_code != 0
            for group in each.groups
        }
        self.leftovers = leftovers.find(groups, self.uid, self.run_id) if groups else []

    def old_alive(self, generation: int) -> int:
        """Living processes of generations below that one."""
        ranks = sum(rank.alive and rank.identity.generation < generation for rank in self.ranks)
        return ranks + sum(each.generation < generation for each in self.leftovers)

    def facts(self, now_s: float, coordinator_connected: bool) -> JobFacts:
        """What the decision needs."""
        return JobFacts(
            ranks=(
                *(
                    RankFacts(each.pid, each.identity.generation, each.alive, each.failed_at_s, each.stamped_at_s)
                    for each in self.ranks
                ),
                *(RankFacts(each.pid, each.generation, alive=True) for each in self.leftovers),
            ),
            phase=self.phase(now_s),
            taken_generation=self.handler.taken_generation if self.handler is not None else 0,
            torchrun_dead=self.torchrun_ended_at_s is not None,
            coordinator_connected=coordinator_connected,
        )

    def newest(self) -> list[Rank]:
        """Ranks of the newest generation seen here."""
        top = self.generation
        return [rank for rank in self.ranks if rank.identity.generation == top]

    @property
    def generation(self) -> int:
        return max((rank.identity.generation for rank in self.ranks), default=0)

    def awaits_ranks(self) -> bool:
        """Whether torchrun has a world and not all of its ranks have been seen."""
        return self._ranks_to_come() > 0

    def has_all_ranks(self) -> bool:
        """Whether torchrun has a world, all of its ranks have been seen, and every rank lives."""
        return self.handler_connected and self._ranks_to_come() == 0 and all(rank.alive for rank in self.ranks)

    def _ranks_to_come(self) -> int:
        """Of torchrun's world; -1 where it has none, as far as is known."""
        handler = self.handler
        if handler is None or Phase(handler.phase) != Phase.RUNNING or not handler.generation:
            return -1
        wanted = handler.shape.ranks_per_node
        seen = sum(rank.identity.generation == handler.generation for rank in self.ranks)
        return max(wanted - seen, 0) if wanted else -1

    def complaints(self) -> list[str]:
        """What does not work, in words: files that stand where a rank's page should be and are none, and the like."""
        pages = [rank.finder.error for rank in self.ranks if rank.finder.error]
        deep = []
        try:
            run_dir.worker_socket(self.folder, self.run_id, 0)
        except run_dir.RunDirError as error:
            deep = [f"no flight recorder: {error}"]
        return [*([self.degraded] if self.degraded else []), *deep, *pages]

    def is_over(self) -> float | None:
        """Since when nothing of the job lives here; None while something does."""
        if any(rank.alive for rank in self.ranks) or self.handler_connected:
            return None
        if self.torchrun is not None and self.torchrun_ended_at_s is None:
            return None
        ends = [rank.exited_at_s for rank in self.ranks if rank.exited_at_s is not None]
        return max([*ends, self.torchrun_ended_at_s or 0.0, self.handler_lost_at_s])

    def close(self) -> None:
        self._forget_torchrun()
        for rank in self.ranks:
            self._drop(rank)
        self.ranks.clear()

    # ------------------------------------------------------------- ranks

    def add(self, found: FoundRank, now_s: float) -> Rank | None:
        """Begin to watch a rank. None where it is known already or belongs to another user."""
        if any((each.pid, each.start_ticks) == (found.pid, found.start_ticks) for each in self.ranks):
            return None
        if procfs.owner_of(found.pid) not in (self.uid, None):
            return None
        rank = self._new_rank(found)
        try:
            rank.process = Process(found.pid, found.start_ticks, self.loop, self._rank_ended)
        except (ProcessLookupError, PermissionError):
            rank.exited_at_s, rank.state = now_s, "X"
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - found.start_ticks / _TICKS_A_SECOND
        rank.born_ns = int((now_s - age_s) * 1e9)
        rank.state_since_s = now_s
        rank.oom = OomCount.of(found.pid)
        if named := procfs.read_environ(found.pid).get(ERROR_FILE):
            rank.error_file = Path(named)
        self._make_room_for(rank)
        self.ranks.append(rank)
        self.ranks_added += 1
        return rank

    def add_dead(self, found: FoundRank, now_s: float, exit_code: int | None, killed: bool) -> None:
        """A rank that ended while no agent ran."""
        rank = self._new_rank(found)
        rank.exited_at_s, rank.exit_code, rank.killed, rank.state = now_s, exit_code, killed, "X"
        self.ranks.append(rank)
        self._last_look_at_page(rank, int(now_s * 1e9))

    def _new_rank(self, found: FoundRank) -> Rank:
        page = run_dir.beat_page(self.folder, self.run_id, found.identity.local_rank)
        return Rank(found.identity, found.pid, found.start_ticks, PageFinder(page, self.uid))

    def _make_room_for(self, new: Rank) -> None:
        """Forget what ended and is older: a lower generation, or without generations the same local rank's former."""
        keep = []
        for rank in self.ranks:
            older = rank.identity.generation < new.identity.generation
            replaced = not rank.identity.generation and rank.identity.local_rank == new.identity.local_rank
            if not rank.alive and (older or replaced):
                self._drop(rank)
            else:
                keep.append(rank)
        self.ranks = keep

    def _find_ranks(self, now_s: float, thorough: bool) -> bool:
        if self.finder is None or not (thorough or now_s < self.hurry_until_s or self.awaits_ranks()):
            return False
        if self.has_all_ranks():
            return False  # others come with the next generation, which torchrun's handler tells of before they start
        added = [self.add(found, now_s) for found in self.finder.find(now_s, thorough)]
        return any(rank is not None for rank in added)

    def _look_at_state(self, rank: Rank, now_s: float) -> bool:
        if not rank.alive or rank.process is None:
            return False
        state = (rank.inner if rank.inner is not None and not rank.inner.exited else rank.process).state()
        if state == rank.state:
            return False
        matters = state in procfs.HALTED_STATES or rank.state in procfs.HALTED_STATES
        if matters:
            rank.state_since_s = now_s
        rank.state = state
        return matters

    def _look_at_page(self, rank: Rank, now_ns: int, halted: bool) -> bool:
        return rank.page is not None and rank.page.look(now_ns, self.scanned_ns, self.gaps, halted)

    def _last_look_at_page(self, rank: Rank, now_ns: int) -> None:
        """What a process that has ended left in its page."""
        if rank.page is None:
            self._find_page(rank, now_ns)
        elif rank.page.has_changed():
            self._look_at_page(rank, now_ns, halted=True)
        if rank.page is not None:
            rank.page.look_at_events()

    def _find_page(self, rank: Rank, now_ns: int) -> bool:
        """True where the rank's page is there now; it is read at once."""
        who = rank.identity
        pid = None if who.generation else rank.acting_pid
        reader = rank.finder.find(who.generation, who.local_rank, who.run_id, pid)
        if reader is None:
            rank.seen_without_page = True
            return False
        rank.page = PageTrack(reader, rank.born_ns if rank.seen_without_page else None)
        self._watch_inner(rank, reader.header)
        rank.page.has_changed()
        self._look_at_page(rank, now_ns, halted=False)
        rank.page.look_at_events()
        return True

    def _watch_inner(self, rank: Rank, header: Header) -> None:
        """Behind a wrapper script it is the script's child that can be stopped; both end together."""
        if rank.inner is None and header.pid != rank.pid and procfs.descends(header.pid, rank.pid):
            self._set_inner(rank, header.pid, header.start_ticks)

    def _find_worker(self, rank: Rank, thorough: bool) -> None:
        """Behind a `ryzen-worker` it is a process of another parent; the stub ends as soon as that has ended."""
        if rank.inner is not None or not (thorough or rank.page is None):
            return
        path = run_dir.worker_file(self.folder, self.run_id, rank.identity.local_rank)
        found = worker.behind(path, (rank.pid, rank.start_ticks), self.uid, self.run_id)
        if found is not None:
            self._set_inner(rank, *found)

    def _set_inner(self, rank: Rank, pid: int, start_ticks: int) -> None:
        def ended(_: Process) -> None:
            rank.inner_ended_at_s = time.monotonic()

        with contextlib.suppress(ProcessLookupError, PermissionError):
            rank.inner = Process(pid, start_ticks, self.loop, ended)

    def _rank_ended(self, process: Process) -> None:
        now_s = time.monotonic()
        for rank in self.ranks:
            if rank.process is process:
                rank.ended(now_s, process.exit_code, self.uid)
                self._last_look_at_page(rank, int(now_s * 1e9))
                self.hooks.event("rank_exit", self.run_id, rank.exit_fields())
        self.hooks.changed(self)

    def _torchrun_ended(self, process: Process) -> None:
        self.torchrun_ended_at_s = time.monotonic()
        code = "" if process.exit_code is None else str(process.exit_code)
        self.hooks.event("torchrun_exit", self.run_id, {"pid": str(process.pid), "exit_code": code})
        self.hooks.changed(self)

    def _forget_torchrun(self) -> None:
        if self.torchrun is not None:
            self.torchrun.close()
        if self.finder is not None:
            self.finder.close()
        self.torchrun = self.finder = None

    def _drop(self, rank: Rank) -> None:
        for process in (rank.process, rank.inner):
            if process is not None:
                process.close()
        if rank.page is not None:
            rank.page.reader.close()
