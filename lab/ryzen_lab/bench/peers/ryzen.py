"""Ryzen itself, at its default settings; and with fresh interpreters in place of forked ranks."""

from __future__ import annotations

from ryzen_lab.bench.peers.base import Peer, Variant

OURS = Variant(
    id="ryzen",
    name="Ryzen",
    note="Default settings; ranks forked from a process that has imported torch.",
)
PEER = Peer(name="ryzen", package="ryzen", variants=(OURS,))
COLD = Peer(
    name="ryzen-cold",
    package="ryzen",
    variants=(
        Variant(
            id="ryzen-cold",
            name="Ryzen, ranks not forked",
            note="`--cold`: every rank is a fresh interpreter, as with all the others.",
            options={"cold": True},
        ),
    ),
)
