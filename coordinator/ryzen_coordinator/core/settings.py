"""What can be tuned in the decisions. Units end the names; the sentences say what a wrong value costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["act", "advise", "off"]
Grow: TypeAlias = Literal["checkpoint", "now", "never"]


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Defaults are those of the product; those that a person may need are options of `ryzen-coordinator serve`."""

    lease_s: float = 2.0
    """Silence after which a node is suspect. Agents report every second: below 1.5 healthy nodes are suspected;
    too high delays recovery from a lost node by as much."""
    form_wait_s: float = 30.0
    """With at least MIN but fewer than MAX nodes, how long the first world waits for one more."""
    hint_wait_s: float = 5.0
    """How long the first world waits for a node whose --node-rank is below MAX before one above takes its place."""
    rejoin_wait_s: float = 60.0
    """How long a world waits for a survivor whose torchrun does not come back to the rendezvous. Lower than a
    torchrun's slowest teardown, a healthy node is left out; too high, a hung torchrun holds up the job."""
    handler_wait_s: float = 10.0
    """How long a world waits for a survivor whose torchrun's handler has lost its agent."""
    go_wait_s: float = 0.2
    """Longest wait for every handler to have seen an announcement before torchruns restart (two phases)."""
    collect_s: float = 0.1
    """How long exits are collected before one is blamed: survivors die of the first one within 3-23 ms (measured)."""
    inquiry_s: float = 0.3
    """Longest wait for a fresh answer of the suspects before a hang is decided."""
    gap_factor: float = 1.2
    """A silence is a stall from this many times the longest legitimate one of its section ..."""
    gap_margin_s: float = 0.75
    """... plus this. The promise is 1 s; a quarter is left for the scan and the messages."""
    gap_unknown_s: float = 60.0
    """The limit while no legitimate silence is known at all."""
    gap_window_s: float = 1800.0
    """A learned silence that no node has seen again for so long gives way to what is seen now."""
    stall_floor_s: float = 300.0
    """A stall without positive evidence is acted on after this, or three times the longest silence that the job has
    ever come back from if that is longer. Lower than the longest evaluation that nobody has declared or the job has
    not shown before, a healthy run is restarted; higher, a busy culprit holds up the job for as long. For a job that
    sends no progress: how long a rank must have been stopped before it is a hang."""
    frozen_stack_s: float = 30.0
    """A stack that has not changed for so long, without I/O, page faults or context switches, is a hang if the others
    wait for that rank. Lower, a long call into a library may be taken for one."""
    evidence_s: float = 2.0
    """Longest wait for what the agents find out about a stall before it is judged without it."""
    advise_s: float = 5.0
    """A stall that nothing explains becomes an incident, with advice, after so long."""
    first_alive_s: float = 1.0
    """For a job that sends no progress: a generation counts as started when all ranks have lived for so long."""
    restart_budget: int = 100
    """Restarts caused by faults before the job is given up."""
    fruitless_generations: int = 3
    """Generations in a row without progress before the job is given up."""
    young_s: float = 10.0
    """For a job that sends no progress: a generation whose ranks failed within so long counts as one without."""
    grow: Grow = "checkpoint"
    """When a smaller world takes a node in: at the next committed checkpoint, now, or never (job option `grow`)."""
    hang_mode: Mode = "act"
    """What is done about a rank that hangs: act, only say so (advise), or look away (off)."""
    desync_mode: Mode = "act"
    """The same for ranks that do not do the same collectives any more: act is a rollback."""
    corruption_mode: Mode = "act"
    """The same for replicas whose parameters differ: act quarantines the node of the odd one out, and rolls back."""
    divergence_mode: Mode = "act"
    """The same for a gradient guard that skips one step after the other: act is a rollback, once for a step."""
    node_loss_mode: Mode = "act"
    """The same for a node that is lost."""
    health_mode: Mode = "act"
    """The same for what the kernel log and the driver say of a node's devices: Xids and critical conditions. `advise`
    is also how to freeze it: a coordinator may be started anew with it while jobs run."""
    health_evict_on: tuple[int, ...] = ()
    """Xids that evict at once, whatever the table says of them. With 13 and 31, one bug of a script empties a cluster
    up to the brake."""
    health_evict_share: float = 0.1
    """Of the nodes, how many may be evicted for their health within an hour (two at least); beyond, it is only advised.
    NVSentinel's outer bound is a half in five minutes. Higher, one bad driver image takes more nodes out; lower, a rack
    that loses its power keeps dead nodes in."""
    health_collect_s: float = 0.5
    """How long lines of other nodes are waited for before a repeated Xid evicts. Lower, the second node's line may come
    too late to clear the first; higher, the world waits for the verdict."""
    late_return_s: float = 30.0
    """A node that was away when its job ended is dismissed if it is back within so long; later it begins a new one."""
    forget_s: float = 86400.0
    """A node that has been away for so long is retired; a job that has been over for so long is forgotten."""
