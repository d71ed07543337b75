"""Parsers of what the kernel says of the host, on text.

Formats: proc(5), Documentation/accounting/psi.rst, Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

KIB = 1024
_ESCAPED = re.compile(r"\\([0-7]{3})")


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo, `MemTotal:       24684092 kB`; bytes where a unit is given."""
    values = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if fields and fields[0].isdecimal():
            values[name] = int(fields[0]) * (KIB if fields[1:] == ["kB"] else 1)
    return values


def parse_flat(text: str) -> dict[str, int]:
    """`memory.events`, `memory.stat`: a name and a number a line."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def parse_limit(text: str | None) -> int | None:
    """`memory.max`, `memory.high`: bytes, None for "max"."""
    return int(text) if text is not None and text.isdecimal() else None


def parse_pressure(text: str) -> dict[str, dict[str, float]]:
    """`some avg10=0.66 avg60=0.38 avg300=0.39 total=6692034` -> {"some": {"avg10": 0.66, ...}}; in percent."""
    lines = {}
    for line in text.splitlines():
        kind, *fields = line.split() or [""]
        try:
            lines[kind] = {name: float(value) for name, _, value in (each.partition("=") for each in fields)}
        except ValueError:
            continue
    return {kind: values for kind, values in lines.items() if kind in {"some", "full"}}


def parse_cgroup(text: str) -> str | None:
    """/proc/PID/cgroup: the path in the unified hierarchy (`0::/path`), None without one or with one that leads out."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        if number == "0" and rest.startswith(":/") and ".." not in rest.split("/"):
            return rest[1:]
    return None


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount. An error makes the kernel set the file system read-only (`is_read_only`), a person sets the mount."""

    point: str
    kind: str
    source: str
    device: str
    was_mounted_writable: bool
    is_read_only: bool


def parse_mountinfo(text: str) -> Iterator[Mount]:
    """`27 1 254:0 / /mnt\\040a rw,relatime shared:1 - ext4 /dev/vda rw`: the mount, then the file system."""
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if separator and len(fields) >= 6 and len(tail) >= 3:
            options, super_options = fields[5].split(","), tail[2].split(",")
            yield Mount(
                unescape(fields[4]), tail[0], unescape(tail[1]), fields[2], "rw" in options, "ro" in super_options
            )


def unescape(text: str) -> str:
    """Octal escapes of mountinfo: blank, tab, newline, backslash."""
    return _ESCAPED.sub(lambda found: chr(int(found.group(1), 8)), text)


@dataclass(frozen=True, slots=True)
class Interface:
    """Counters of a network interface since it came."""

    received_bytes: int
    received_packets: int
    received_errors: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int


def parse_net_dev(text: str) -> dict[str, Interface]:
    """/proc/net/dev: eight fields received, eight sent; bytes, packets, errs first."""
    interfaces = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) >= 11 and all(each.isdecimal() for each in fields[:11]):
            received, sent = [int(each) for each in fields[:3]], [int(each) for each in fields[8:11]]
            interfaces[name.strip()] = Interface(*received, *sent)
    return interfaces


def parse_snmp(text: str, protocol: str = "Tcp") -> dict[str, int]:
    """/proc/net/snmp: a line of names, then a line of numbers, for each protocol. Empty where it is not there."""
    lines = [line.split() for line in text.splitlines() if line.startswith(f"{protocol}:")]
    if len(lines) < 2:
        return {}
    return {name: int(value) for name, value in zip(lines[0][1:], lines[1][1:], strict=False) if value.isdecimal()}


def parse_switches(text: str) -> int | None:
    """/proc/PID/status: how often the process was scheduled away, of both kinds. The same twice: it never ran."""
    found = [line.rpartition(":")[2] for line in text.splitlines() if "voluntary_ctxt_switches:" in line]
    return sum(map(int, found)) if len(found) == 2 and all(each.strip().isdecimal() for each in found) else None


def share(part: Mapping[str, int], name: str, whole: str) -> float | None:
    """Percent of `whole` that `name` is; None where either is missing or the whole is nothing."""
    if name not in part or not part.get(whole):
        return None
    return 100.0 * part[name] / part[whole]
