"""A rank that does nothing but beat, twenty steps a second with four sections: the load for measuring the agent."""

from __future__ import annotations

import sys
import time

from ryzen_trainer import attach


def main(seconds: float) -> None:
    run = attach()
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        run.step(number)
        for name in ("data", "forward", "backward", "optimizer"):
            with run.section(name):
                time.sleep(0.0125)
        run.report(loss=1.0 / (number + 1), tokens=4096)
        number += 1
    run.finish()


if __name__ == "__main__":
    main(float(sys.argv[1]))
