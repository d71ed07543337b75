"""Checks that find a device which computes wrong by its own arithmetic, while it trains."""

from ryzen_trainer.corruption.replica import ReplicaCheck

__all__ = ["ReplicaCheck"]
