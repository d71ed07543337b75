"""How fast a node's ranks train and what they read first, from the wire: bounded, no figure below zero or without end.

Called for one update in ten of a node, so it may take some microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ryzen_coordinator.core.events import BatchesSeen, PaceSeen
from ryzen_protos.v1 import node_pb2 as pb

RANKS_OF_NODE_MAX = 1024
SECTIONS_MAX = 8
"""As many as a page has durations of."""
_RANK_MAX, _GENERATION_MAX = 1 << 18, 1 << 62
_MOST = 1e30
"""More FLOP/s than there are on Earth."""


def pace(message: pb.Pace, line: Callable[[str, int], str]) -> PaceSeen | None:
    """None where it says nothing that can be. `line` makes one printable line of a name."""
    ranks = tuple(message.ranks)
    if not 0 < len(ranks) <= RANKS_OF_NODE_MAX or max(ranks) >= _RANK_MAX or message.generation > _GENERATION_MAX:
        return None
    loss = tuple(message.loss)
    return PaceSeen(
        message.generation,
        ranks,
        _figure(message.step_s),
        _figure(message.tokens_per_s),
        _figure(message.samples_per_s),
        _figure(message.flops_per_s),
        _figure(message.hardware_flops_per_s),
        _figure(message.peak_flops),
        tuple(
            (line(name, 64), _figure(seconds))
            for name, seconds in zip(message.sections[:SECTIONS_MAX], message.section_s, strict=False)
        ),
        _figure(message.communication_s),
        _figure(message.all_reduce_p50_s),
        _figure(message.all_reduce_p99_s),
        loss if len(loss) == len(ranks) else (),
        message.learning_rate if message.HasField("learning_rate") and math.isfinite(message.learning_rate) else None,
        tuple(_figure(each) for each in message.step_work) if len(message.step_work) == len(ranks) else (),
    )


def batches(message: pb.FirstBatches) -> BatchesSeen | None:
    """None where the columns do not fit each other, or nothing is in them."""
    ranks, digests, places = tuple(message.ranks), tuple(message.digests), tuple(message.places)
    if not 0 < len(ranks) <= RANKS_OF_NODE_MAX or not len(ranks) == len(digests) == len(places):
        return None
    if max(ranks) >= _RANK_MAX or message.generation > _GENERATION_MAX:
        return None
    return BatchesSeen(message.generation, ranks, digests, places)


def _figure(value: float) -> float:
    return value if 0.0 < value <= _MOST else 0.0
