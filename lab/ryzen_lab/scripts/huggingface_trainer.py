"""A script with the `Trainer` of Hugging Face that knows nothing of Ryzen: a tiny Llama with random weights.

It saves every `--every` steps and goes on from the newest checkpoint that was finished. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

_VOCABULARY = 128
_LENGTH = 32


class Texts(Dataset[dict[str, Tensor]]):
    """Numbers in rising order from a place of their own; `step_s` of waiting are the long steps of a large model."""

    def __init__(self, count: int, wait_s: float) -> None:
        self._count, self._wait_s = count, wait_s

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        time.sleep(self._wait_s)
        text = (torch.arange(_LENGTH) + index * 37) % _VOCABULARY
        return {"input_ids": text, "labels": text}


def main() -> None:
    options = _options()
    set_seed(options.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=_VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=_LENGTH,
        )
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(options.checkpoints), max_steps=options.steps, per_device_train_batch_size=options.batch,
        learning_rate=1e-3, save_steps=options.every, save_total_limit=3, logging_steps=10, report_to=[],
        disable_tqdm=True, use_cpu=not torch.cuda.is_available(), seed=options.seed, save_strategy="steps",
    )  # fmt: skip
    texts = Texts(options.batch * 4096, options.step_s / options.batch)
    Trainer(model, arguments, train_dataset=texts).train(resume_from_checkpoint=_newest(options.checkpoints))


def _newest(folder: Path) -> str | None:
    finished = [each.parent for each in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(finished, key=lambda path: int(path.name.rpartition("-")[2]))) if finished else None


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
