"""`RyzenCallback` for the `Trainer` of Lightning (`lightning` or `pytorch_lightning`).

    trainer = Trainer(..., callbacks=[RyzenCallback()])
    trainer.fit(model, ckpt_path="last")

A step of the run is one of Lightning's `global_step`: an optimizer step. It begins when the one before is done, so its
first section is "data"; the validation and the checkpoint after an optimizer step are part of the next step. Forward
and backward are told apart by `on_before_backward`, which manual optimization calls too, by `manual_backward`.

Lightning says that it is about to save, never that it has saved: the checkpoint is told as committed at the next thing
that happens, which with a plugin that saves beside the training would be too early and is left out.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError:  # the same library under its other name
    from pytorch_lightning import LightningModule, Trainer  # type: ignore[assignment]
    from pytorch_lightning.callbacks import Callback  # type: ignore[assignment]

import ryzen_trainer
from ryzen_trainer.auto import roots
from ryzen_trainer.auto.gradients import Gradients
from ryzen_trainer.auto.later import Later
from ryzen_trainer.auto.seen import Size, has_embedding, size_of
from ryzen_trainer.throughput.counting import ForwardCount, training_flops
from ryzen_trainer.throughput.device import peak_of

_COUNTED_BATCH = 2
"""The first may allocate and warm up."""


class RyzenCallback(Callback):
    """One a Trainer."""

    def __init__(self, run: ryzen_trainer.Run | None = None) -> None:
        self._run = run or ryzen_trainer.attach()
        self._begun = -1
        self._batches = 0
        self._size = Size()
        self._tokens = self._samples = 0
        self._flops = self._flops_per_token = self._flops_per_batch = 0.0
        self._loss: Tensor | None = None
        self._losses = Later()
        self._gradients = Gradients()
        self._grad_norm: float | None = None
        self._count: ForwardCount | None = None
        self._saving: int | None = None
        self._committed = -1
        self._embedded = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._embedded = has_embedding(pl_module)
        self._begin(trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._saved(trainer)
        self._run.batch_read(batch)
        self._run.now_in("forward")
        self._batches += 1
        self._size = size_of(batch, self._embedded)
        if self._batches == _COUNTED_BATCH and self._run.attached and not roots.has_compiled_anything():
            self._count = ForwardCount()
            self._count.__enter__()  # type: ignore[no-untyped-call]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._leave_count(pl_module)
        self._run.now_in("backward")
        loss = loss.detach()
        self._loss = loss if self._loss is None else self._loss + loss

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run.now_in()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self._run.now_in("optimizer")
        if self._run.attached and optimizer is _plain(trainer.optimizers[0]):
            self._grad_norm = self._gradients.after_step(optimizer, trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._leave_count(pl_module)
        self._tokens += self._size.tokens
        self._samples += self._size.samples
        self._flops += self._flops_per_token * self._size.tokens or self._flops_per_batch
        if trainer.global_step > self._begun:
            self._report(trainer)
            self._begin(trainer.global_step)
        else:
            self._run.now_in("data")  # of the next micro-batch

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run.now_in("evaluation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run.now_in("data")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved(trainer)
        self._saving = int(checkpoint.get("global_step", trainer.global_step))
        self._run.now_in("checkpoint")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved(trainer)
        self._run.finish(done=False)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave_count(pl_module)

    # ------------------------------------------------------------- within

    def _begin(self, step: int) -> None:
        self._begun = step
        self._run.now_in("data")
        self._run.step(step)

    def _report(self, trainer: Trainer) -> None:
        if self._loss is not None and self._run.attached:
            self._losses.put(self._loss)
        self._run.report(
            loss=self._losses.newest(), grad_norm=self._grad_norm,
            learning_rate=_plain(trainer.optimizers[0]).param_groups[0].get("lr") if trainer.optimizers else None,
            tokens=self._tokens, samples=self._samples, flops=self._flops or None,
        )  # fmt: skip
        self._loss = None
        self._tokens = self._samples = 0
        self._flops = 0.0

    def _saved(self, trainer: Trainer) -> None:
        step, self._saving = self._saving, None
        beside = "Async" in type(trainer.strategy.checkpoint_io).__name__
        if step is not None and step != self._committed and trainer.is_global_zero and not beside:
            self._committed = step  # a second file of the same step is no news
            self._run.checkpoint_committed(step)

    def _leave_count(self, module: LightningModule) -> None:
        count, self._count = self._count, None
        if count is None:
            return
        count.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        flops = training_flops(count, module)
        if self._size.tokens:
            self._flops_per_token = flops / self._size.tokens
        else:
            self._flops_per_batch = flops
        if flops and count.dtype is not None:
            self._run.measures(peak_flops=peak_of(module.device, count.dtype))


def _plain(optimizer: Any) -> Any:
    """torch's own, of one that Lightning has wrapped."""
    return getattr(optimizer, "optimizer", optimizer)
