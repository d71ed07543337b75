"""Checks that find a device which computes wrong by its own arithmetic, while it trains."""

from ryzen_trainer.corruption.known_answer import KnownAnswer
from ryzen_trainer.corruption.recompute import RecomputeCheck
from ryzen_trainer.corruption.replay import StepReplay
from ryzen_trainer.corruption.replica import ReplicaCheck

__all__ = ["KnownAnswer", "RecomputeCheck", "ReplicaCheck", "StepReplay"]
