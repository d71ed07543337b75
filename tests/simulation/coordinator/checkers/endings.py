"""How the job ends."""

from __future__ import annotations

from typing import Any

from ryzen_coordinator.core.phases import OVER

from .checker import Checker

NOT_REQUEUED = 93


class Endings(Checker):
    """Finished with 0 where enough nodes are there; else with a decision that is kept and says why."""

    name = "endings"
    promise = "the job finishes with exit code 0, or ends by a decision that says why, or waits for nodes and says so"

    def ended(self) -> None:
        sim = self.sim
        last = self._last_word()
        codes = {name: node.torchrun.exit_code for name, node in sim.nodes.items() if not node.gone}
        left = {name for name, code in codes.items() if code is None and self._belongs(name)}
        if last is None:
            self.broke(f"nothing was kept of the job; exit codes {codes}")
        elif last["phase"] not in OVER:
            if self._enough() and sim.finished_s is None:
                self.broke(f"at {sim.now_s:.0f} s the job is {last['phase']}: {last['note']}; exit codes {codes}")
        elif left:
            self.broke(f"the job is {last['phase']} ({last['note']}), but torchrun still lives on {', '.join(left)}")
        else:
            self._check_codes(last["phase"], last["exit_code"], last["note"], codes)

    def _check_codes(self, phase: str, code: int, note: str, codes: dict[str, int | None]) -> None:
        finished = self.sim.finished_s is not None
        allowed = {0, -9, None, code}
        if set(codes.values()) - allowed:
            self.broke(f"{phase}: exit codes {codes}, decided {code}")
        if code == 0 and not finished:
            self.broke(f"{phase} with 0, but the last step was never done")
        if code != 0 and not note:
            self.broke(f"{phase} with {code} without a word")
        if code != 0 and finished and not self._struck_at_the_end():
            self.broke(f"every step was done, nothing was wrong at the end, but the job is {phase} with {code}: {note}")

    def _struck_at_the_end(self) -> bool:
        """A fault while the job was ending: then it may end with the failure."""
        end_s = self.sim.finished_s or 0.0
        return any(fault.struck_s is not None and fault.struck_s > end_s - 6.0 for fault in self.sim.struck)

    def _last_word(self) -> dict[str, Any] | None:
        records = self.sim.control.records
        return next((body for (kind, _), body in records.items() if kind == "job"), None)

    def _belongs(self, name: str) -> bool:
        """Not a torchrun that came when the job was over: that began a run of its own."""
        torchrun = self.sim.nodes[name].torchrun
        return torchrun.generation > 0

    def _enough(self) -> bool:
        awake = [node for node in self.sim.nodes.values() if not node.gone and node.torchrun.alive]
        return len(awake) >= self.sim.case.minimum
