"""One thing that one message of the kernel log says, and the few words that every pattern needs."""

from __future__ import annotations

from dataclasses import dataclass

from ryzen_agent.health.model import MESSAGE_CHARS, Action, Kind

RECOVERY = "recovery"
"""The class of a message that takes an earlier one back: an NFS server that answers again, an Xid 154 "to None"."""

PCI = r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?"
"""Domain, bus, device and perhaps a function, as the kernel and the driver print them."""

PID_MAX = 2**22
"""PID_MAX_LIMIT of include/linux/threads.h."""
PID_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """Fields as in `model.Event`. `caused_by`: the Xid that this one (45) says it follows from."""

    kind: Kind
    message: str
    code: int = 0
    device: str = ""
    pci: str = ""
    unit: str = ""
    fault_class: str = ""
    action: Action = "watch_repeat"
    pid: int | None = None
    process: str | None = None
    caused_by: int | None = None

    @property
    def is_recovery(self) -> bool:
        return self.fault_class == RECOVERY


def normal_pci(text: str) -> str:
    """ "00000000:05:00.0" -> "0000:05:00": four digits of domain where they suffice, lower case, no function."""
    domain, bus, device = text.partition(".")[0].split(":")
    return f"{int(domain, 16):04x}:{bus}:{device}".lower()


def one_line(text: str) -> str:
    """Bounded and printable: what somebody else wrote ends in terminals and tables."""
    text = text[: 4 * MESSAGE_CHARS]
    if not text.isprintable():
        text = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(text.split())[:MESSAGE_CHARS]


def number(text: str | None) -> int | None:
    """A pid, or None where the driver printed "<unknown>" or nothing. Pid 0 is the kernel's idle task: nobody."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    pid = int(text[:PID_DIGITS])
    return pid if 0 < pid <= PID_MAX else None


def name(text: str | None) -> str | None:
    """A process's name, or None where it says "<unknown>" or nothing."""
    stripped = one_line(text or "").strip("'\" ")
    return stripped if stripped and stripped != "<unknown>" else None
