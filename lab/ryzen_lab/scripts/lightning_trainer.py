"""A script with the `Trainer` of Lightning that knows nothing of Ryzen: DDP, a tiny next-token model.

It saves every `--every` steps and goes on from the newest checkpoint, by Lightning's own `ckpt_path="last"`.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

_VOCABULARY = 128
_LENGTH = 32


class Texts(Dataset[Tensor]):
    """Numbers in rising order from a place of their own; the waiting makes the long steps of a large model."""

    def __init__(self, count: int, wait_s: float) -> None:
        self._count, self._wait_s = count, wait_s

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        time.sleep(self._wait_s)
        return (torch.arange(_LENGTH + 1) + index * 37) % _VOCABULARY


class NextToken(LightningModule):
    """A transformer layer between an embedding and its projection."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(_VOCABULARY, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.out = nn.Linear(32, _VOCABULARY)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's
        logits = self.out(self.layer(self.tokens(batch[:, :-1])))
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> None:
    options = _options()
    seed_everything(options.seed, verbose=False)
    ranks, here = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    saving = ModelCheckpoint(options.checkpoints, every_n_train_steps=options.every, save_last=True, save_top_k=1)
    trainer = Trainer(
        accelerator="auto" if torch.cuda.is_available() else "cpu", devices=here, num_nodes=ranks // here,
        strategy="ddp", max_steps=options.steps, callbacks=[saving], logger=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    texts = Texts(options.batch * 4096, options.step_s / options.batch)
    trainer.fit(NextToken(), DataLoader(texts, batch_size=options.batch, shuffle=True), ckpt_path="last")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--step-s", type=float, default=0.03, help="a step takes at least this long")
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
