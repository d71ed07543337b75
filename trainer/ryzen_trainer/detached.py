"""A run that nobody can see: outside torchrun, or without a run directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from ryzen_protos.beat_self_checks import SelfCheck
from ryzen_trainer.run import RESUME_AT_MOST, Item, Run, Section, resume_at_most


class DetachedRun(Run):
    """What `attach()` returns where no agent could see the run: every call does nothing."""

    def __init__(self) -> None:
        self._nothing = contextlib.nullcontext()
        self.resume_at_most = resume_at_most(os.environ.get(RESUME_AT_MOST, ""))

    @property
    def attached(self) -> bool:
        return False

    @property
    def number(self) -> int:
        return 0

    def step(self, number: int) -> None: ...

    def steps(self, items: Iterable[Item], start: int = 0) -> Iterator[Item]:  # noqa: ARG002
        return iter(items)

    def batch_read(self, batch: object) -> None: ...

    def section(self, name: str) -> Section:  # noqa: ARG002
        return self._nothing

    def pause(self, name: str = "") -> Section:  # noqa: ARG002
        return self._nothing

    def now_in(self, name: str = "") -> None: ...

    def report(self, **figures: object) -> None: ...

    def measures(self, **figures: object) -> None: ...

    def computes_on(self, uuid: str, pci: str = "") -> None: ...

    def sum_done(self, started_ns: int, ended_ns: int) -> None: ...

    def checkpoint_committed(self, step: int) -> None: ...

    def step_skipped(self, *, nonfinite: bool = False) -> None: ...

    def ask_for_rollback(self, step: int) -> None: ...

    def checked(self, done: int, digest: int, group: int = 0) -> None: ...

    def self_checked(self, found: SelfCheck) -> None: ...

    def finish(self, *, done: bool = True) -> None: ...

    def failed(self, error_type: str, message: str) -> None: ...

    def detach(self) -> None: ...
