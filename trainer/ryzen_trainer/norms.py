"""What gradient norms are usual: the arithmetic of the guard (guard.py), with no tensor and no clock in it.

A running mean and deviation, exponentially weighted (the recurrence of T. Finch, "Incremental calculation of weighted
mean and variance", 2009, section 9):

    diff = x - mean;  step = a * diff;  mean += step;  variance = (1 - a) * (variance + diff * step)

with a = max(1/n, 1/window) for the n-th norm, which makes the first `window` of them a plain average. From these:

    norm above skip_factor * mean     a spike: the step is not done, and the norm enters no estimate
    norm above the clip limit         clipped; it enters as if it were the limit, so that one high norm moves the
                                      estimates by no more than that, and a lasting change is still learned
    NaN or infinity                   not done, enters nothing
    the first `warmup` norms          clipped only where the user set a clip, and skipped only if not finite

The clip limit is max(floor, mean + sigmas * deviation), and never above a clip that the user set.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

Judgement: TypeAlias = Literal["step", "spike", "nonfinite"]


@dataclass(frozen=True, slots=True)
class Limits:
    """When a gradient norm is unusual. Raises ValueError for what makes no sense."""

    sigmas: float = 4.0
    """Deviations above the mean from which gradients are clipped. Lower, ordinary steps are shortened."""
    floor: float = 1.0
    """No clip limit of ours is below this: late in training deviations are tiny."""
    skip_factor: float = 20.0
    """Times the mean from which a step is skipped. Lower, a rare but honest batch is thrown away."""
    window: int = 100
    """Norms over which the running estimates forget (1/e)."""
    warmup: int = 50
    """Norms before the estimates mean anything. Higher, spikes at the start go through."""
    rollback_after: int = 5
    """Steps skipped in a row before a rollback is asked for; 0: never."""

    def __post_init__(self) -> None:
        if not (self.sigmas >= 0 and self.floor >= 0 and self.skip_factor > 1):
            raise ValueError(f"guard limits: sigmas and floor from 0, skip_factor above 1: {self}")
        if self.window < 1 or self.warmup < 1 or self.rollback_after < 0:
            raise ValueError(f"guard limits: window and warmup from 1, rollback_after from 0: {self}")


@dataclass(slots=True)
class Norms:
    """The running estimates. Equal norms in, equal judgements out: ranks that see the same global norm decide alike."""

    limits: Limits = field(default_factory=Limits)
    max_norm: float | None = None
    """A clip that the user set; no limit is looser."""
    mean: float = 0.0
    variance: float = 0.0
    seen: int = 0
    """Norms that entered."""
    skipped: int = 0
    in_a_row: int = 0

    @property
    def warm(self) -> bool:
        return self.seen >= self.limits.warmup

    @property
    def clip_limit(self) -> float:
        """The norm to which the gradients of the next step are clipped; infinity while there is none."""
        own = math.inf
        if self.warm:
            own = max(self.limits.floor, self.mean + self.limits.sigmas * math.sqrt(self.variance))
        return own if self.max_norm is None else min(own, self.max_norm)

    @property
    def skip_limit(self) -> float:
        """The norm above which a step is skipped; infinity during the warm-up or while all norms were 0."""
        return self.limits.skip_factor * self.mean if self.warm and self.mean > 0 else math.inf

    def judge(self, norm: float) -> Judgement:
        """What is done with a step of this global gradient norm, before clipping. Takes it into the estimates."""
        if not math.isfinite(norm):
            return self._skip("nonfinite")
        if norm > self.skip_limit:
            return self._skip("spike")
        self.in_a_row = 0
        self._learn(norm)
        return "step"

    def wants_rollback(self) -> bool:
        """Whether the step just judged makes a row of skips that is as long as it may be. Once a row."""
        return 0 < self.limits.rollback_after == self.in_a_row

    def state(self) -> dict[str, Any]:
        """What `load` goes on from: plain numbers. Limits are the script's and not part of it."""
        kept = asdict(self)
        del kept["limits"], kept["max_norm"]
        return kept

    def load(self, state: dict[str, Any]) -> None:
        """Raises ValueError for what `state` never gives."""
        mean, variance = float(state["mean"]), float(state["variance"])
        seen, skipped, in_a_row = (int(state[name]) for name in ("seen", "skipped", "in_a_row"))
        if not (math.isfinite(mean) and 0 <= variance < math.inf and min(mean, seen, skipped, in_a_row) >= 0):
            raise ValueError(f"not the state of a gradient guard: {state}")
        self.mean, self.variance = mean, variance
        self.seen, self.skipped, self.in_a_row = seen, skipped, in_a_row

    def _skip(self, why: Judgement) -> Judgement:
        self.skipped += 1
        self.in_a_row += 1
        return why

    def _learn(self, norm: float) -> None:
        if self.warm:
            own = max(self.limits.floor, self.mean + self.limits.sigmas * math.sqrt(self.variance))
            norm = min(norm, own)
        self.seen += 1
        share = max(1.0 / self.seen, 1.0 / self.limits.window)
        difference = norm - self.mean
        step = share * difference
        self.mean += step
        self.variance = (1.0 - share) * (self.variance + difference * step)
