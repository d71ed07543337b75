"""How fast a node's ranks train, from the wire: bounded, no figure below zero or without end.

Called for one update in five of a node, so it may take some microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from ryzen_coordinator.core.events import PaceSeen
from ryzen_protos.v1 import node_pb2 as pb

Number = TypeVar("Number", int, float)

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
        _of_each(message.first_batch, ranks),
        _of_each(message.data_place, ranks),
        tuple(_figure(each) for each in _of_each(message.step_work, ranks)),
    )


def _of_each(values: Sequence[Number], ranks: tuple[int, ...]) -> tuple[Number, ...]:
    return tuple(values) if len(values) == len(ranks) else ()


def _figure(value: float) -> float:
    return value if 0.0 < value <= _MOST else 0.0
