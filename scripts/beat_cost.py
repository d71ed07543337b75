"""What `attach()` costs a training loop: `python scripts/beat_cost.py [--json]`.

Each call is timed by itself, with the two clock readings around it; the median of an empty pair is taken off.
"paced" waits between calls as a training step would, so that caches are as cold as they are in real life.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from time import perf_counter_ns

import ryzen_trainer

CALLS, PACED_CALLS, PAUSE_S = 20_000, 300, 0.005


def main() -> None:
    """Print the median and the 99th percentile in microseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.environ.update(RYZEN_RUN_DIR=folder, TORCHELASTIC_RUN_ID="cost", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
        found = measure(ryzen_trainer.attach())
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    for name, figures in found.items():
        sys.stdout.write(f"{name:42} p50 {figures['p50_us']:7.2f} us   p99 {figures['p99_us']:7.2f} us\n")


def measure(run: ryzen_trainer.Run) -> dict[str, dict[str, float]]:
    """Of an attached run."""
    if not run.attached:
        raise SystemExit("the page cannot be made")
    run.measures(flops_per_token=6e9, peak_flops=989e12)
    run.step(0)
    section = run.section("forward")
    names = ["data", "forward", "backward", "optimizer"]

    def leave() -> None:
        section.__exit__(None, None, None)

    def step() -> None:
        run.step(1)
        for name in names:
            with run.section(name):
                pass
        run.report(loss=2.5, tokens=8192, samples=8, grad_norm=0.5, learning_rate=1e-3)

    return {
        "one beat": timed(section.__enter__, leave),
        "one beat, paced": timed(section.__enter__, leave, PACED_CALLS, PAUSE_S),
        "a step with 4 sections and a report": timed(step),
        "a step with 4 sections and a report, paced": timed(step, calls=PACED_CALLS, pause_s=PAUSE_S),
    }


def timed(
    call: Callable[[], object], after: Callable[[], object] = lambda: None, calls: int = CALLS, pause_s: float = 0.0
) -> dict[str, float]:
    """Median and 99th percentile of one `call`; `after` it is not timed."""
    empty = statistics.median(-perf_counter_ns() + perf_counter_ns() for _ in range(1000))
    taken = []
    for _ in range(calls):
        if pause_s:
            time.sleep(pause_s)
        started = perf_counter_ns()
        call()
        taken.append(perf_counter_ns() - started - empty)
        after()
    taken.sort()
    return {"p50_us": taken[len(taken) // 2] / 1000, "p99_us": taken[len(taken) * 99 // 100] / 1000}


if __name__ == "__main__":
    main()
