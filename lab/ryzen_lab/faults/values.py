"""Faults of the arithmetic: every process lives and every collective is done, with a wrong number in it."""

from __future__ import annotations

from typing import Any, ClassVar

from ryzen_lab.faults.base import Aim
from ryzen_lab.faults.injected import Ordered

SPIKE_TIMES = 1000.0
"""Of one rank's gradients: in the mean over a few ranks that is far above any norm that a guard lets through."""


class Nan(Ordered):
    """One backward of one rank gives NaN; the sum over the ranks carries it to all. A guard skips that step."""

    kind = "nan"
    interrupts = False

    def order(self, aim: Aim) -> dict[str, Any]:  # noqa: ARG002 - nothing to choose
        return {"do": "nan"}


class Spike(Ordered):
    """One backward of one rank gives gradients 1,000 times as large. A guard skips that step."""

    kind = "spike"
    interrupts = False

    def order(self, aim: Aim) -> dict[str, Any]:  # noqa: ARG002 - nothing to choose
        return {"do": "spike", "times": SPIKE_TIMES}


class BitFlip(Ordered):
    """One bit of a weight after the optimizer's step, or of a gradient after the sum over the ranks, on one rank."""

    kind = "bitflip"
    places: ClassVar[tuple[str, ...]] = ("weight", "gradient")

    def order(self, aim: Aim) -> dict[str, Any]:
        part, at, bit = (aim.chance.random() for _ in range(3))
        return {"do": "bitflip", "where": aim.chance.choice(self.places), "part": part, "at": at, "bit": bit}
