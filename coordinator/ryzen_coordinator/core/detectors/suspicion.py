"""What a detector says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["exit", "node_loss", "network", "hang", "desync", "divergence", "corruption"]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """`fault_s`: the last sign of life of the subject (core time); `evidence` in words."""

    kind: Kind
    nodes: tuple[str, ...]
    fault_s: float
    ranks: tuple[int, ...] = ()
    evidence: tuple[str, ...] = ()
