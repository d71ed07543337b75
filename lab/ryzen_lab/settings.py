"""Options of a trial, and the script that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ryzen_protos.settings import Settings

REFERENCE = "reference"
_ROOT = Path(__file__).parents[2]


class TrialSettings(Settings):
    """One sentence a field; times in seconds."""

    model_config = SettingsConfigDict(env_prefix="RYZEN_LAB_", extra="forbid", frozen=True)

    nodes: Annotated[int, Field(ge=1, le=64)] = 2
    ranks_per_node: Annotated[int, Field(ge=1, le=64)] = 2
    spares: Annotated[int, Field(ge=0, le=16)] = 0
    min_nodes: Annotated[int, Field(ge=1)] | None = None
    fault: str = "none"
    fault_rank: str = ""
    fault_node: str = ""
    at_step: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=2)] = 100
    rdzv: Literal["ryzen", "c10d"] = "ryzen"
    bare: bool = False
    cold: bool = False
    return_after: Annotated[float, Field(ge=0)] | None = None
    script: str = REFERENCE
    arguments: tuple[str, ...] = ()
    compare: bool = True
    seed: int | None = None
    logs: Path | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 300.0

    @property
    def is_reference(self) -> bool:
        return self.script == REFERENCE


def script_command(settings: TrialSettings) -> list[str]:
    """What torchrun is given to run. `{steps}` in an argument of a foreign script is the number of steps."""
    arguments = [each.replace("{steps}", str(settings.steps)) for each in settings.arguments]
    if not settings.is_reference:
        return [str(Path(settings.script).resolve()), *arguments]
    config = _ROOT / "configs" / "demo.yaml"
    sets = [f"training.steps={settings.steps}", f"distributed.processes={settings.nodes * settings.ranks_per_node}"]
    options = [part for each in sets for part in ("--set", each)]
    return ["-m", "ryzen_trainer.examples.gpt", "--config", str(config), *options, *arguments]
