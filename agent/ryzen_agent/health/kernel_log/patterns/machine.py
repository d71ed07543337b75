"""The machine itself: machine checks, memory controllers (EDAC), platform records (CPER), heat of the CPU.

What the hardware has corrected is told and counted. An error it could not correct is usually contained by the kernel
(the page goes offline, its owner gets SIGBUS and is seen to die); only a record that calls itself fatal, or a processor
whose context is corrupt, says that the machine is not to be trusted. A BERT record is of the boot before: history.
"""

from __future__ import annotations

import re

from ryzen_agent.health.kernel_log.finding import Finding, name, number, one_line
from ryzen_agent.health.model import Action

HINTS = (b"Hardware Error]", b"EDAC ", b"Killing ", b"Memory failure: ", b"CPU")

EXAMPLES = (
    "mce: [Hardware Error]: Machine check events logged",
    "mce: [Hardware Error]: CPU 18: Machine Check: 0 Bank 7: 8c00004000010090",
    "mce: [Hardware Error]: CPU 4: Machine Check Exception: 5 Bank 1: be00000000800400",
    "mce: [Hardware Error]: event severity: fatal",
    "{1}[Hardware Error]: event severity: corrected",
    "BERT: [Hardware Error]: event severity: fatal",
    "EDAC MC0: 1 CE memory read error",
    "EDAC MC1: 1 UE memory read error on CPU_SrcID#1_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x0 offset:0x0)",
    "Memory failure: 0x1d3a7f: Sending SIGBUS to python3:4242 due to hardware memory corruption",
    "mce: CPU3: Package temperature above threshold, cpu clock throttled (total events = 1)",
)

_BANK = re.compile(
    r"(?:mce: )?\[Hardware Error\]: CPU (?P<cpu>\d+): Machine Check(?: Exception)?: \S{1,16} Bank (?P<bank>\d+): "
    r"(?P<status>[0-9a-f]{16})\b"
)
_LOGGED = re.compile(r"(?:mce: )?\[Hardware Error\]: Machine check events logged")
_SEVERITY = re.compile(r"(?P<source>BERT: |mce: |\{\d+\})?\[Hardware Error\]: event severity: (?P<severity>[a-z]+)")
_EDAC = re.compile(r"EDAC (?P<controller>MC\d+): (?P<count>\d+) (?P<what>CE|UE) (?P<text>.*)", re.DOTALL)
_LABEL = re.compile(r"\bon (?P<label>\S{1,80})")
_VICTIM = re.compile(
    r"(?:Memory failure: 0x[0-9a-f]+: (?:Sending SIGBUS to|Killing)|(?:mce|MCE): Killing) "
    r"(?P<name>[^\n]{1,64}):(?P<pid>\d{1,10}) due to hardware memory corruption"
)
_HOT = re.compile(r"(?:mce: )?CPU(?P<cpu>\d+): (?:Core|Package) temperature above threshold")

_UNCORRECTED, _CONTEXT_CORRUPT = 1 << 61, 1 << 57
"""UC and PCC of IA32_MCi_STATUS (Intel SDM volume 3, 17.3.2.2; AMD has them at the same bits)."""

_SEVERITIES: dict[str, tuple[str, Action]] = {
    "fatal": ("hw", "drain_service"),
    "recoverable": ("hw", "watch_repeat"),
    "corrected": ("hw-info", "watch_repeat"),
    "info": ("info", "ignore"),
}
"""Of cper_severity_str in drivers/firmware/efi/cper.c."""


def find(message: str) -> Finding | None:
    """What one message says of the machine."""
    words = one_line(message)
    if found := _BANK.match(message):
        fault_class, action = _bank(int(found["status"], 16))
        unit = f"CPU {found['cpu'][:6]} bank {found['bank'][:6]}"
        return Finding("mce", words, unit=unit, fault_class=fault_class, action=action)
    if found := _SEVERITY.match(message):
        past = found["source"] == "BERT: "
        fault_class, action = _SEVERITIES.get(found["severity"], ("unknown", "watch_repeat"))
        return Finding("mce", words, fault_class=fault_class, action="watch_repeat" if past else action)
    if _LOGGED.match(message):
        return Finding("mce", words, fault_class="hw-info")
    if found := _VICTIM.match(message):
        return Finding("mce", words, fault_class="hw", pid=number(found["pid"]), process=name(found["name"]))
    if found := _HOT.match(message):
        return Finding("thermal", words, unit=f"CPU {found['cpu'][:6]}", fault_class="hw-info")
    return _edac(message)


def _bank(status: int) -> tuple[str, Action]:
    if not status & _UNCORRECTED:
        return "hw-info", "watch_repeat"
    return "hw", "drain_service" if status & _CONTEXT_CORRUPT else "watch_repeat"


def _edac(message: str) -> Finding | None:
    found = _EDAC.match(message)
    if found is None:
        return None
    label = _LABEL.search(found["text"])
    unit = one_line(f"{found['controller'][:12]} {label['label'] if label else ''}")
    return Finding("mce", one_line(message), unit=unit, fault_class="hw" if found["what"] == "UE" else "hw-info")
