"""The core is a function of what it is told."""

from __future__ import annotations

from .checker import Checker


class Replayed(Checker):
    """Every life of the coordinator is lived once more from the same records. Off where the run keeps no calls."""

    name = "replay"
    promise = "the same records, events and times give the same effects"

    def ended(self) -> None:
        for number, life in enumerate(self.sim.control.lives):
            core = life.fresh()
            for event, now_s, effects in life.calls:
                again = core.tick(now_s) if event is None else core.step(event, now_s)
                if again != effects:
                    self.broke(f"life {number}, {now_s - life.shift_s:.3f} s: {effects} became {again}")
                    break
