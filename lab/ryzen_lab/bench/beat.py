"""What a beat costs the training loop. Run as a module: prints one JSON object.

Back to back, all caches are warm, which no training loop offers. Paced, the process slept a millisecond before each
sample, as a loop that waits for a device does: the page and the code have partly left the caches. In both the cost
of reading the clock is taken off.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable

SAMPLES = 20_000
PACED_SAMPLES = 2_000
_PACE_S = 0.001
_SECTIONS = ("data", "forward", "backward", "optimizer")


def measure() -> dict[str, float]:
    """Medians in microseconds: one beat, and a step with four sections and a report."""
    from ryzen_trainer import attach

    run = attach()
    if not run.attached:
        raise RuntimeError("no beat page could be made in the temporary folder")
    section = run.section("forward")
    named = [run.section(name) for name in _SECTIONS]
    run.step(0)

    def two_beats() -> None:
        with section:
            pass

    def whole_step() -> None:
        run.step(1)
        for each in named:
            with each:
                pass
        run.report(loss=1.0, tokens=4096, grad_norm=0.5)

    return {
        "beat_us": _median_us(two_beats, SAMPLES, 0.0) / 2,
        "beat_paced_us": _median_us(two_beats, PACED_SAMPLES, _PACE_S) / 2,
        "step_us": _median_us(whole_step, SAMPLES, 0.0),
        "step_paced_us": _median_us(whole_step, PACED_SAMPLES, _PACE_S),
    }


def _median_us(call: Callable[[], None], samples: int, pace_s: float) -> float:
    clock = time.perf_counter_ns
    empty = statistics.median(-clock() + clock() for _ in range(samples))
    taken = []
    for _ in range(samples):
        if pace_s:
            time.sleep(pace_s)
        began = clock()
        call()
        taken.append(clock() - began)
    return (statistics.median(taken) - empty) / 1000


def main() -> None:
    """Measure in a run directory of its own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o700)  # noqa: PTH101
        os.environ.update(RYZEN_RUN_DIR=folder, TORCHELASTIC_RUN_ID="bench", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
        print(json.dumps(measure()))  # noqa: T201 - its output is its result


if __name__ == "__main__":
    main()
