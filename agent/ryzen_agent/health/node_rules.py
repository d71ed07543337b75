"""Every condition of the host, its network, its storage and its clock: name, limit, severity, action, source.

The one table that the collectors take their limits from; docs/health.md prints the same rows and a test compares.
No action says "not on this node": what is seen here is evidence beside a job that fails, and takes no node from a job
that runs. Its ports may be others than the one that dropped, and NCCL leaves out a port that is not active when it
starts anew; a disc or a network that several nodes share says nothing about one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ryzen_agent.health.model import MESSAGE_CHARS, Action, Condition, Severity

OWN = "our choice"
GPUD = "gpud, component infiniband"
MIXIN = "node_exporter's alerts (node-mixin)"
NVSENTINEL = "NVSentinel, NIC health monitor"


@dataclass(frozen=True, slots=True)
class Rule:
    """`when` is the sentence of the documentation, with `{limit}` in it where there is one, in the sentence's unit."""

    name: str
    when: str
    limit: float | None
    source: str
    severity: Severity = "warning"
    action: Action = "watch_repeat"

    def condition(self, message: str, *, device: str = "", value: float | None = None) -> Condition:
        return Condition(
            self.name, message[:MESSAGE_CHARS], device, self.severity, self.action, value=value, limit=self.limit
        )

    def row(self) -> str:
        """The rule as a line of a Markdown table."""
        when = self.when if self.limit is None else self.when.format(limit=f"{self.limit:g}")
        return f"| `{self.name}` | {when} | {self.severity} | `{self.action}` | {self.source} |"


# fmt: off
MEMORY_LOW = Rule(
    "memory.low",
    "less than {limit} % of the memory is available: of the node, or of a control group's limit",
    5, "earlyoom kills at 5 %",
)
MEMORY_PRESSURE = Rule(
    "memory.pressure",
    "all tasks waited for memory {limit} % of the last minute (PSI, `full`)",
    10, OWN,
)
ECC_CORRECTED = Rule(
    "memory.ecc_corrected",
    "a memory controller corrected more than {limit} errors in 24 hours (EDAC)",
    100, "mcelog, `mem-ce-error-threshold`",
)
ECC_UNCORRECTED = Rule(
    "memory.ecc_uncorrected",
    "a memory controller has counted an uncorrectable error since boot (EDAC)",
    None, "kernel, EDAC: replace the module", "critical",
)
UNINTERRUPTIBLE = Rule(
    "process.uninterruptible",
    "a rank is in state D and has not run for {limit} s, with where in the kernel it waits",
    30, f"{OWN}; the kernel's own hung-task watch waits 120 s",
)
READ_ONLY_FILE_SYSTEM = Rule(
    "filesystem.read_only",
    "a file system that was writable is read-only now",
    None, "ext4(5), `errors=remount-ro`", "critical",
)

NET_DOWN = Rule(
    "net.link_down",
    "a network card has no carrier, had one before and is not switched off",
    None, OWN,
)
NET_FLAPPING = Rule(
    "net.link_flapping",
    "the carrier of a network card changed {limit} times or more in 10 minutes",
    2, NVSENTINEL,
)
NET_ERRORS = Rule(
    "net.errors",
    "more than {limit} % of a network card's packets of the last 2 minutes were errors, at least 10",
    1, MIXIN,
)
NET_RETRANSMITS = Rule(
    "net.retransmits",
    "more than {limit} % of at least 1,000 TCP segments in 2 minutes had to be sent again",
    10, OWN, "info",
)

PORT_DOWN = Rule(
    "ib.port_down",
    "a port that was active is not, or its device is gone",
    None, OWN,
)
PORT_DROPPED = Rule(
    "ib.port_dropped",
    "a port has been down for more than {limit} s and did not come back in between",
    240, GPUD, "critical",
)
PORT_FLAPPING = Rule(
    "ib.port_flapping",
    "a port was down for 25 s or longer and came back, {limit} times in 12 hours",
    3, GPUD,
)
PORT_ERRORS = Rule(
    "ib.errors",
    "an error counter of a port grew faster than the table below allows",
    None, NVSENTINEL,
)
PORT_RATE = Rule(
    "ib.degraded_rate",
    "a port runs at less than the rate it had, or than most ports of the same kind of board have",
    None, OWN,
)
PORT_SATURATED = Rule(
    "ib.counters_saturated",
    "a counter of a port stands at the end of its range and counts no more",
    None, "IBTA, PortCounters: they do not wrap", "info", "ignore",
)

STORAGE_FULL = Rule(
    "storage.full",
    "a file system, or its inodes, is {limit} % full",
    95, f"imbue cluster-health; {MIXIN}",
)
STORAGE_EXHAUSTED = Rule(
    "storage.exhausted",
    "a file system, or its inodes, is {limit} % full, or less than 16 MiB are left",
    99, OWN, "critical",
)
STORAGE_SLOW = Rule(
    "storage.slow",
    "writing 4 KiB durably into the checkpoint folder took longer than {limit} s",
    5, OWN,
)
STORAGE_READ_ONLY = Rule(
    "storage.read_only",
    "the checkpoint folder is on a read-only file system",
    None, "EROFS", "critical",
)
STORAGE_UNWRITABLE = Rule(
    "storage.unwritable",
    "a watched file system answers with an error, or the checkpoint folder refuses the write",
    None, "EIO, ESTALE, ENOSPC, EDQUOT and the like", "critical",
)
STORAGE_REFUSED = Rule(
    "storage.probe_refused",
    "the agent itself may not write into the checkpoint folder; the job may",
    None, "EACCES, EPERM: `root_squash`", "info", "ignore",
)

CLOCK_UNSYNCHRONISED = Rule(
    "clock.unsynchronised",
    "the kernel calls the clock unsynchronised, its error may be {limit} s or more",
    16, f"adjtimex(2), STA_UNSYNC; {MIXIN}", "info",
)
CLOCK_OFFSET = Rule(
    "clock.offset",
    "the clock was more than {limit} s off at every look of 10 minutes",
    0.05, MIXIN,
)

# fmt: on
SECTIONS: dict[str, tuple[Rule, ...]] = {
    "Host": (
        MEMORY_LOW,
        MEMORY_PRESSURE,
        ECC_CORRECTED,
        ECC_UNCORRECTED,
        UNINTERRUPTIBLE,
        READ_ONLY_FILE_SYSTEM,
        NET_DOWN,
        NET_FLAPPING,
        NET_ERRORS,
        NET_RETRANSMITS,
    ),
    "InfiniBand and RoCE": (PORT_DOWN, PORT_DROPPED, PORT_FLAPPING, PORT_ERRORS, PORT_RATE, PORT_SATURATED),
    "Storage": (
        STORAGE_FULL,
        STORAGE_EXHAUSTED,
        STORAGE_SLOW,
        STORAGE_READ_ONLY,
        STORAGE_UNWRITABLE,
        STORAGE_REFUSED,
    ),
    "Clock": (CLOCK_UNSYNCHRONISED, CLOCK_OFFSET),
}  # fmt: skip
"""Section of docs/health.md -> its conditions."""
