"""Moments of a recovery at which a later fault can be told to come: `kill,kill@rendezvous`. A new one is a line in
`MOMENTS`.

They are seen from outside: in the coordinator's stream of incidents and in the births and deaths of ranks.
"""

from __future__ import annotations

from collections.abc import Callable

from ryzen_lab.record import Rank, Record

ENDING = "ending"
LINGER_S = 20.0
"""So long the ranks of one node stay at their end where a fault is to come between the ends of two nodes."""


def newcomers(record: Record) -> list[Rank]:
    """Living ranks that were started after the first fault."""
    if not record.injections:
        return []
    return [each for each in record.alive() if each.exec_ns > record.injections[0].at_ns]


def is_announced(record: Record) -> bool:
    """A new generation is announced and none of its ranks is born."""
    if not record.injections:
        return False
    told = [each for at, each in record.incidents if at >= record.injections[0].at_ns]
    newest = max((each.new_generation for each in told), default=0)
    return newest > max((each.generation for each in record.ranks), default=0)


def is_meeting(record: Record) -> bool:
    """The first new rank is born; the others start."""
    return bool(newcomers(record))


def is_restoring(record: Record) -> bool:
    """All new ranks are born, and one of them has come as far as its imports."""
    new = newcomers(record)
    return bool(new) and len(new) >= new[0].world_size and any(each.torch_ns is not None for each in new)


def is_running(record: Record) -> bool:
    """All new ranks have made a step: the recovery is over."""
    new = newcomers(record)
    return bool(new) and len(new) >= new[0].world_size and all(each.steps for each in new)


def is_ending(record: Record) -> bool:
    """All ranks of a node have ended well while another node's still live."""
    newest = max((each.generation for each in record.ranks), default=0)
    ranks = [each for each in record.ranks if each.generation == newest]
    alive = {each.node for each in ranks if each.died_ns is None}
    over = {each.node for each in ranks if each.died_ns is not None and each.finished} - alive
    return bool(alive) and bool(over)


MOMENTS: dict[str, Callable[[Record], bool]] = {
    "announced": is_announced,
    "rendezvous": is_meeting,
    "restoring": is_restoring,
    "running": is_running,
    ENDING: is_ending,
}


_OF_THE_NEW = ("rendezvous", "restoring", "running")


def victims(record: Record, moment: str) -> list[Rank]:
    """The ranks of which one may be struck: the new ones where there are some, else all that live."""
    return (newcomers(record) if moment in _OF_THE_NEW else []) or list(record.current().values())
