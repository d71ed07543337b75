"""What watching eight (mock) GPUs costs at the default intervals: `python scripts/gpu_health_cost.py [--seconds 60]`.

A process runs the GPU collectors as the agent does, each in a thread of its own at its interval, over the mock driver
through the real bindings; measured is its CPU time from after the first looks on, and its resident memory, beside that
of the same process before the first look. The mock answers in microseconds from memory: what a real driver's calls
cost, in the kernel and in the GPU's firmware, comes on top and is not shown here.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ryzen_agent.health.collector import Collector
from ryzen_agent.health.collectors.gpu import GpuCollector
from ryzen_agent.health.collectors.gpu_count import GpuCountCollector
from ryzen_agent.health.collectors.gpu_events import GpuEventsCollector
from ryzen_agent.health.settings import HealthSettings
from ryzen_lab import mock_nvml

SETTLED_S = 3.0
LOOKS = 100


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        sys.stdout.write(json.dumps(measure(options.seconds)) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        mock_nvml.build(Path(folder))
        mock_nvml.Faults(Path(folder)).driver(count=8)
        done = subprocess.run(
            [sys.executable, __file__, "--inside", "--seconds", str(options.seconds)],
            env={**os.environ, "LD_LIBRARY_PATH": folder}, check=True, capture_output=True, text=True,
        )  # fmt: skip
    found = json.loads(done.stdout)
    sys.stdout.write(
        f"idle cost, 8 GPUs        {found['share_percent']:.3f} % of a core over {options.seconds:.0f} s"
        f" (load {os.getloadavg()[0]:.0f} on {os.cpu_count()} CPUs)\n"
        f"one look at all GPUs     {found['look_ms']:.2f} ms of CPU, median of {LOOKS}; {found['samples']} samples\n"
        f"resident memory          {found['before_mb']:.1f} MB before, {found['after_mb']:.1f} MB with the collectors\n"
    )


def measure(seconds: float) -> dict[str, float]:
    """In a process with the mock driver."""
    before_mb = resident_mb()
    collectors: list[Collector] = [
        maker(HealthSettings()) for maker in (GpuCollector, GpuEventsCollector, GpuCountCollector)
    ]
    for each in collectors:
        threading.Thread(target=run, args=(each,), daemon=True).start()
    time.sleep(SETTLED_S)
    began_s, used_s = time.monotonic(), cpu_s()
    time.sleep(seconds)
    share = (cpu_s() - used_s) / (time.monotonic() - began_s)
    after_mb = resident_mb()
    alone = GpuCollector(HealthSettings())
    samples = len(alone.collect().samples)
    return {
        "share_percent": share * 100,
        "before_mb": before_mb,
        "after_mb": after_mb,
        "look_ms": statistics.median(timed(alone) for _ in range(LOOKS)) * 1000,
        "samples": samples,
    }


def run(collector: Collector) -> None:
    """As the agent does: looks begin `interval_s` apart."""
    while True:
        began_s = time.monotonic()
        collector.collect()
        time.sleep(max(began_s + collector.interval_s - time.monotonic(), 0.0))


def timed(collector: Collector) -> float:
    """CPU seconds of this thread for one look."""
    began_s = time.thread_time()
    collector.collect()
    return time.thread_time() - began_s


def cpu_s() -> float:
    """Of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_mb() -> float:
    """Now, not at its peak."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
