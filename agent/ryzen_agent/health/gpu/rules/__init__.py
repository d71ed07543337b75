"""All that can be wrong with a GPU, in one list. What is not found any more is not said any more.

The driver's own word goes first: where it states a recovery action, the other conditions of that GPU that would take
it out of service ask for the same. A row that could not be remapped outranks one that waits.
"""

from __future__ import annotations

from ryzen_agent.health.gpu.rules import heat, links, memory, state
from ryzen_agent.health.gpu.rules.beside import BESIDE
from ryzen_agent.health.gpu.rules.rule import Finding, Kind, Rule, Subject
from ryzen_agent.health.model import MESSAGE_CHARS, Action, Condition

__all__ = ["KINDS", "RULES", "Finding", "Rule", "Subject", "judge"]

RULES: tuple[Rule, ...] = (*state.RULES, *memory.RULES, *links.RULES, *heat.RULES)

KINDS: tuple[Kind, ...] = (*(rule.kind for rule in RULES), *BESIDE)
"""All conditions of GPUs, as the documentation has them."""

OUT_OF_SERVICE: frozenset[Action] = frozenset({"reset_gpu", "reboot", "drain_service"})
OUTRANKED = {"gpu.row_remap_pending": "gpu.row_remap_failed", "gpu.unknown_error": "gpu.lost"}
"""Condition -> the one beside which it is not said."""


def judge(subject: Subject) -> tuple[Condition, ...]:
    """Every condition of one GPU at one look."""
    found = {rule.name: (rule, finding) for rule in RULES if (finding := rule.find(subject)) is not None}
    stated = found["gpu.recovery_action"][1].action if "gpu.recovery_action" in found else None
    identity = subject.reading.identity
    said = []
    for name, (rule, finding) in found.items():
        if OUTRANKED.get(name) in found:
            continue
        action = finding.action or rule.action
        if stated is not None and action in OUT_OF_SERVICE:
            action = stated
        device = identity.uuid or f"GPU {identity.index}"
        message = f"GPU {identity.index}: {finding.message}"[:MESSAGE_CHARS]
        severity = finding.severity or rule.severity
        said.append(Condition(name, message, device, severity, action, identity.pci, finding.value, finding.limit))
    return tuple(said)
