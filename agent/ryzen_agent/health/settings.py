"""What collectors can be told. `ryzen-agent` has an option for each that a person may need."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ryzen_agent.health.watched import Watched


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Defaults are those of the product. The roots are there so that tests can point at fixtures."""

    kmsg_path: Path = Path("/dev/kmsg")
    """Kernel log: the device, or a file or FIFO of lines as dmesg, the journal or the device itself writes them."""
    kmsg_lookback_s: float = 300.0
    """How far back the first look goes after a boot or an install. Lower misses what broke just before the agent
    started, higher blames a new job for what an old one did."""
    state_folder: Path | None = None
    """Private folder of the agent, where a collector remembers how far it has read; None: nowhere."""
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    expected_gpus: int | None = None
    """GPUs that the node should have; None: as many as its PCI bus shows."""
    gpu_interval_s: float = 10.0
    """Between two looks at the GPUs. Lower costs CPU and wakes idle GPUs, higher sees heat and errors later."""
    infiniband_exclude: tuple[str, ...] = ()
    """Devices ("mlx5_3") that are not looked at."""
    checkpoint_folder: Path | None = None
    """Where space is watched and a bounded write is tried now and then; None: no probe."""
    storage_folders: tuple[Path, ...] = (Path("/"), Path("/dev/shm"), Path("/tmp"))  # noqa: S108 - only looked at
    """Whose file systems are watched for space, with the state folder's. Loaders and NCCL need /dev/shm."""
    watched: Watched = field(default_factory=Watched)
    """Processes of the ranks: the agent fills it while it runs."""
    power_cap_share: float | None = None
    """Of a throttling GPU's default power limit, to which it is lowered instead of losing the node; None: never."""
    without: tuple[str, ...] = ()
    """Collectors that do not run, by name."""
