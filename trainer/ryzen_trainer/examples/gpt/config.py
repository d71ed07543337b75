"""The settings of the reference trainer: a YAML file in four groups, checked whole before anything starts.

`${VAR}` and `${VAR:-default}` in a value are taken from the environment. `--set group.key=value` wins over the
file. A wrong key or value is one line that names it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from ryzen_trainer.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Distributed(_Group):
    """How the ranks work together."""

    processes: PositiveInt = Field(default=4, description="Ranks at full strength; with fewer, each accumulates more.")
    strategy: Literal["ddp", "fsdp2"] = Field(default="ddp", description="Whole copies of the model, or shards of it.")
    backend: Literal["auto", "gloo", "nccl"] = Field(default="auto", description="auto: nccl on GPUs, gloo on CPUs.")
    timeout_s: float = Field(
        default=1800.0, gt=0, description="Limit of one collective. Too low ends a job for a long checkpoint."
    )


class Checkpoint(_Group):
    """What a restart resumes from."""

    folder: Path = Field(description="On storage that all nodes share.")
    every_steps: PositiveInt = Field(description="Too high: many steps are redone. Too low: time goes into writing.")
    keep_last: PositiveInt = Field(default=3, description="The newest clean one is kept besides.")


class Training(_Group):
    """What is computed. The result depends on all of these and on nothing else."""

    steps: PositiveInt = Field(description="Optimizer steps of the whole run.")
    global_batch: PositiveInt = Field(description="Sequences a step over all ranks, kept when the world changes.")
    micro_batch: PositiveInt = Field(description="Most sequences a rank takes in one forward.")
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(default=0, ge=0, description="The rate rises linearly for so long.")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="Of the rate after the warm-up; cosine falls to a tenth at the last step."
    )
    weight_decay: float = Field(default=0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    replica_check_every: int = Field(default=20, ge=0, description="Steps between two checks; 0: never.")
    known_answer_every: int = Field(default=100, ge=0, description="Steps between two fixed computations; 0: never.")
    recompute_check_every: int = Field(
        default=80, ge=0, description="Of so many recomputed blocks one is compared with its first output; 0: none."
    )
    replay_every: int = Field(default=500, ge=0, description="Steps between two that are computed twice; 0: never.")
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    report_every: PositiveInt = Field(default=10, description="Steps between two lines of progress.")
    evaluate_every: int = Field(default=0, ge=0, description="Steps between two evaluations on other text; 0: none.")
    evaluation_batches: PositiveInt = Field(default=8, description="Micro-batches of one, over all ranks.")
    checkpoint: Checkpoint

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> Training:
        if self.micro_batch > self.global_batch:
            raise ValueError(f"micro_batch {self.micro_batch} is larger than global_batch {self.global_batch}")
        return self


class Model(_Group):
    """The transformer; its tokens are bytes."""

    layers: PositiveInt
    heads: PositiveInt
    width: PositiveInt
    sequence_length: int = Field(ge=2)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Model:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide by heads {self.heads}")
        return self


class Hardware(_Group):
    """What the ranks run on. Parameters are float32 at either precision."""

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: a GPU a rank where there is one.")
    threads: PositiveInt = Field(default=1, description="Threads of one rank on CPUs; ranks share the node's cores.")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="Of the forward.")
    activation_checkpointing: bool = Field(
        default=False, description="Compute activations again in the backward: less memory, more time, the same bits."
    )
    deterministic: bool = Field(
        default=True, description="Only algorithms that give the same bits each time; on GPUs some are slower."
    )


class Config(_Group):
    """One run of the reference trainer."""

    distributed: Distributed
    training: Training
    model: Model
    hardware: Hardware = Hardware()


def load(file: Path, overrides: list[str] | None = None) -> Config:
    """Read and check `file`; `overrides` are "group.key=value". Raises ConfigError."""
    content = _expanded(_read(file), str(file))
    for each in overrides or []:
        _override(content, each)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        from ryzen_protos.settings import validation_lines  # late: it brings in what only a mistake needs

        raise ConfigError(validation_lines(error, Config, str(file))) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{file}{where}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: a mapping of settings is expected")
    return content


def _expanded(value: Any, where: str) -> Any:
    """Variables in texts put in; a text that was nothing but variables becomes what YAML makes of the result."""
    if isinstance(value, dict):
        return {key: _expanded(inner, f"{where}: {key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [_expanded(inner, where) for inner in value]
    if not isinstance(value, str) or not _VARIABLE.search(value):
        return value
    text = _VARIABLE.sub(lambda match: _variable(match, where), value)
    return yaml.safe_load(text) if _VARIABLE.fullmatch(value) else text


def _variable(match: re.Match[str], where: str) -> str:
    name, default = match.groups()
    found = os.environ.get(name) or default
    if found is None:
        raise ConfigError(f"{where}: the environment variable {name} is not set and has no default here")
    return found


def _override(content: dict[str, Any], given: str) -> None:
    path, separator, text = given.partition("=")
    if not separator or not path:
        raise ConfigError(f"--set {given}: give it as group.key=value")
    *groups, key = path.split(".")
    for group in groups:
        inner = content.setdefault(group, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {given}: {group} is not a group of settings")
        content = inner
    try:
        content[key] = yaml.safe_load(text)
    except yaml.YAMLError:
        content[key] = text
