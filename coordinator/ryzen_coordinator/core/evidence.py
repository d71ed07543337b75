"""What is known of a job that stands still, and what was concluded from it. Frozen records; no decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ryzen_coordinator.core.events import Collective, Probe

Rule: TypeAlias = Literal[
    "finished first", "mismatch", "cycle", "never entered", "stacks", "least progress", "all entered", "nothing"
]


@dataclass(frozen=True, slots=True)
class RankView:
    """One rank of the world as the blame sees it. `state`: "running", "exited 0", "stopped" ...

    `limit_s`: what its silence may be in its section where silence is the only evidence.
    """

    rank: int
    node: str
    step: int
    section: str
    quiet_s: float
    limit_s: float
    state: str = "running"
    steps_done: int = 0
    probe: Probe | None = None
    stack: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """`ranks`: whom to look at, empty where nothing separates; `proof`: enough to act on; `desync`: the ranks do not do
    the same collectives any more; `considered`: the rules that came before, and why they did not speak."""

    rule: Rule
    ranks: tuple[int, ...]
    words: str
    proof: bool = False
    desync: bool = False
    considered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StackGroup:
    """Ranks whose main threads stood at the same place, innermost frame first."""

    text: str
    ranks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RankMoment:
    """Where one rank was when it was looked at."""

    rank: int
    node: str
    step: int
    section: str
    quiet_s: float
    state: str
    collective: str = ""


def collective_words(each: Collective) -> str:
    shape = f" ({each.shape})" if each.shape else ""
    return f"{each.operation} {each.sequence} of group {each.group}{shape}"
