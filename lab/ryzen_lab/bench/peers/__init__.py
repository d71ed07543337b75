"""The other tools that Ryzen is measured beside. A new one is a file here and its line in `PEERS`."""

from __future__ import annotations

from ryzen_lab.bench.peers import dlrover, nvrx, ryzen, torchft, torchrun
from ryzen_lab.bench.peers.base import Peer, Variant
from ryzen_lab.errors import UsageError

__all__ = ["OURS", "PEERS", "Contestant", "Peer", "Variant", "parse"]

OURS = (ryzen.PEER, ryzen.OURS)
PEERS: dict[str, Peer] = {
    each.name: each for each in (ryzen.COLD, torchrun.PEER, nvrx.PEER, torchft.PEER, dlrover.PEER)
}
Contestant = tuple[Peer, Variant]


def parse(text: str) -> list[Contestant]:
    """`torchrun,nvrx-heartbeats` as those that race, Ryzen first. A peer's name is all its variants.

    Raises UsageError for an unknown name.
    """
    found = {OURS[1].id: OURS}
    for name in filter(None, (each.strip() for each in text.split(","))):
        chosen = [(peer, each) for peer in PEERS.values() for each in peer.variants if name in (peer.name, each.id)]
        if not chosen:
            allowed = [each for peer in PEERS.values() for each in (peer.name, *(one.id for one in peer.variants))]
            raise UsageError(f"option --peers: {name!r} is not a peer; allowed: {', '.join(dict.fromkeys(allowed))}")
        found |= {each.id: (peer, each) for peer, each in chosen}
    return list(found.values())
