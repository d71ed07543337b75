"""torchrun alone with the c10d rendezvous, as a user has it without Ryzen.

In torch 2.13 its agents share one store over all rounds of a rendezvous, and ranks of a new round may read
the addresses of the one before: a two-node restart then fails again and again. The second variant sets the switch
that works around it.
"""

from __future__ import annotations

from ryzen_lab.bench.peers.base import Peer, Variant
from ryzen_lab.launcher import Launcher

_BARE = {"rdzv": "c10d", "bare": True}

PEER = Peer(
    name="torchrun",
    package="torch",
    variants=(
        Variant(
            id="torchrun-plain",
            name="torchrun",
            note="`--rdzv-backend=c10d`, nothing else; it has no detector of hangs but the collectives' own timeout.",
            launcher=Launcher(),
            options=_BARE,
        ),
        Variant(
            id="torchrun-store",
            name="torchrun, store not shared",
            note="`--rdzv-backend=c10d` with `TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`, the way round a stale store.",
            launcher=Launcher(environment={"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}),
            options=_BARE,
        ),
    ),
)
