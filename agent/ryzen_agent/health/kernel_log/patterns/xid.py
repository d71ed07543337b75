"""Xids: what the NVIDIA driver says of a GPU. Forms of `kernel_rc.c` and `osapi.c` (open-gpu-kernel-modules 595.45.04).

    NVRM: Xid (<attr>): <xid>, pid=<pid>, name=<name>, <text>       with a process
    NVRM: Xid (<attr>): <xid>, <text>                               without

<attr> is `PCI:<domain>:<bus>:<device>`, on a MIG GPU with ` GPU-I:<n>` and ` GPU-CI:<n>`. Older drivers leave out
`PCI:`, quote the pid, write "<unknown>", give a pid without a name, or end at the number. That a GPU has fallen off
the bus is also said without the word Xid, once in three lines of one message.

The table gives class and action by number. The text overrules it where it knows better: the action that the driver
states (154), whether an NVLink error is fatal (144 to 150) or only a neighbour's (74).
"""

from __future__ import annotations

import re

from ryzen_agent.health import xid_table
from ryzen_agent.health.kernel_log.finding import PCI, RECOVERY, Finding, name, normal_pci, number, one_line
from ryzen_agent.health.model import Action

HINTS = (b"NVRM: ",)

EXAMPLES = (
    "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    "NVRM: GPU 0000:29:00.0: GPU has fallen off the bus.",
    "NVRM: Xid (PCI:0000:b5:00): 13, pid='<unknown>', name=<unknown>,"
    " Graphics SM Warp Exception on (GPC 1, TPC 3, SM 0): Out Of Range Address",
    "NVRM: Xid (PCI:0000:01:00 GPU-I:02 GPU-CI:00): 31, pid=4211, name=python3, Ch 00000008, MMU Fault",
    "NVRM: Xid (PCI:0000:01:00): 45, pid=9684, name=python, channel 0x00000015 caused by previous Xid 62",
    "NVRM: Xid (PCI:0003:00:00): 74, pid='<unknown>', name=<unknown>,"
    " NVLink: fatal error detected on link 14(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)",
    "NVRM: Xid (PCI:0009:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 01"
    " (0x021425c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)",
    "NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)",
    "NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)",
)  # fmt: skip

_XID = re.compile(
    rf"NVRM: Xid \((?:PCI:)?(?P<pci>{PCI})(?: GPU-I:(?P<gi>\d+))?(?: GPU-CI:(?P<ci>\d+))?\): (?P<xid>\d{{1,5}})"
    r"(?:\s*,\s*|\s*$)(?:pid='?(?P<pid>\d{1,10}|<unknown>)'?(?:,\s*|$))?(?:name=(?P<name>[^,]*)(?:,\s*|$))?(?P<text>.*)",
    re.DOTALL,
)

_FALLEN = re.compile(rf"NVRM: GPU (?:at )?(?:PCI:)?(?P<pci>{PCI}):? (?:GPU )?has fallen off the bus", re.IGNORECASE)

# One message of three lines in the log itself, three lines in dmesg and the journal.
#   NVRM: The NVIDIA GPU 0000:b3:00.0
#   NVRM: (PCI ID: 10de:26b5) installed in this system has
#   NVRM: fallen off the bus and is not responding to commands.
_PROBED = re.compile(rf"NVRM: The NVIDIA GPU (?P<pci>{PCI})\s")
_PROBED_END = re.compile(r"\s*NVRM: fallen off the bus", re.MULTILINE)
_PROBED_CHARS = 400
_FALLEN_TEXT = "GPU has fallen off the bus."
_FALLEN_XID = 79

_CAUSE = re.compile(r"caused by previous Xid (\d{1,5})")
_GPC = re.compile(r"\(GPC\s{0,4}(\d+),\s{0,4}TPC\s{0,4}(\d+)")
_LINK = re.compile(r"\blink (\d+)", re.IGNORECASE)
_REGISTERS = re.compile(r"\((0x[0-9a-f]{1,8}(?:,? 0x[0-9a-f]{1,8}){3,15})\)", re.IGNORECASE)
_FATAL = re.compile(r"\w+\s+Fatal\s")
_STATED = re.compile(r"GPU recovery action changed from 0x\w+ \([^)]*\) to 0x\w+ \((?P<now>[^)]*)\)")

_NVLINK_ERROR = 74
_NEIGHBOUR_BITS = 1 << 1 | 1 << 20
_HARMLESS_BITS = 1 << 0 | 1 << 23 | 1 << 30
"""Of Xid 74's first register: what NVIDIA's WORKFLOW_NVLINK_ERR calls sympathetic, and what it says to ignore."""


def find(message: str) -> Finding | None:
    """Any Xid of the message's beginning."""
    found = _XID.match(message)
    if found is None:
        return _fallen(message)
    xid, text = int(found["xid"]), one_line(found["text"])
    fault_class, action = _judged(xid, text)
    cause = _CAUSE.search(text)
    return Finding(
        kind="xid",
        message=_words(xid, text),
        code=xid,
        pci=normal_pci(found["pci"]),
        unit=_unit(found["gi"], found["ci"], text),
        fault_class=fault_class,
        action=action,
        pid=number(found["pid"]),
        process=name(found["name"]),
        caused_by=int(cause[1]) if cause else None,
    )


def begins_probe(message: str) -> str | None:
    """The GPU's address where a message is the first of the three lines, which the log's reader then waits for."""
    found = _PROBED.match(message + "\n")
    return normal_pci(found["pci"]) if found else None


def ends_probe(message: str) -> bool:
    """Whether it is the last of the three."""
    return _PROBED_END.match(message) is not None


def fallen(pci: str) -> Finding:
    """Xid 79 of a GPU, however it was said: equal words, so that the forms of one loss are one event."""
    known = xid_table.meaning(_FALLEN_XID)
    words = _words(_FALLEN_XID, _FALLEN_TEXT)
    return Finding("xid", words, _FALLEN_XID, pci=pci, fault_class=known.fault_class, action=known.action)


def _fallen(message: str) -> Finding | None:
    found = _FALLEN.match(message)
    if found is not None:
        return fallen(normal_pci(found["pci"]))
    probed = begins_probe(message)
    return fallen(probed) if probed and _PROBED_END.search(message[:_PROBED_CHARS]) else None


def _words(xid: int, text: str) -> str:
    return one_line(f"Xid {xid} ({xid_table.meaning(xid).description}): {text}".removesuffix(": "))


def _judged(xid: int, text: str) -> tuple[str, Action]:
    known = xid_table.meaning(xid)
    if xid == xid_table.RECOVERY_ACTION:
        return _stated(text)
    if xid in xid_table.NVLINK5:
        return known.fault_class, "reset_gpu" if _FATAL.match(text) else "watch_repeat"
    if xid == _NVLINK_ERROR:
        return known.fault_class, _nvlink_action(text) or known.action
    return known.fault_class, known.action


def _stated(text: str) -> tuple[str, Action]:
    """What the driver says it needs, in our words. NVML_GPU_RECOVERY_ACTION_*: none, GPU reset, node reboot,
    drain P2P, drain and reset, recover IMEX domain, bus reset, system reboot. One that is newer is only told."""
    found = _STATED.search(text)
    now = found["now"].lower() if found else ""
    if now == "none":
        return RECOVERY, "ignore"
    if "reboot" in now:
        return "hw", "reboot"
    if "reset" in now or "drain" in now:
        return "hw", "reset_gpu"
    return "meta", "watch_repeat"


def _nvlink_action(text: str) -> Action | None:
    """None where the table's action holds: bits of the hardware's own, or registers that cannot be read."""
    found = _REGISTERS.search(text)
    if found is None:
        return None
    first, *others = (int(each, 16) for each in re.findall(r"0x[0-9a-f]+", found[1].lower()))
    if any(others) or not first or first & ~(_NEIGHBOUR_BITS | _HARMLESS_BITS):
        return None
    return "follow_other" if first & _NEIGHBOUR_BITS else "ignore"


def _unit(instance: str | None, compute: str | None, text: str) -> str:
    """What of the GPU: repeats of 13 are counted by GPC and TPC, of NVLink by link, MIG apart from its siblings."""
    parts = [f"GPU-I {int(instance)}"] if instance else []
    parts += [f"GPU-CI {int(compute)}"] if compute else []
    if found := _GPC.search(text):
        parts.append(f"GPC {found[1]} TPC {found[2]}")
    elif found := _LINK.search(text):
        parts.append(f"link {int(found[1])}")
    return " ".join(parts)
