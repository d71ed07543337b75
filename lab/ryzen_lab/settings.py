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
    """Nodes beyond the world; their torchruns start once the world's ranks have."""
    min_nodes: Annotated[int, Field(ge=1)] | None = None
    """torchrun's MIN; None: all nodes, so that the job waits for a lost one."""
    fault: str = "none"
    """A kind, or several with commas: they are done at one moment, in this order."""
    fault_rank: str = ""
    """Whom the kinds that strike a rank take, in turn; random where it ends."""
    fault_node: str = ""
    xid: str = "79"
    """Which one the kind `xid` is; of several, in turn: `31,79`."""
    flip: str = ""
    """Where the kind `bitflip` strikes: weight, activation, gradient (before the sum) or reduced-gradient; empty: a
    weight or a reduced gradient."""
    flip_probability: Annotated[float, Field(gt=0, le=1)] | None = None
    """It flips with this probability in each step from then on; None: once."""
    at_step: Annotated[int, Field(ge=1)] | None = None
    """The fault comes within the step after this one; None: a random one in the middle of the run."""
    steps: Annotated[int, Field(ge=2)] = 100
    """Too few, and the job is over before what was killed comes back."""
    rdzv: Literal["ryzen", "c10d"] = "ryzen"
    bare: bool = False
    """torchrun alone: no coordinator and no agents beside it."""
    cold: bool = False
    """Ranks are fresh interpreters, not forked from a process that has imported torch; torchrun alone has no others."""
    return_after: Annotated[float, Field(ge=0)] | None = None
    """Seconds; None: 3 for agents and the coordinator, never for nodes."""
    script: str = REFERENCE
    arguments: tuple[str, ...] = ()
    auto: bool = False
    """A foreign script below `python -m ryzen_trainer.auto`."""
    compare: bool = True
    """Two runs of a foreign script beforehand, to learn whether its digests compare."""
    stall_floor_s: Annotated[float, Field(gt=0)] | None = None
    """The coordinator's stall floor; None: the product's own default. A lower one is stated in the result."""
    seed: int | None = None
    """Decides moment, victim and place of the fault; None: random."""
    logs: Path | None = None
    patience_s: Annotated[float, Field(gt=0)] | None = None
    """From the fault to the first new step; a job that has not recovered by then is cut off, with a result that says
    so. None: only `timeout_s` is a limit, and then there is no result."""
    timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Of one whole trial; too low cuts off a recovery that would have come."""

    @property
    def is_reference(self) -> bool:
        return self.script == REFERENCE


def preload(settings: TrialSettings) -> str:
    """What a user with this script would name in RYZEN_PRELOAD; of a foreign script the lab knows nothing."""
    return "ryzen_trainer.examples.gpt.training" if settings.is_reference else ""


def script_command(settings: TrialSettings) -> list[str]:
    """What torchrun is given to run. `{steps}` in an argument of a foreign script is the number of steps."""
    arguments = [each.replace("{steps}", str(settings.steps)) for each in settings.arguments]
    if not settings.is_reference:
        under = ["-m", "ryzen_trainer.auto"] if settings.auto else []
        return [*under, str(Path(settings.script).resolve()), *arguments]
    config = _ROOT / "configs" / "demo.yaml"
    sets = [f"training.steps={settings.steps}", f"distributed.processes={settings.nodes * settings.ranks_per_node}"]
    options = [part for each in sets for part in ("--set", each)]
    return ["-m", "ryzen_trainer.examples.gpt", "--config", str(config), *options, *arguments]
