"""What a rule is: one way in which one GPU can be unwell, and where its threshold comes from.

A rule is a function of a `Subject`; its docstring has the threshold on the first line and the source below it, and
`docs/health.md` is made from both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

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
class Kind:
    """A condition as the documentation has it. `when`: what makes it; `source`: whose threshold that is."""

    name: str
    severity: Severity
    action: Action
    when: str
    source: str

    def row(self) -> str:
        """Its line of the table in docs/health.md."""
        return f"| `{self.name}` | {self.when} | {self.severity} | `{self.action}` | {self.source} |"


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition of one GPU. `find` says what is found, or None."""

    name: str
    severity: Severity
    action: Action
    find: Callable[[Subject], Finding | None]

    @property
    def kind(self) -> Kind:
        """With the words of `find`'s docstring."""
        when, _, source = inspect.cleandoc(self.find.__doc__ or "").partition("\n\n")
        return Kind(self.name, self.severity, self.action, " ".join(when.split()), " ".join(source.split()))
