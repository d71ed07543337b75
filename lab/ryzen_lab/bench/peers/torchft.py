"""torchft: no launcher but a library, so the same script cannot run under it."""

from __future__ import annotations

from ryzen_lab.bench.peers.base import Peer, Variant

PEER = Peer(
    name="torchft",
    package="torchft",
    variants=(
        Variant(
            id="torchft",
            name="torchft",
            note="Its survivors go on in their processes, with the weights of every replica group replicated.",
        ),
    ),
    unfit="no launcher: it needs its Manager, optimizer and process group in the training loop, and replica groups",
)
