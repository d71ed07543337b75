"""The kernel on its own standstill: hung tasks, lockups, oopses, a panic.

A task that hangs names a process, which is usually the victim of a driver or a file system, and a lockup names who
ran on the processor. None says by itself that the node must go; a panic has decided already.
"""

from __future__ import annotations

import re

from ryzen_agent.health.kernel_log.finding import Finding, name, number, one_line

HINTS = (b"INFO: ", b"BUG: ", b"LOCKUP", b"Kernel panic", b"Oops: ")

EXAMPLES = (
    "INFO: task jfsmount:136986 blocked for more than 120 seconds.",
    "watchdog: BUG: soft lockup - CPU#18 stuck for 27s! [python3:2254956]",
    "NMI watchdog: Watchdog detected hard LOCKUP on cpu 5",
    "rcu: INFO: rcu_sched self-detected stall on CPU",
    "Kernel panic - not syncing: Fatal machine check",
    "BUG: unable to handle kernel NULL pointer dereference at 0000000000000008",
)

_HUNG = re.compile(
    r"INFO: task (?P<name>[^\n]{1,64}):(?P<pid>\d{1,10}) blocked (?:in I/O wait )?for more than \d{1,9} seconds"
)
_SOFT = re.compile(
    r"(?:NMI )?(?:watchdog: )?BUG: soft lockup - CPU#(?P<cpu>\d{1,6}) stuck for \d{1,9}s! "
    r"\[(?P<name>[^\n]{1,64}):(?P<pid>\d{1,10})\]"
)
_HARD = re.compile(r"(?:NMI )?(?:watchdog: )?(?:CPU\d{1,6}: )?Watchdog detected hard LOCKUP on cpu (?P<cpu>\d{1,6})")
_RCU = re.compile(r"(?:rcu: )?INFO: rcu\w{0,20} (?:self-)?detected (?:expedited )?stalls? on CPU")
_PANIC = re.compile(r"Kernel panic - not syncing")
_OOPS = re.compile(r"BUG: unable to handle |Oops: ")


def find(message: str) -> Finding | None:
    """What one message says of the kernel."""
    words = one_line(message)
    if found := _HUNG.match(message):
        return Finding("hung_task", words, fault_class="sw", pid=number(found["pid"]), process=name(found["name"]))
    if found := _SOFT.match(message):
        unit, process = f"CPU {found['cpu']}", name(found["name"])
        return Finding("lockup", words, unit=unit, fault_class="sw", pid=number(found["pid"]), process=process)
    if found := _HARD.match(message):
        return Finding("lockup", words, unit=f"CPU {found['cpu']}", fault_class="sw")
    if _RCU.match(message):
        return Finding("lockup", words, fault_class="sw")
    if _PANIC.match(message):
        return Finding("other", words, fault_class="sw", action="reboot")
    if _OOPS.match(message):
        return Finding("other", words, fault_class="sw")
    return None
