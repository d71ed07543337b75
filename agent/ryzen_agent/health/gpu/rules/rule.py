"""What a rule is: one way in which one GPU can be unwell, and where its threshold comes from.

A rule is a function of a `Subject`; its docstring has the threshold on the first line and the source below it, and
`docs/health.md` is made from both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from ryzen_agent.health.gpu.history import History
from ryzen_agent.health.gpu.reading import GpuReading
from ryzen_agent.health.model import Action, Severity


@dataclass(frozen=True, slots=True)
class Subject:
    """One GPU as it is judged. `peers`: the node's other GPUs of the same model, as they were just read."""

    reading: GpuReading
    history: History
    peers: tuple[GpuReading, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule has found. `value` was held against `limit`; the rest only where it differs from the rule's."""

    message: str
    value: float | None = None
    limit: float | None = None
    severity: Severity | None = None
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition. `find` says what is found, or None."""

    name: str
    severity: Severity
    action: Action
    find: Callable[[Subject], Finding | None]
    when: str = field(init=False)
    source: str = field(init=False)

    def __post_init__(self) -> None:
        when, _, source = inspect.cleandoc(self.find.__doc__ or "").partition("\n\n")
        object.__setattr__(self, "when", when)
        object.__setattr__(self, "source", " ".join(source.split()))
