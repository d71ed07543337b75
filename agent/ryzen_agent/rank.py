"""One process of a job, as far as it is known."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from ryzen_agent.beats import PageFinder, PageTrack
from ryzen_agent.endings import OomCount, read_error_file
from ryzen_agent.probe import Probe
from ryzen_agent.process import Process
from ryzen_agent.ranks import RankIdentity


@dataclass(slots=True, eq=False)
class Rank:
    """One process of the job. `process` is None where it was dead before this agent could watch it."""

    identity: RankIdentity
    pid: int
    start_ticks: int
    finder: PageFinder
    process: Process | None = None
    inner: Process | None = None
    """The process that does the work, where torchrun's child is only a wrapper around it or a forked rank's stub."""
    inner_ended_at_s: float | None = None
    born_ns: int | None = None
    state: str = "R"
    state_since_s: float = 0.0
    exited_at_s: float | None = None
    exit_code: int | None = None
    killed: bool = False
    page: PageTrack | None = None
    error: tuple[str, str] | None = None
    """Type and message from torchrun's error file, read at its end."""
    error_file: Path | None = None
    oom: OomCount | None = None
    oom_killed: bool = False
    probe: Probe | None = None
    """While evidence is asked for."""
    seen_without_page: bool = False
    """The agent saw it begin, so the silence before its first record can be measured."""

    @property
    def alive(self) -> bool:
        return self.exited_at_s is None

    @property
    def acting_pid(self) -> int:
        """Of the process that does the work."""
        return self.pid if self.inner is None or self.inner.exited else self.inner.pid

    @property
    def device(self) -> tuple[str, str]:
        """UUID and PCI address of the GPU it computes on, as its page says; "" each where that is not known."""
        return self.page.device() if self.page is not None else ("", "")

    @property
    def groups(self) -> set[int]:
        """Process groups that it leads or led: of torchrun's child, and of a rank that was forked apart from it."""
        own = {self.pid} if self.process is None or self.process.group == self.pid else set()
        return own | ({self.inner.pid} if self.inner is not None and self.inner.group == self.inner.pid else set())

    @property
    def stamped_at_s(self) -> float | None:
        return self.page.failure.at_ns / 1e9 if self.page is not None and self.page.failure is not None else None

    @property
    def failed_at_s(self) -> float | None:
        """When it is known to have ended other than by exit 0 or by our hand. A code that nobody could read proves
        nothing: siblings must not be killed for it."""
        return self.exited_at_s if self.exit_code not in {0, None} and not self.killed else None

    @property
    def told_error(self) -> tuple[str, str] | None:
        """Type and message of the exception that ends it: as stamped in its page, else from its error file."""
        failure = self.page.failure if self.page is not None else None
        return (failure.type, failure.message) if failure is not None else self.error

    def ended(self, now_s: float, exit_code: int | None, uid: int) -> None:
        """It is no more. `uid`: whose job it was."""
        self.exited_at_s, self.exit_code, self.state = now_s, exit_code, "X"
        self.oom_killed = exit_code == -signal.SIGKILL and not self.killed and bool(self.oom and self.oom.has_grown())
        if exit_code != 0 and self.error_file is not None:
            self.error = read_error_file(self.error_file, uid)

    def exit_fields(self) -> dict[str, str]:
        """What the history says of its end."""
        fields = {
            "rank": str(self.identity.rank),
            "generation": str(self.identity.generation),
            "pid": str(self.pid),
            "exit_code": "" if self.exit_code is None else str(self.exit_code),
            "killed_by_agent": str(self.killed).lower(),
        }
        if (error := self.told_error) is not None:
            fields["error"] = f"{error[0]}: {error[1]}"
        if self.oom_killed:
            fields["oom_killed"] = "true"
        return fields
