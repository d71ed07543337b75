"""The callbacks in the real training loops that they are for: tiny models with random weights, nothing downloaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatReader, Event

RANK = {"TORCHELASTIC_RUN_ID": "job", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}
ALONE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0"}

HUGGINGFACE = """
import torch, sys
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed
from ryzen_trainer.integrations.huggingface import RyzenCallback, newest_checkpoint

set_seed(1)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=16))
texts = [{"input_ids": (torch.arange(16) + i) % 64, "labels": (torch.arange(16) + i) % 64} for i in range(64)]
arguments = TrainingArguments("checkpoints", max_steps=6, per_device_train_batch_size=2, gradient_accumulation_steps=2,
    save_steps=3, eval_strategy="steps", eval_steps=2, logging_steps=2, report_to=[], disable_tqdm=True, use_cpu=True)
callbacks = [RyzenCallback()] if "ryzen" in sys.argv else []
trainer = Trainer(model, arguments, train_dataset=texts, eval_dataset=texts[:4], callbacks=callbacks)
trainer.train(resume_from_checkpoint=newest_checkpoint("checkpoints") if "resume" in sys.argv else None)
print(float(sum(each.double().sum() for each in model.parameters())), torch.rand(1))
"""

LIGHTNING = """
import torch, sys
from torch import nn
from torch.utils.data import DataLoader
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from ryzen_trainer.integrations.lightning import RyzenCallback

class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(64, 8), nn.Linear(8, 64)
    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.out(self.words(batch)).flatten(0, 1), batch.flatten())
    def validation_step(self, batch, batch_idx):
        self.training_step(batch, batch_idx)
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

seed_everything(1, verbose=False)
net = Net()
texts = [(torch.arange(16) + i) % 64 for i in range(64)]
saving = ModelCheckpoint("checkpoints", every_n_train_steps=3, save_last=True, save_top_k=-1)
callbacks = [saving, *([RyzenCallback()] if "ryzen" in sys.argv else [])]
trainer = Trainer(accelerator="cpu", devices=1, max_steps=6, accumulate_grad_batches=2, callbacks=callbacks,
    logger=False, enable_progress_bar=False, enable_model_summary=False, val_check_interval=4)
trainer.fit(net, DataLoader(texts, batch_size=2), DataLoader(texts[:4], batch_size=2),
    ckpt_path="last" if "resume" in sys.argv else None)
print(float(sum(each.double().sum() for each in net.parameters())), torch.rand(1))
"""


def train(folder: Path, source: str, *words: str) -> str:
    """The script's last line; its beat page is in `folder`."""
    script = folder / "train.py"
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, str(script), *words], cwd=folder, capture_output=True, text=True, timeout=200, check=False,
        env={**os.environ, **RANK, **ALONE, "RYZEN_RUN_DIR": str(folder / "run")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("source", [HUGGINGFACE, LIGHTNING], ids=["huggingface", "lightning"])
def test_a_training_is_told_step_by_step_and_not_changed(tmp_path: Path, source: str) -> None:
    pytest.importorskip("transformers" if source is HUGGINGFACE else "lightning")
    plain, told = tmp_path / "plain", tmp_path / "told"
    for each in (plain, told):
        each.mkdir()
    last = train(told, source, "ryzen")
    assert last == train(plain, source), "the same parameters and the same random numbers"
    reader = BeatReader(run_dir.beat_page(told / "run", "job", 0))
    seen = reader.progress()
    assert seen is not None
    assert (seen.step, seen.steps_done, seen.section) == (6, 6, "(end)")
    tokens = 2 * 2 * 16
    assert seen.tokens in {6 * tokens, 5 * tokens}, "the model may be known after the first step only"
    assert seen.samples in {6 * 4, 5 * 4}
    assert seen.loss is not None
    assert 1 < seen.loss < 6
    assert seen.grad_norm is not None
    assert seen.learning_rate is not None
    assert seen.flops is not None
    assert seen.flops > 0
    assert {"data", "forward", "backward", "optimizer", "evaluation", "checkpoint"} <= set(reader.section_names())
    assert [each.step for each in reader.events() if each.kind == Event.CHECKPOINT] == [3, 6]
    newest = list(reader.steps())[-1]
    spent = dict(zip(reader.section_names(), newest.sections, strict=False))
    assert spent["forward"] > 0
    assert spent["backward"] > 0
    assert sum(newest.sections) == pytest.approx(newest.duration_ns / 1e9, rel=0.02)


@pytest.mark.long
@pytest.mark.parametrize("source", [HUGGINGFACE, LIGHTNING], ids=["huggingface", "lightning"])
def test_steps_go_on_from_the_checkpoint_that_is_resumed_from(tmp_path: Path, source: str) -> None:
    train(tmp_path, source.replace("max_steps=6", "max_steps=3"), "ryzen")
    train(tmp_path, source, "ryzen", "resume")
    reader = BeatReader(run_dir.beat_page(tmp_path / "run", "job", 0))
    assert [each.step for each in reader.steps()] == [3, 4, 5]


def test_no_unfinished_and_no_too_new_checkpoint_is_resumed_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    import ryzen_trainer
    from ryzen_trainer.integrations.huggingface import newest_checkpoint

    assert newest_checkpoint(tmp_path) is None
    for step in (9, 20, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (9, 20):
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").touch()
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-20")
    monkeypatch.setenv("RYZEN_RESUME_AT_MOST", "19")
    assert newest_checkpoint(tmp_path, ryzen_trainer.attach()) == str(tmp_path / "checkpoint-9")
