"""Every configuration in the repository is right, and a wrong one says where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ryzen_trainer.errors import BatchError, ConfigError
from ryzen_trainer.examples.gpt.config import Config, load
from ryzen_trainer.examples.gpt.data import Division

CONFIGS = Path(__file__).parents[3] / "configs"
DEMO = CONFIGS / "demo.yaml"
TRAINERS = [DEMO, CONFIGS / "production_4process.yaml"]


@pytest.mark.parametrize("file", TRAINERS, ids=lambda file: file.name)
def test_every_configuration_is_valid_and_divides_over_its_processes(file: Path) -> None:
    config = load(file)
    training = config.training
    division = Division(training.global_batch, training.micro_batch, config.distributed.processes)
    assert division.micro_batch * division.accumulation * division.world_size == training.global_batch


def test_the_production_batch_is_kept_down_to_one_process() -> None:
    training = load(CONFIGS / "production_4process.yaml").training
    for ranks in (4, 3, 2, 1):
        division = Division(training.global_batch, training.micro_batch, ranks)
        assert division.micro_batch * division.accumulation * ranks == training.global_batch
        assert division.micro_batch <= training.micro_batch


@pytest.mark.parametrize("file", TRAINERS, ids=lambda file: file.name)
def test_every_configuration_has_the_four_groups(file: Path) -> None:
    assert set(Config.model_fields) == {"distributed", "training", "model", "hardware"}
    assert load(file).model_fields_set == set(Config.model_fields)


def test_variables_come_from_the_environment_or_their_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(DEMO).training.steps == 100
    monkeypatch.setenv("RYZEN_DEMO_STEPS", "7")
    monkeypatch.setenv("RYZEN_CHECKPOINT_FOLDER", "/data/x")
    assert load(DEMO).training.steps == 7
    assert load(DEMO).training.checkpoint.folder == Path("/data/x")
    monkeypatch.setenv("RYZEN_DEMO_STEPS", "")
    assert load(DEMO).training.steps == 100, "an empty variable is as none, like in a shell's :-"


def test_a_variable_within_a_text_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB", "17")
    file = changed(tmp_path, "checkpoints/demo", "/data/${JOB}/x")
    file.write_text(file.read_text().replace("${RYZEN_CHECKPOINT_FOLDER:-/data/${JOB}/x}", "/data/${JOB}/x"))
    assert load(file).training.checkpoint.folder == Path("/data/17/x")


def test_a_variable_without_value_or_default_is_named(tmp_path: Path) -> None:
    file = changed(tmp_path, "${RYZEN_DEMO_STEPS:-100}", "${NOT_SET_ANYWHERE}")
    with pytest.raises(ConfigError, match="steps: the environment variable NOT_SET_ANYWHERE is not set"):
        load(file)


def test_a_setting_on_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYZEN_DEMO_STEPS", "7")
    config = load(DEMO, ["training.steps=60", "training.checkpoint.folder=/data", "training.betas=[0.8, 0.9]"])
    assert (config.training.steps, config.training.checkpoint.folder) == (60, Path("/data"))
    assert config.training.betas == (0.8, 0.9)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.stepz=4", "training.stepz: unknown key (known: betas"),
        ("optimizer.kind=sgd", "optimizer: unknown key (known: distributed, hardware, model, training)"),
        ("training.checkpoint.every=4", "training.checkpoint.every: unknown key (known: every_steps"),
        ("training.steps=-3", "training.steps: -3 is not allowed: input should be greater than 0"),
        ("training.steps=many", "training.steps: 'many' is not allowed: input should be a valid integer"),
        ("hardware.device=tpu", "hardware.device: 'tpu' is not allowed: input should be 'auto', 'cpu' or 'cuda'"),
        ("distributed.strategy=dp", "distributed.strategy: 'dp' is not allowed: input should be 'ddp' or 'fsdp2'"),
        ("model.heads=5", "model: width 64 does not divide by heads 5"),
        ("training.micro_batch=32", "training: micro_batch 32 is larger than global_batch 16"),
        ("model.dropout=1", "model.dropout: 1 is not allowed: input should be less than 1"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_that_names_it(override: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(DEMO, [override])
    text = str(caught.value)
    assert line in text
    assert text.startswith(str(DEMO))
    assert "\n" not in text


def test_each_of_two_mistakes_has_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load(DEMO, ["training.steps=0", "model.layers=none"])
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("training: [1, 2", "not valid YAML"),
        ("- a\n- b\n", "a mapping of settings is expected"),
        ("distributed: {}\n", "is needed"),
        ("training: 5\n", "training: 5 is not allowed"),
    ],
)
def test_a_file_that_is_no_configuration_says_so(tmp_path: Path, content: str, line: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=str(file)) as caught:
        load(file)
    assert line in str(caught.value)


@pytest.mark.parametrize("override", ["training.steps", "=4", "training.steps.more=4"])
def test_an_override_that_cannot_be_read_is_named(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(DEMO, [override])
    assert override.partition("=")[0] in str(caught.value)


def test_a_global_batch_that_does_not_divide_is_refused_in_one_line() -> None:
    with pytest.raises(BatchError, match="global batch 16 does not divide by 3 ranks"):
        Division(16, 2, 3)


def test_the_command_ends_with_code_2_and_the_line() -> None:
    for arguments, line in (
        (["--config", str(DEMO), "--set", "training.stepz=4"], "training.stepz: unknown key"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file or directory"),
    ):
        command = [sys.executable, "-m", "ryzen_trainer.examples.gpt", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 2
        assert line in ended.stderr
        assert len(ended.stderr.splitlines()) == 1


def changed(folder: Path, old: str, new: str) -> Path:
    content = DEMO.read_text()
    assert old in content
    file = folder / "changed.yaml"
    file.write_text(content.replace(old, new))
    return file
