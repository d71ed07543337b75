"""FLOPs of a step and peaks of devices: arithmetic, and one count that knows nothing of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ryzen_trainer.throughput import of_transformer, peak_flops, peaks

SHAPE = {"parameters": 1000, "layers": 2, "heads": 4, "head_width": 8, "sequence_length": 16}


def test_a_token_costs_what_palm_says() -> None:
    assert of_transformer(**SHAPE).model == 6 * 1000 + 12 * 2 * 4 * 8 * 16


def test_palm_540b_is_worth_what_its_paper_says() -> None:
    """Table 1 (118 layers, 48 heads of 256) and appendix B (2048 tokens, 238.3 thousand of them a second, 46.2 %)."""
    found = of_transformer(parameters=540_350_000_000, layers=118, heads=48, head_width=256, sequence_length=2048)
    tokens_per_s, chips, peak = 238.3e3, 6144, 275e12
    assert found.model * tokens_per_s / (chips * peak) == pytest.approx(0.462, abs=0.001)


def test_of_a_mixture_of_experts_the_active_parameters_count() -> None:
    dense, sparse = of_transformer(**SHAPE), of_transformer(**SHAPE, active_parameters=250)
    assert dense.model - sparse.model == 6 * 750


def test_recomputation_is_work_of_the_hardware_and_not_of_the_model() -> None:
    plain, whole = of_transformer(**SHAPE), of_transformer(**SHAPE, recomputed_layers=2)
    assert plain.hardware == plain.model == whole.model
    assert whole.hardware == pytest.approx(whole.model * 8 / 6)
    assert of_transformer(**SHAPE, recomputed_layers=1).hardware == pytest.approx(whole.model * 7 / 6)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"active_parameters": 2000}, r"active_parameters is 2000, from 1 to parameters \(1000\)"),
        ({"recomputed_layers": 3}, "recomputed_layers is 3"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_in_one_line(wrong: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        of_transformer(**{**SHAPE, **wrong})


@pytest.mark.parametrize(
    ("name", "dtype", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4),
        ("NVIDIA H100 PCIe", "bfloat16", 756.5),
        ("NVIDIA H100 NVL", "bfloat16", 835.5),
        ("NVIDIA H200", "float8", 1978.9),
        ("NVIDIA GH200 480GB", "bfloat16", 989.4),
        ("NVIDIA B200", "bfloat16", 2250),
        ("NVIDIA GB200", "bfloat16", 2500),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156),
        ("NVIDIA L40S", "bfloat16", 362.05),
        ("NVIDIA L40", "bfloat16", 181.05),
        ("NVIDIA L4", "float32", 30.3),
        ("AMD Instinct MI300X", "bfloat16", 1307.4),
        ("NVIDIA A100-SXM4-80GB", "float8", None),
        ("NVIDIA GeForce GTX 970", "float32", None),
    ],
)
def test_a_device_is_known_by_its_drivers_name(name: str, dtype: str, tera: float | None) -> None:
    found = peak_flops(name, dtype)
    assert found is None if tera is None else found == pytest.approx(tera * 1e12)


def test_a_type_that_no_table_has_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype is 'int3'"):
        peak_flops("NVIDIA H100 PCIe", "int3")


def test_every_peak_has_a_source_and_half_of_eight_bits_is_sixteen() -> None:
    for each in peaks.PEAKS:
        assert each.source
        if "float8" in each.tflops:
            assert each.tflops["float8"] == pytest.approx(2 * each.tflops["bfloat16"], rel=0.02)
        if "tf32" in each.tflops:
            assert each.tflops["tf32"] == pytest.approx(each.tflops["bfloat16"] / 2, rel=0.03)


def test_the_documents_table_of_peaks_is_the_codes() -> None:
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    assert peaks.table() in text


def test_the_arithmetic_needs_no_torch() -> None:
    script = "import sys, ryzen_trainer.throughput; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
