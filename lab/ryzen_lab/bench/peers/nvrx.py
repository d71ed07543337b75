"""nvidia-resiliency-ext: `ft_launcher` in torchrun's place, with one monitor process a rank.

0.4.1 is the newest release whose wheels a Python 3.11 on glibc before 2.39 can install. As it comes it knows of a
hang after 45 minutes without a heartbeat, and of none in a script that sends no heartbeats; the second variant has
its user do both: heartbeats in the loop, and short intervals. Its limit is 3 s: with 1 s, on a loaded machine, it
killed new worlds before they had come to their second step.
"""

from __future__ import annotations

from pathlib import Path

from ryzen_lab.bench.peers.base import Peer, Variant, program_of
from ryzen_lab.launcher import C10D, Launcher

_NAME = "nvrx"
_BARE = {"rdzv": "c10d", "bare": True}
_HEARTBEATS = Path(__file__).with_name("nvrx_heartbeats.py")
_TIGHT = (
    "--monitor-interval=0.05",
    "--workers-stop-timeout=1",
    "--ft-workload-check-interval=0.1",
    "--ft-initial-rank-heartbeat-timeout=60",
    "--ft-rank-heartbeat-timeout=3",
)
_LAUNCHER = program_of(_NAME, "ft_launcher")

PEER = Peer(
    name=_NAME,
    package="nvidia-resiliency-ext",
    requirements=("nvidia-resiliency-ext==0.4.1",),
    variants=(
        Variant(
            id="nvrx-plain",
            name="nvrx",
            note="`ft_launcher` at its defaults, the script unchanged.",
            launcher=Launcher(_LAUNCHER, C10D, options=("--ignore-missing-fault-tol-cfg",)),
            options=_BARE,
        ),
        Variant(
            id="nvrx-heartbeats",
            name="nvrx, heartbeats, 3 s",
            note=f"A heartbeat after each optimizer step, and `{' '.join(_TIGHT)}`: a step, a save or an evaluation of "
            "more than 3 s would be a false alarm.",
            launcher=Launcher(_LAUNCHER, C10D, options=_TIGHT, wrapper=(str(_HEARTBEATS),)),
            options=_BARE,
        ),
    ),
)
