"""Out-of-memory kills, of the host or of a memory cgroup (mm/oom_kill.c).

One kill is up to three lines: who asked for memory (not the victim), the constraint with the victim, the kill. All
are told, but only the victim's pid is given. The kill itself is seen as the process's exit: here it gets its cause.
"""

from __future__ import annotations

import re

from ryzen_agent.health.kernel_log.finding import Finding, name, number, one_line

HINTS = (b"-kill", b"Out of memory", b"Memory cgroup", b"Killed process ")

EXAMPLES = (
    "badsysprogram invoked oom-killer: gfp_mask=0x280da, order=0, oom_score_adj=0",
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/docker/abc123,"
    "task_memcg=/docker/abc123,task=postgres,pid=12345,uid=1000",
    "Out of memory: Killed process 12345 (postgres)",
    "Memory cgroup out of memory: Kill process 13536 (memorymonster) score 1000 or sacrifice child",
)

_INVOKED = re.compile(r"[^\n]{1,64} invoked oom-killer: ")
_CONSTRAINT = re.compile(r"oom-kill:constraint=(?P<constraint>[A-Z_]{1,40}),")
_TASK = re.compile(r"(?P<name>[^\n]{1,64}),pid=(?P<pid>\d{1,10}),uid=")
_KILL = re.compile(
    r"(?:(?P<where>Memory cgroup out of memory|Out of memory(?: \([^)]{0,80}\))?): )?"
    r"Kill(?:ed)? process (?P<pid>\d{1,10})(?:, UID \d{1,10},)? \((?P<name>[^\n)]{0,64})\)"
)

CGROUP = "memory cgroup"


def find(message: str) -> Finding | None:
    """A kill, or that one is about to be made."""
    if message.startswith("oom-kill:"):
        return _constraint(message)
    if found := _KILL.match(message):
        unit = CGROUP if (found["where"] or "").startswith("Memory") else ""
        return _kill(message, unit, found["pid"], found["name"])
    if _INVOKED.match(message):
        return Finding("oom", one_line(message), fault_class="info", action="follow_other")
    return None


def _constraint(message: str) -> Finding | None:
    found = _CONSTRAINT.match(message)
    task = _TASK.match(message.rpartition(",task=")[2])
    if found is None or task is None:
        return None
    unit = CGROUP if found["constraint"] == "CONSTRAINT_MEMCG" else ""
    return _kill(message, unit, task["pid"], task["name"])


def _kill(message: str, unit: str, pid: str, process: str) -> Finding:
    return Finding("oom", one_line(message), unit=unit, fault_class="app", pid=number(pid), process=name(process))
