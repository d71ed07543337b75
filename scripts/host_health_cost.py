"""What the collectors of the host cost, each by itself: CPU of its thread for a look, and that at its interval.

    python scripts/host_health_cost.py [--looks 50]

On this node's real /proc, with a tree of eight InfiniBand ports of thirteen counters, eight network cards and two
memory controllers in place of /sys, eight watched processes, and a checkpoint folder on the local disc. A real driver's
answer for a port's counter adds the kernel's time for it, which this cannot show.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ryzen_agent.health.collectors import Maker
from ryzen_agent.health.collectors.checkpoint import PROBE_EVERY_S, CheckpointCollector
from ryzen_agent.health.collectors.clock import ClockCollector
from ryzen_agent.health.collectors.host import HostCollector
from ryzen_agent.health.collectors.infiniband import InfinibandCollector
from ryzen_agent.health.collectors.memory import MemoryCollector
from ryzen_agent.health.collectors.network import NetworkCollector
from ryzen_agent.health.collectors.storage import StorageCollector
from ryzen_agent.health.ports import BITS, DATA, HARDWARE
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.write_probe import WriteProbe

PAUSE_S = 0.1
MAKERS: tuple[Maker, ...] = (
    InfinibandCollector, NetworkCollector, MemoryCollector, HostCollector, StorageCollector, CheckpointCollector,
    ClockCollector,
)  # fmt: skip
PORT = {"state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)", "link_layer": "InfiniBand"}
CARD = {"operstate": "up", "carrier_changes": "1", "flags": "0x1003", "speed": "400000", "device/vendor": "0x15b3"}


def build(root: Path) -> None:
    """Eight ports, eight cards, two memory controllers."""
    files = {f"devices/system/edac/mc/mc{at}/{name}": "0" for at in range(2) for name in ("ce_count", "ue_count")}
    for at in range(8):
        device = f"class/infiniband/mlx5_{at}"
        files[f"{device}/board_id"] = "MT_0000000838"
        files |= {f"{device}/ports/1/{name}": text for name, text in PORT.items()}
        files |= {f"{device}/ports/1/counters/{name}": "0" for name in (*BITS, *DATA)}
        files |= {f"{device}/ports/1/hw_counters/{name}": "0" for name in HARDWARE}
        files |= {f"class/net/ib{at}/{name}": text for name, text in CARD.items()}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def cost_s(act: Callable[[], object], looks: int) -> float:
    """CPU seconds of the median call, the first one left out; a tenth of a second between two, for caches to cool."""
    took = []
    for _ in range(looks + 1):
        time.sleep(PAUSE_S)
        started_s = time.thread_time()
        act()
        took.append(time.thread_time() - started_s)
    return statistics.median(took[1:])


def say(name: str, each_s: float, interval_s: float) -> float:
    """Returns the share of a core."""
    share = each_s / interval_s
    sys.stdout.write(f"{name:12} {1e6 * each_s:8.0f} us, each {interval_s:3g} s: {100 * share:.4f} %\n")
    return share


def main() -> None:
    """Print a line for each collector and one for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--looks", type=int, default=50)
    looks: int = parser.parse_args().looks
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "sys")
        settings = HealthSettings(sys=folder / "sys", checkpoint_folder=folder)
        processes = sorted(int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal())
        settings.watched.put("job", processes[-8:])
        resident_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        collectors = [make(settings) for make in MAKERS]
        total = sum(say(each.name, cost_s(each.collect, looks), each.interval_s) for each in collectors)
        total += say("write probe", cost_s(WriteProbe(folder, "host", os.getpid()).write, looks), PROBE_EVERY_S)
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident_kb
        load = os.getloadavg()[0]
        sys.stdout.write(f"all: {100 * total:.4f} % of a core, {grown_kb} KiB more resident, load {load:.1f}\n")


if __name__ == "__main__":
    main()
