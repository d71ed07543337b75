"""A node, and a node in the eyes of one job. Changed only by the modules of the core, saved by durable.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ryzen_coordinator.core.backlog import Promptness
from ryzen_coordinator.core.effects import DesiredNode
from ryzen_coordinator.core.events import (
    NO_BEATS,
    BatchesSeen,
    Beats,
    Hello,
    JobSeen,
    Join,
    PaceSeen,
    ProgressSeen,
    RankSeen,
)
from ryzen_coordinator.core.health_record import NO_HEALTH, NodeHealth
from ryzen_coordinator.core.phases import BARRED


@dataclass(slots=True)
class Node:
    """One agent. `heard_s`: when it last spoke, or when we began to listen; `met_s`: when its stream began."""

    name: str
    hello: Hello
    phase: str = "joining"
    reason: str = ""
    stream: int = 0
    seq: int = -1
    connected: bool = False
    said_goodbye: bool = False
    heard_s: float = 0.0
    met_s: float = 0.0
    clock_offset_s: float = 0.0
    promptness: Promptness = field(default_factory=Promptness)
    sent: DesiredNode | None = None
    health: NodeHealth = NO_HEALTH

    @property
    def barred(self) -> bool:
        return self.phase in BARRED

    @property
    def rank_hint(self) -> int:
        return self.hello.node_rank if self.hello.node_rank is not None else 1 << 30


@dataclass(slots=True)
class Member:
    """One node as one job knows it.

    `used`: the join that the last world answered; a world needs a newer one. `took`: the newest generation that its
    torchrun was seen to run. `handler_s`: when torchrun's handler was last seen there. `silence_step`: the newest
    step of the other nodes when this one's lease had run out. `beats`: what the pages of the ranks said
    last. `as_of`: stream and number of the report that `seen` is from, where later ones may refer to it.
    """

    node: str
    seen: JobSeen
    heard_s: float
    handler_s: float
    ready_s: float | None = None
    ready_checkpoint: int | None = None
    used: Join | None = None
    dropped: int = 0
    took: int = 0
    answered: int = 0
    silence_step: int | None = None
    network_incident: int | None = None
    stacks: dict[int, str] = field(default_factory=dict)
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    pace: PaceSeen | None = None
    batches: BatchesSeen | None = None
    beats: Beats = NO_BEATS
    as_of: tuple[int, int] | None = None

    def rows(self) -> Iterator[tuple[RankSeen, ProgressSeen | None]]:
        """Each rank with what its page said last."""
        return ((rank, self.beats.row(place)) for place, rank in enumerate(self.seen.ranks))

    def all_done(self, generation: int) -> bool:
        """Every rank of the generation on this node has exited 0, or torchrun itself has."""
        if self.seen.torchrun_exit_code is not None:
            return self.seen.torchrun_exit_code == 0
        done = 0
        for rank in self.seen.ranks:
            if rank.generation == generation:
                if rank.life != "exited" or rank.exit_code != 0:
                    return False
                done += 1
        return done >= max(1, self.seen.shape.ranks_per_node)

    def left_well(self, generation: int) -> bool:
        """All done, and its torchrun leaves: it does not come back for another world."""
        return self.seen.handler != "joining" and self.all_done(generation)

    @property
    def torchrun_gone(self) -> bool:
        return self.seen.handler == "closed" or self.seen.torchrun_exit_code is not None

    def lives(self, below: int) -> bool:
        """A rank of a generation below `below` lives on this node, as far as is known."""
        if self.seen.old_ranks_alive:
            return True
        return any(rank.generation < below and rank.life != "exited" for rank in self.seen.ranks)
