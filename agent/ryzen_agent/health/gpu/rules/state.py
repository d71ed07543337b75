"""The GPU as a whole: lost, to be reset, what its driver says should be done."""

from __future__ import annotations

from ryzen_agent.health.gpu import access
from ryzen_agent.health.gpu.rules.rule import Finding, Rule, Subject
from ryzen_agent.health.model import Action

RECOVERY: dict[int, tuple[str, Action]] = {
    1: ("reset the GPU", "reset_gpu"),
    2: ("reboot the node", "reboot"),
    3: ("drain peer-to-peer traffic", "drain_service"),
    4: ("drain and reset the GPU", "reset_gpu"),
    5: ("recover the IMEX domain", "drain_service"),
    6: ("reset the bus", "reset_gpu"),
    7: ("reboot the system", "reboot"),
}
"""Of nvmlDeviceGpuRecoveryAction_t (nvml.h, nvidia-ml-py 13.615): in words, and as an action."""

UNKNOWN_LOOKS = 2


def lost(subject: Subject) -> Finding | None:
    """any call answers "GPU is lost" (NVML 15)

    gpud: every component says unhealthy and advises a reboot; a lost GPU cannot be reset from the host.
    """
    return Finding("the driver has lost the GPU") if access.LOST in subject.reading.grave else None


def reset_required(subject: Subject) -> Finding | None:
    """any call answers "reset required" (NVML 16)

    nvml.h: "the GPU requires a reset before it can be used again"; gpud: unhealthy.
    """
    return Finding("the GPU must be reset") if access.RESET_REQUIRED in subject.reading.grave else None


def unknown_error(subject: Subject) -> Finding | None:
    """calls answer "unknown error" (NVML 999); critical: more than one call, at two looks in a row

    gpud takes any such answer for a broken GPU. One odd reading of one driver must cost no node, hence the two.
    """
    questions = subject.reading.grave.get(access.UNKNOWN)
    if not questions:
        return None
    message = f"the driver answers with an unknown error ({', '.join(questions[:3])})"
    if subject.history.in_a_row(lambda look: look.unknown > 1) >= UNKNOWN_LOOKS:
        return Finding(message, severity="critical", action="reboot")
    return Finding(message)


def recovery_action(subject: Subject) -> Finding | None:
    """the driver states a recovery action other than none (NVML field 230)

    The driver's own word: it goes before every table, also for the other conditions of this GPU.
    """
    stated = subject.reading.recovery_action
    if not stated:
        return None
    words, action = RECOVERY.get(stated, (f"something new (recovery action {stated})", "drain_service"))
    return Finding(f"the driver wants somebody to {words}", float(stated), 0.0, action=action)


def persistence_off(subject: Subject) -> Finding | None:
    """persistence mode is off

    gpud reports it. The driver unloads the GPU's state between jobs: slow starts, ECC counters that start anew.
    """
    return Finding("persistence mode is off") if subject.reading.persistence is False else None


RULES = (
    Rule("gpu.lost", "critical", "reboot", lost),
    Rule("gpu.reset_required", "critical", "reset_gpu", reset_required),
    Rule("gpu.unknown_error", "warning", "watch_repeat", unknown_error),
    Rule("gpu.recovery_action", "critical", "drain_service", recovery_action),
    Rule("gpu.persistence_off", "info", "ignore", persistence_off),
)
