"""Options of the agent: flag > RYZEN_* environment > YAML file > default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from ryzen_agent.health.settings import HealthSettings
from ryzen_protos import run_dir as run_directory
from ryzen_protos.settings import SettingsError
from ryzen_telemetry.settings import TelemetrySettings

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class AgentSettings(TelemetrySettings):
    """One node's agent. A node is known by `node`, else by its host name."""

    coordinator: str = Field(default="127.0.0.1:7700", description="HOST:PORT of the coordinator")
    token: str | None = Field(
        default=None,
        pattern=r"^\S+$",
        description="join token of the coordinator; in the environment or a file it is seen by fewer",
    )
    token_file: Path | None = Field(default=None, description="file with the join token, if no token is given")
    node: str | None = Field(default=None, description="unique name of this node (default: the host name)")
    node_rank: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        default=None, description="hint for this node's place in the order of the first world"
    )
    address: str | None = Field(
        default=None,
        min_length=1,
        description="where other nodes reach this one (default: where packets to the coordinator leave from)",
    )
    run_dir: Path | None = Field(
        default=None,
        description="run directory shared with the ranks (default: /run/ryzen/UID, else /dev/shm/ryzen-UID)",
    )
    labels: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict, description="rack, switch, power ... as key=value,key=value"
    )
    device_model: str = Field(
        default="",
        max_length=128,
        description="model of the GPUs, for the price of an hour (default: the driver's word)",
    )
    json_logs: bool | None = Field(
        default=None, description="log one JSON object a line (default: unless standard error is a terminal)"
    )
    scan_interval_s: float = Field(
        default=0.125,
        ge=0.02,
        le=1.0,
        description="between two looks at states and pages; lower costs CPU, higher sees a frozen rank later",
    )
    spool_bytes: int = Field(
        default=4 << 20,
        ge=65536,
        le=1 << 30,
        description="of events kept while cut off from the coordinator; lower forgets older ones sooner",
    )

    preload: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="for `run`: modules that are imported before ranks are forked, beside torch: name,name",
    )
    warm: Literal["fork", "context"] = Field(
        default="fork",
        description="for `run`: `context` keeps a process beside each rank that has its GPU's context already",
    )
    health: bool = Field(default=True, description="watch the kernel log, the GPUs and the host")
    health_without: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="collectors that do not run: name,name; the status names those that do not work"
    )
    kmsg_path: Path = Field(
        default=Path("/dev/kmsg"), description="kernel log: the device, or a file or FIFO of its lines"
    )
    expected_gpus: Annotated[int, Field(ge=0, le=1024)] | None = Field(
        default=None, description="GPUs that this node should have (default: as many as its PCI bus shows)"
    )
    gpu_interval_s: float = Field(
        default=10.0,
        ge=0.1,
        le=3600.0,
        description="between two looks at the GPUs; lower costs CPU and wakes idle GPUs, higher sees heat later",
    )
    power_cap_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        default=None,
        description="of the default power limit, to which that of a throttling GPU is lowered (default: never)",
    )
    infiniband_exclude: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="ports that are not looked at: mlx5_3,mlx5_4"
    )
    checkpoint_folder: Path | None = Field(
        default=None, description="where space is watched and a small write is tried (default: nowhere)"
    )

    def health_settings(self, state_folder: Path) -> HealthSettings | None:
        """For the collectors; None where none is to run."""
        if not self.health:
            return None
        return HealthSettings(
            kmsg_path=self.kmsg_path,
            state_folder=state_folder,
            expected_gpus=self.expected_gpus,
            gpu_interval_s=self.gpu_interval_s,
            infiniband_exclude=self.infiniband_exclude,
            checkpoint_folder=self.checkpoint_folder,
            power_cap_share=self.power_cap_share,
            without=self.health_without,
        )

    @field_validator("health_without", "infiniband_exclude", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return tuple(each for each in value.split(",") if each) if isinstance(value, str) else value

    @field_validator("preload", mode="before")
    @classmethod
    def _modules(cls, value: object) -> object:
        names = [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value
        wrong = [each for each in names if not _MODULE.fullmatch(str(each))] if isinstance(names, list) else []
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not allowed: names of modules with commas between are expected")
        return names

    @field_validator("node")
    @classmethod
    def _node_name(cls, value: str | None) -> str | None:
        return value if value is None else run_directory.check_name("node name", value)

    @field_validator("labels", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [each.partition("=") for each in value.split(",") if each]
        if any(not key or not equals for key, equals, _ in pairs):
            raise ValueError(f"{value!r} is not allowed: key=value,key=value is expected")
        return {key: text for key, _, text in pairs}

    @field_validator("coordinator")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        split_target(value)
        return value


def split_target(target: str) -> tuple[str, int]:
    """HOST:PORT or [ADDRESS]:PORT. Raises ValueError that says what is expected."""
    host, _, port = target.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or not port.isdigit() or not 0 < int(port) < 65536 or (":" in bare and host == bare):
        raise ValueError(f"{target!r} is not allowed: HOST:PORT is expected, [ADDRESS]:PORT for IPv6")
    return bare, int(port)


def read_token(settings: AgentSettings) -> str | None:
    """The join token, given or from its file: its only word, or the node line of a coordinator's own token file.

    Raises SettingsError.
    """
    if settings.token is not None or settings.token_file is None:
        return settings.token
    try:
        words = settings.token_file.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise SettingsError(f"option --token-file: {str(settings.token_file)!r} is not allowed: {reason}") from None
    named = dict(zip(words[::2], words[1::2], strict=False))
    token = words[0] if len(words) == 1 else named.get("node")
    if token is None:
        wanted = "one token, or lines of which one is 'node TOKEN', are expected in it"
        raise SettingsError(f"option --token-file: {str(settings.token_file)!r} is not allowed: {wanted}")
    return token
