"""Conditions that follow from no reading of one GPU: of the driver, of the count, of what was done for heat."""

from __future__ import annotations

from ryzen_agent.health.gpu.rules.rule import Kind

DRIVER = Kind(
    "gpu.driver",
    "warning",
    "reboot",
    "NVIDIA's library is there, a GPU is on the bus or expected, and the driver cannot be used: not loaded (NVML 9; "
    "critical where GPUs are expected), of another version than the library (18); other errors: `watch_repeat`",
    "gpud: unhealthy. A package that was upgraded under a running job gives 18 and does the job no harm",
)
MISSING = Kind(
    "gpu.missing",
    "critical",
    "reboot",
    "fewer GPUs than `expected_gpus`; without that: than the PCI bus shows (3D controllers, and displays that the "
    "driver has taken; not in a container that was given some), or than there were",
    "gpud: reboot, then inspection; NVIDIA Health Validation: critical",
)
CAPPED = Kind(
    "gpu.power_capped",
    "info",
    "ignore",
    "the agent has lowered its power limit for heat",
    "`power_cap_share`, off by default; back up after ten minutes without throttling, and at the agent's end",
)
REFUSED = Kind(
    "gpu.power_cap_refused",
    "info",
    "ignore",
    "the agent should lower its power limit and may not",
    "changing it takes root",
)

BESIDE = (DRIVER, MISSING, CAPPED, REFUSED)
