"""The checks that find a device which computes wrong, as this trainer uses them (docs/corruption.md)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ryzen_trainer.corruption import KnownAnswer, RecomputeCheck, ReplicaCheck, StepReplay
from ryzen_trainer.examples.gpt.config import Config
from ryzen_trainer.examples.gpt.model import Gpt
from ryzen_trainer.run import Run


@dataclass
class Checks:
    """All four; each is switched off by an interval of 0."""

    replicas: ReplicaCheck
    known_answer: KnownAnswer
    recompute: RecomputeCheck
    replay: StepReplay

    @classmethod
    def of(cls, config: Config, run: Run, device: torch.device, plain: Gpt, model: nn.Module) -> Checks:
        """`plain`: the model before it was wrapped."""
        training = config.training
        recompute = RecomputeCheck(run, every=training.recompute_check_every)
        if config.hardware.activation_checkpointing:
            plain.segment = lambda block, x: checkpoint(recompute.segment(block), x, use_reentrant=False)
        return cls(
            ReplicaCheck(model, run, every=training.replica_check_every),
            KnownAnswer(run, device, every=training.known_answer_every),
            recompute,
            StepReplay(model, run, every=training.replay_every),
        )

    def suspect(self) -> None:
        """The guard has skipped a step, as on all ranks."""
        self.replay.suspect()
        self.replicas.suspect()

    def step(self) -> None:
        """The optimizer's step is done."""
        self.replicas.step()
        self.known_answer.step()
        self.recompute.step()
