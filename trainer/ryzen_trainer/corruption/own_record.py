"""How a check in which a rank compares its arithmetic with its own stands, and when the beat page is told.

What the counts mean is the coordinator's to judge (its core/self_checks.py); here they are only kept, and told when
one has doubled or something differs. After `DIFFERED_MAX` differences there is nothing more to learn: it is off.
"""

from __future__ import annotations

import logging

from ryzen_protos.beat_self_checks import SelfCheck
from ryzen_trainer.run import Run

log = logging.getLogger(__name__)

DIFFERED_MAX = 3


class OwnRecord:
    """Of one kind of check in this process."""

    def __init__(self, run: Run, kind: int, differs: str) -> None:
        """`differs`: what the log says of the first difference."""
        self.agreed = self.differed = 0
        self._run, self._kind, self._differs = run, kind, differs
        self._begin: int | None = None
        self._clean = self._step = 0

    @property
    def over(self) -> bool:
        """It has differed so often that another time would say nothing new."""
        return self.differed >= DIFFERED_MAX

    def begin(self, steps: int) -> None:
        """This process goes on from so many steps done. Without it the first comparison tells."""
        self._begin = self._clean = steps

    def take(self, done: int, equal: bool, digest: int = 0, key: int = 0) -> None:
        """A comparison made in the step that is number `done` from 1, and whether it was equal."""
        if self._begin is None:
            self._begin = self._clean = done - 1
        if not equal:
            self.differed += 1
            if self.differed == 1:
                self._step = done
                log.warning("step %d, this rank: %s", done, self._differs)
            self._tell(self._clean, digest, key)
        elif not self.differed:
            self.agreed += 1
            self._clean = done
            if self.agreed & (self.agreed - 1) == 0:
                self._tell(self._begin, digest, key)

    def _tell(self, clean: int, digest: int, key: int) -> None:
        found = SelfCheck(self._kind, self.agreed, self.differed, clean, self._step, digest, key)
        self._run.self_checked(found)
