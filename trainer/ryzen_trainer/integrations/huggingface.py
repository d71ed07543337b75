"""`RyzenCallback` for the `Trainer` of Hugging Face transformers.

    trainer = Trainer(..., callbacks=[RyzenCallback()])
    trainer.train(resume_from_checkpoint=newest_checkpoint(args.output_dir))

A step of the run is an optimizer step of the Trainer, by its own number. The Trainer says when one begins and is done,
that it saves and evaluates; forward, backward, tokens, loss and FLOPs are seen at the outermost model, as by
`ryzen_trainer.auto`. Gradient norm and the mean loss come with the Trainer's own log, so every `logging_steps`.

The batches of a step are fetched before the Trainer says that it begins: what lies between two steps, logging and
evaluation and saving apart, is the section "data".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

import ryzen_trainer
from ryzen_trainer.auto.model import Model, models_of

_STATE = "trainer_state.json"
"""Written near the end of a checkpoint: a folder without it was left by a killed process."""


def newest_checkpoint(folder: str | os.PathLike[str], run: ryzen_trainer.Run | None = None) -> str | None:
    """The newest checkpoint of the Trainer that may be resumed from, None where there is none: give it to `train()`.

    Unlike the Trainer's own choice it leaves out what was never finished and, after a rollback, what is too new.
    """
    limit = (run or ryzen_trainer.attach()).resume_at_most
    found = {}
    for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*/{_STATE}"):
        step = path.parent.name.rpartition("-")[2]
        if step.isdecimal() and (limit is None or int(step) <= limit):
            found[int(step)] = path.parent
    return str(found[max(found)]) if found else None


class RyzenCallback(TrainerCallback):
    """One a Trainer."""

    def __init__(self, run: ryzen_trainer.Run | None = None) -> None:
        self._run = run or ryzen_trainer.attach()
        self._begun = -1
        self._models: list[Model] | None = None
        self._figures: dict[str, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        self._begin(state.global_step)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        self._begin(state.global_step)
        self._in("")

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        self._in("optimizer")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        optimizer = kwargs.get("optimizer")
        if optimizer is None:
            return
        if self._models is None:
            self._models = models_of(optimizer, self._run, self._let_go) if self._run.attached else []
        self._figures["learning_rate"] = optimizer.param_groups[0].get("lr")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        seen = [each.take() for each in self._models or []]
        self._figures["loss"] = next((each.loss for each in seen if each.loss is not None), self._figures.get("loss"))
        self._figures["flops"] = sum(each.flops for each in seen) or None
        self._run.report(
            tokens=sum(each.tokens for each in seen), samples=sum(each.samples for each in seen), **self._figures
        )
        if control.should_evaluate or control.should_save:
            self._in("evaluation" if control.should_evaluate else "checkpoint")
        else:
            self._begin(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_kwargs: Any,
    ) -> None:
        self._figures.update((name, logs[name]) for name in ("loss", "grad_norm") if logs and name in logs)
        self._run.report(**self._figures)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        if control.should_save:
            self._in("checkpoint")
        else:
            self._begin(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._run.checkpoint_committed(state.global_step)
        self._begin(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:
        self._run.finish(done=self._begun < state.global_step)
        self._let_go()

    def _begin(self, step: int) -> None:
        """Of this step, if it has not begun yet. It begins with its data."""
        if step != self._begun:
            self._begun = step
            self._in("data")
            self._run.step(step)

    def _in(self, section: str) -> None:
        self._run.now_in(section)
        for each in self._models or []:
            each.around = section

    def _let_go(self) -> None:
        for each in self._models or []:
            each.let_go()
        self._models = []
