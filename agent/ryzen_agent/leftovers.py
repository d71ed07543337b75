"""What a dead rank left behind in its process group: the script behind a wrapper that died of SIGTERM, workers.

Such a process may still hold the GPU and the ports that the next generation needs. Only members of the group
that torchrun made for the rank are looked for; a process that has left it (a daemon of the user's tools) has
its own life. The number of a process group is not used again while it has members, and each member is checked
for its user and for the run id in its environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ryzen_agent import procfs


@dataclass(frozen=True, slots=True)
class Leftover:
    """A living member of the process group of a rank of `generation` that is gone."""

    pid: int
    start_ticks: int
    generation: int


def has_members(group: int) -> bool:
    """Whether anything is in that group, a zombie included: one system call."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def find(groups: Mapping[int, int], uid: int, run_id: str) -> list[Leftover]:
    """Living members of these groups (with their generations). Reads all of /proc only if there may be any."""
    wanted = {group for group in groups if has_members(group)}
    if not wanted:
        return []
    found = []
    for entry in os.scandir(procfs.PROC):
        if not entry.name.isdigit():
            continue
        try:
            stat = procfs.read_stat(int(entry.name))
        except (ProcessLookupError, ValueError):
            continue
        if stat.group in wanted and stat.state not in "ZX" and _is_ours(stat.pid, uid, run_id):
            found.append(Leftover(stat.pid, stat.start_ticks, groups[stat.group]))
    return found


def _is_ours(pid: int, uid: int, run_id: str) -> bool:
    return procfs.owner_of(pid) == uid and procfs.read_environ(pid).get("TORCHELASTIC_RUN_ID") == run_id
