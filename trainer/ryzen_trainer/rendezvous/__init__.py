"""torchrun's rendezvous backend `ryzen` (entry point group `torchrun.handlers`).

Every process that imports torch elastic loads this module, ranks included, so it imports nothing: the
handler, torch and gRPC come in when torchrun really asks for a rendezvous.

    arguments.py   what torchrun was started with, and the one line that says what is wrong with it
    handler.py     the state machine that torchrun calls
    link.py        the stream to the node's agent, in a thread of its own
    stores.py      one TCPStore a generation
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters


def get_creator() -> Callable[[RendezvousParameters], RendezvousHandler]:
    """What the entry point is called for: the function that makes the handler."""
    return _create


def _create(parameters: RendezvousParameters) -> RendezvousHandler:
    from ryzen_trainer.rendezvous.handler import create

    return create(parameters)
