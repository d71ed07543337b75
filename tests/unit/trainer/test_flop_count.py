"""The formula against torch's own count of the reference model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ryzen_protos import run_dir
from ryzen_trainer.examples.gpt.config import Model
from ryzen_trainer.examples.gpt.model import VOCABULARY, Gpt, next_byte_loss
from ryzen_trainer.throughput import FlopsPerToken, of_transformer
from ryzen_trainer.throughput.counting import flops_of, multiplied_parameters
from ryzen_trainer.throughput.device import measured_cpu_peak, peak_of

DEMO = Model(layers=3, heads=4, width=64, sequence_length=64, dropout=0.1)
WIDER = Model(layers=2, heads=2, width=128, sequence_length=256, dropout=0.0)


def formula(model: Gpt, shape: Model) -> FlopsPerToken:
    return of_transformer(
        parameters=multiplied_parameters(model, tied=[model.tokens.weight]),
        layers=shape.layers,
        heads=shape.heads,
        head_width=shape.width // shape.heads,
        sequence_length=shape.sequence_length,
    )


@pytest.mark.parametrize("shape", [DEMO, WIDER])
def test_the_formula_agrees_with_torchs_count_of_the_reference_model_within_two_percent(shape: Model) -> None:
    model = Gpt(shape)
    tokens = torch.randint(VOCABULARY, (2, shape.sequence_length))
    counted = flops_of(model, lambda: next_byte_loss(model(tokens), tokens)) / tokens.numel()
    assert formula(model, shape).model == pytest.approx(counted, rel=0.02)


def test_counting_leaves_gradients_and_random_numbers_as_they_were() -> None:
    model = Gpt(DEMO)
    tokens = torch.randint(VOCABULARY, (1, DEMO.sequence_length))
    before = torch.get_rng_state()
    flops_of(model, lambda: next_byte_loss(model(tokens), tokens))
    assert torch.equal(before, torch.get_rng_state())
    assert all(each.grad is None for each in model.parameters())


def test_the_peak_of_a_cpu_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run_dir.ENVIRONMENT, str(tmp_path))
    measured_cpu_peak.cache_clear()
    found = peak_of(torch.device("cpu"), torch.float32)
    assert found is not None
    assert found > 1e6
    measured_cpu_peak.cache_clear()
    assert peak_of(torch.device("cpu"), torch.float32) == found
    for damaged in ("", "nonsense", "-1", "NaN"):
        measured_cpu_peak.cache_clear()
        for each in tmp_path.iterdir():
            each.write_text(damaged)
        assert measured_cpu_peak("float32", torch.get_num_threads()) > 1e6
    measured_cpu_peak.cache_clear()
