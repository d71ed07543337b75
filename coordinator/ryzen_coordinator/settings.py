"""Options of the commands. Every one: flag > RYZEN_* environment > YAML file (--config) > default."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from ryzen_coordinator.core.settings import CoreSettings, Grow, Mode
from ryzen_protos import settings as base
from ryzen_telemetry.settings import TelemetrySettings

DEFAULT_ADDRESS = "127.0.0.1:7700"
REPLAY_BYTES = 256 << 20

Seconds = Annotated[float, Field(gt=0, le=86400 * 30)]
Xid = Annotated[int, Field(ge=1, le=9999)]
_DEFAULT = CoreSettings()


class ServeSettings(TelemetrySettings):
    """`ryzen-coordinator serve`. The figures are explained where the core declares them (core/settings.py)."""

    listen: str = Field(DEFAULT_ADDRESS, description="HOST:PORT; beyond loopback a token is needed. Port 0: any.")
    journal: Path | None = Field(
        None, description="The journal's file; default coordinator.sqlite in the state folder."
    )
    token_file: Path | None = Field(None, description="File with the node, operator and read tokens.")
    state_dir: Path = Field(default_factory=lambda: default_state_dir(), description="Folder for journal and tokens.")
    replay_bytes: Annotated[int, Field(ge=0, le=1 << 40)] = Field(
        REPLAY_BYTES, description="Disk for the log of inputs beside the journal, for `replay`; 0 switches it off."
    )
    """Too low, what led to a decision is gone when somebody asks: 2,048 nodes of 8 ranks fill 256 MiB in 15 minutes, 64
    in eight hours (scripts/journal_cost.py). More than the disk has room for ends in a journal that cannot commit. The
    newest segment (an eighth, at least 64 KiB) always stays."""
    json_logs: bool | None = Field(None, description="Log lines as JSON; by default unless on a terminal.")

    gpu_hour_price: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        default_factory=dict, description="What an hour of a GPU costs, by its model; `*`: any other."
    )

    lease_s: Annotated[float, Field(ge=0.5, le=600)] = _DEFAULT.lease_s
    form_wait_s: Annotated[float, Field(ge=0, le=86400)] = _DEFAULT.form_wait_s
    hint_wait_s: Annotated[float, Field(ge=0, le=600)] = _DEFAULT.hint_wait_s
    rejoin_wait_s: Seconds = _DEFAULT.rejoin_wait_s
    gap_factor: Annotated[float, Field(ge=1, le=100)] = _DEFAULT.gap_factor
    gap_margin_s: Annotated[float, Field(ge=0.1, le=3600)] = _DEFAULT.gap_margin_s
    gap_unknown_s: Seconds = _DEFAULT.gap_unknown_s
    stall_floor_s: Seconds = _DEFAULT.stall_floor_s
    frozen_stack_s: Seconds = _DEFAULT.frozen_stack_s
    restart_budget: Annotated[int, Field(ge=0, le=1_000_000)] = _DEFAULT.restart_budget
    fruitless_generations: Annotated[int, Field(ge=1, le=1000)] = _DEFAULT.fruitless_generations
    grow: Grow = _DEFAULT.grow
    hang_mode: Mode = _DEFAULT.hang_mode
    desync_mode: Mode = _DEFAULT.desync_mode
    corruption_mode: Mode = _DEFAULT.corruption_mode
    divergence_mode: Mode = _DEFAULT.divergence_mode
    node_loss_mode: Mode = _DEFAULT.node_loss_mode
    health_mode: Mode = _DEFAULT.health_mode
    health_evict_on: Annotated[tuple[Xid, ...], Field(max_length=64)] = _DEFAULT.health_evict_on
    health_evict_share: Annotated[float, Field(ge=0, le=1)] = _DEFAULT.health_evict_share
    health_collect_s: Annotated[float, Field(ge=0, le=60)] = _DEFAULT.health_collect_s

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, given: dict[str, Any]) -> dict[str, Any]:
        """In a file `health:` may have its options below it: `health: {evict_on: [13, 31, 79]}`."""
        inner = given.get("health")
        if not isinstance(inner, dict):
            return given
        flat = {f"health_{key}": value for key, value in inner.items()}
        return {**flat, **{key: value for key, value in given.items() if key != "health"}}

    @field_validator("health_evict_on", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """13,31,79 on a command line, a list in a file."""
        if not isinstance(value, str):
            return value if isinstance(value, (list, tuple)) else (value,)
        return tuple(part for each in value.strip("[] ").split(",") if (part := each.strip()))

    def journal_path(self) -> Path:
        return self.journal if self.journal is not None else self.state_dir / "coordinator.sqlite"

    def core(self) -> CoreSettings:
        """The part that the decisions depend on."""
        return CoreSettings(**{f.name: getattr(self, f.name) for f in fields(CoreSettings) if hasattr(self, f.name)})


class ClientSettings(base.Settings):
    """The other commands: which coordinator, and by what right."""

    coordinator: str = Field(DEFAULT_ADDRESS, description="HOST:PORT of the coordinator.")
    token: str | None = Field(None, description="The operator or read token.")
    token_file: Path | None = Field(None, description="A file whose only line is the token, or a coordinator's own.")


def default_state_dir() -> Path:
    """$XDG_STATE_HOME/ryzen, else ~/.local/state/ryzen."""
    given = os.environ.get("XDG_STATE_HOME")
    return Path(given) / "ryzen" if given else Path.home() / ".local" / "state" / "ryzen"
