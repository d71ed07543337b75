"""What ties the GPU to others: NVLink, the fabric, PCIe."""

from __future__ import annotations

import math

from ryzen_agent.health.gpu.reading import Fabric, GpuReading
from ryzen_agent.health.gpu.rules.rule import Finding, Rule, Subject

LOOKS = 2
"""A link that is trained anew is down for a moment: what is seen once is not said."""

LINK_ERRORS_S = 600.0
FABRIC_LOOKS = 6
"""At the default interval a minute: after a boot the fabric manager needs some of it."""

FABRIC_COMPLETE = 3
REPLAYS_S = 120.0
GBPS = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0}
"""A lane of each PCIe generation."""


def links_down(reading: GpuReading, seen_active: set[int], peers: tuple[GpuReading, ...]) -> frozenset[int]:
    """NVLinks that are inactive and should not be: they were active before, or are so on most peers.

    None under MIG, which switches them off.
    """
    if reading.mig:
        return frozenset()
    down = [link for link, active in reading.links.items() if not active]
    others = [peer for peer in peers if peer.links]
    return frozenset(
        link
        for link in down
        if link in seen_active
        or (len(others) > 1 and sum(peer.links.get(link, False) for peer in others) * 2 > len(others))
    )


def fabric_incomplete(fabric: Fabric | None) -> bool:
    """Registration with the fabric has begun, or should have, and has not ended."""
    return fabric is not None and 0 < fabric.state < FABRIC_COMPLETE


def slow_pcie(reading: GpuReading) -> bool:
    """Below the highest generation though the GPU works: an idle one saves power at the first."""
    now, best = reading.pcie_generation, reading.identity.pcie_generation_max
    return bool(reading.busy and now and best and now < best)


def nvlink_down(subject: Subject) -> Finding | None:
    """an NVLink is inactive that was active, or is so on most peers of the model; at two looks in a row

    gpud and Azure: any link inactive that a peer has; NVIDIA Health Validation allows none and drains.
    """
    if subject.history.in_a_row(lambda look: bool(look.links_down)) < LOOKS:
        return None
    down = sorted(subject.history.looks[-1].links_down)
    return Finding(f"NVLink {', '.join(map(str, down[:6]))} is down", float(len(down)), 0.0)


def nvlink_errors(subject: Subject) -> Finding | None:
    """NVLink error counters (CRC, replay, recovery, ECC) have grown within ten minutes

    DCGM: any error fails, CRC from 100 a second on; gcm tolerates none. The driver repeats what was damaged, so
    this warns only. Value: errors a minute.
    """
    grown, seconds = subject.history.growth(lambda look: look.link_errors, LINK_ERRORS_S)
    if not grown:
        return None
    return Finding(f"{grown} NVLink errors within {seconds:.0f} s", grown * 60 / max(seconds, 1.0), 0.0)


def fabric(subject: Subject) -> Finding | None:
    """registration with the fabric failed, routes are unhealthy, the configuration is wrong; not complete for a minute:
    warning, `watch_repeat`

    NVML: state must be complete (3), status 0; gpud calls the fabric manager unhealthy. A GPU that is alone in a
    virtual machine may never register and compute all the same.
    """
    found = subject.reading.fabric
    if found is None or not found.state:
        return None
    if found.state == FABRIC_COMPLETE and found.status:
        return Finding(
            f"registration with the NVLink fabric failed (NVML error {found.status})", float(found.status), 0.0
        )
    if wrong := _fabric_health(found.health):
        return Finding(f"the NVLink fabric says: {wrong}", float(found.health))
    if subject.history.in_a_row(lambda look: look.fabric_incomplete) >= FABRIC_LOOKS:
        message = "registration with the NVLink fabric does not end: is the fabric manager running?"
        return Finding(message, float(found.state), float(FABRIC_COMPLETE), "warning", "watch_repeat")
    return None


def _fabric_health(mask: int) -> str:
    """Two bits each, 1 is true: degraded bandwidth, route recovery, route unhealthy, access timeout; then four bits
    of configuration, above 1 wrong (nvml.h, NVML_GPU_FABRIC_HEALTH_MASK_...)."""
    words = [word for shift, word in ((4, "route unhealthy"), (6, "access timeout")) if mask >> shift & 3 == 1]
    if mask >> 8 & 15 > 1:
        words.append(f"wrong configuration ({mask >> 8 & 15})")
    return ", ".join(words)


def fabric_bandwidth(subject: Subject) -> Finding | None:
    """the fabric says that its bandwidth is degraded

    NVML's health mask, lowest two bits.
    """
    found = subject.reading.fabric
    return Finding("the NVLink fabric has less bandwidth") if found and found.health & 3 == 1 else None


def pcie_width(subject: Subject) -> Finding | None:
    """PCIe lanes < the most that GPU and slot can

    gpud, Azure and imbue: less than the maximum is unhealthy. The job runs on, slower.
    """
    now, best = subject.reading.pcie_width, subject.reading.identity.pcie_width_max
    if not now or not best or now >= best:
        return None
    return Finding(f"PCIe runs on {now} of {best} lanes", float(now), float(best))


def pcie_generation(subject: Subject) -> Finding | None:
    """PCIe generation < the highest while the GPU is at least half busy, at two looks in a row

    As for the width; not of an idle GPU, which falls back to the first generation to save power.
    """
    if subject.history.in_a_row(lambda look: look.slow_pcie) < LOOKS:
        return None
    now, best = subject.reading.pcie_generation, subject.reading.identity.pcie_generation_max
    return Finding(f"PCIe runs at generation {now} of {best} under load", float(now or 0), float(best or 0))


def pcie_replay_rate(subject: Subject) -> Finding | None:
    """PCIe replays a minute > lanes x Gb/s of a lane x 60 / 1000, over two minutes

    DCGM's health check: a bit error rate of 1e-12; 31 a minute for sixteen lanes of generation 5.
    """
    grown, seconds = subject.history.growth(lambda look: look.pcie_replays, REPLAYS_S)
    identity = subject.reading.identity
    lanes = identity.pcie_width_max or 16
    limit = math.ceil(lanes * GBPS.get(identity.pcie_generation_max or 3, GBPS[6]) * 60 / 1000)
    rate = grown * 60 / max(seconds, 60.0)
    return Finding(f"{rate:.0f} PCIe replays a minute", rate, float(limit)) if rate > limit else None


RULES = (
    Rule("gpu.nvlink_down", "critical", "reset_gpu", nvlink_down),
    Rule("gpu.nvlink_errors", "warning", "watch_repeat", nvlink_errors),
    Rule("gpu.fabric", "critical", "reboot", fabric),
    Rule("gpu.fabric_bandwidth", "warning", "watch_repeat", fabric_bandwidth),
    Rule("gpu.pcie_width", "warning", "drain_service", pcie_width),
    Rule("gpu.pcie_generation", "warning", "watch_repeat", pcie_generation),
    Rule("gpu.pcie_replay_rate", "warning", "watch_repeat", pcie_replay_rate),
)
