"""Faults of the arithmetic: every process lives and every collective is done, with a wrong number in it."""

from __future__ import annotations

from typing import Any

from ryzen_lab.errors import UsageError
from ryzen_lab.faults.base import Aim, Fault
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


PLACES = ("weight", "activation", "gradient", "reduced-gradient")
FINDABLE = ("weight", "reduced-gradient")
"""What the replica check sees, with nothing switched on: where a bit flips unless it is said."""
UPPER_BITS = 0.5
"""The upper half of the bits flips: a lower one is mostly rounded away before anything is compared."""


class BitFlip(Ordered):
    """One bit of one rank's weights, activations or gradients, before or after these are summed over the ranks."""

    kind = "bitflip"
    needs = "gradients before the sum are struck where parameters are not sharded"

    def __init__(self) -> None:
        self.place = ""
        self.probability: float | None = None

    def order(self, aim: Aim) -> dict[str, Any]:
        part, at, bit = (aim.chance.random() for _ in range(3))
        where = self.place or aim.chance.choice(FINDABLE)
        bit = UPPER_BITS + (1.0 - UPPER_BITS) * bit
        order = {"do": "bitflip", "where": where, "part": part, "at": at, "bit": bit}
        if self.probability is not None:
            order |= {"probability": self.probability, "least_bit": UPPER_BITS, "seed": aim.chance.getrandbits(32)}
        return order


def tell_flips(faults: list[Fault], place: str, probability: float | None) -> None:
    """Where the flips of the kind `bitflip` strike, and how often. Raises UsageError for a place that is none."""
    if place and place not in PLACES:
        raise UsageError(f"option --flip: {place!r} is not allowed: {', '.join(PLACES)}")
    flips = [each for each in faults if isinstance(each, BitFlip)]
    if (place or probability is not None) and not flips:
        raise UsageError("options --flip and --flip-probability are for the kind 'bitflip'")
    for each in flips:
        each.place, each.probability = place, probability
