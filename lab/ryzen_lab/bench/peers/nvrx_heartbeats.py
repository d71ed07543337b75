"""Run a training script with nvidia-resiliency-ext's heartbeats: `nvrx_heartbeats.py -m MODULE ...` or `SCRIPT ...`.

What its user would write into the loop, done from outside so that the script stays the one that all run: a
heartbeat after each optimizer step. Runs in the peer's own environment and imports nothing of ours.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any


def main() -> None:
    import nvidia_resiliency_ext.fault_tolerance as fault_tolerance
    from torch.optim.optimizer import register_optimizer_step_post_hook

    client: Any = fault_tolerance.RankMonitorClient()
    client.init_workload_monitoring()

    def beat(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        client.send_heartbeat()

    register_optimizer_step_post_hook(beat)
    del sys.argv[0]
    try:
        if sys.argv[0] == "-m":
            del sys.argv[0]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        client.shutdown_workload_monitoring()


if __name__ == "__main__":
    main()
