"""What was read of one GPU in one look. None: not supported here, or not answered this time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

IDLE: Final = 0x1
POWER_CAP: Final = 0x4
HARDWARE_SLOWDOWN: Final = 0x8
SOFTWARE_THERMAL: Final = 0x20
HARDWARE_THERMAL: Final = 0x40
POWER_BRAKE: Final = 0x80
REASONS: Final[dict[int, str]] = {
    IDLE: "idle",
    0x2: "application_clocks",
    POWER_CAP: "power_cap",
    HARDWARE_SLOWDOWN: "hardware_slowdown",
    0x10: "sync_boost",
    SOFTWARE_THERMAL: "software_thermal",
    HARDWARE_THERMAL: "hardware_thermal",
    POWER_BRAKE: "power_brake",
    0x100: "display_clock",
}
"""Bits of NVML's clock event reasons, once called throttle reasons (nvml.h)."""

THROTTLING: Final = HARDWARE_SLOWDOWN | SOFTWARE_THERMAL | HARDWARE_THERMAL | POWER_BRAKE
"""Reasons that are no choice of anybody's. A power cap is how a busy GPU looks."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change while a GPU is there. Temperatures in °C, power in W."""

    index: int
    uuid: str
    pci: str = ""
    model: str = ""
    shutdown_c: float | None = None
    slowdown_c: float | None = None
    gpu_max_c: float | None = None
    memory_max_c: float | None = None
    default_power_limit_w: float | None = None
    power_limits_w: tuple[float, float] | None = None
    """Lowest and highest that may be set."""
    pcie_width_max: int | None = None
    pcie_generation_max: int | None = None
    retired_pages_max: int | None = None
    """As the vendor says; None: NVIDIA's for the GPUs that retire pages."""


class Ecc(NamedTuple):
    """Errors that memory has corrected and has not, since the driver was loaded and since the GPU was made."""

    corrected: int | None = None
    uncorrected: int | None = None
    corrected_ever: int | None = None
    uncorrected_ever: int | None = None


NO_ECC: Final = Ecc()


class Rows(NamedTuple):
    """Rows of memory that are remapped; whether one waits for a reset; whether there is none left to remap to."""

    corrected: int
    uncorrected: int
    pending: bool
    failed: bool


class Fabric(NamedTuple):
    """As in nvmlGpuFabricInfoV_t: state 3 is complete, `status` an NVML error, `health` a mask of small numbers."""

    state: int
    status: int
    health: int


@dataclass(slots=True)
class GpuReading:
    """Temperatures in °C, power in W, energy in J, memory in bytes, shares from 0 to 1."""

    identity: Identity
    at_s: float
    """On the monotonic clock."""
    grave: dict[int, list[str]] = field(default_factory=dict)
    """NVML error -> the questions that gave it, of those errors that concern the whole GPU."""
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    margin_c: float | None = None
    reasons: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_j: float | None = None
    utilization: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    ecc: Ecc = NO_ECC
    sram_threshold: bool | None = None
    rows: Rows | None = None
    retired_pages: int | None = None
    retired_pending: bool | None = None
    links: dict[int, bool] = field(default_factory=dict)
    """NVLink -> active."""
    link_errors: dict[str, int] = field(default_factory=dict)
    """Kind -> count over all links, since the driver was loaded."""
    pcie_width: int | None = None
    pcie_generation: int | None = None
    pcie_replays: int | None = None
    recovery_action: int | None = None
    """As in nvmlDeviceGpuRecoveryAction_t: 0 none."""
    fabric: Fabric | None = None
    mig: bool | None = None
    persistence: bool | None = None
    processes: tuple[int, ...] = ()
    """That compute on it."""

    @property
    def throttling(self) -> int:
        """Those of its clock event reasons that mean trouble."""
        return (self.reasons or 0) & THROTTLING

    @property
    def busy(self) -> bool | None:
        return None if self.utilization is None else self.utilization >= 0.5
