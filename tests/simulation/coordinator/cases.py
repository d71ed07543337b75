"""From a seed to a case: how large the cluster is, how its parts behave, and what goes wrong when.

Families take turns by seed, so that any range of seeds has some of each. The job is short (about 60 steps of 0.1 s):
what is proved is what happens between worlds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ryzen_coordinator.core.events import Shape
from ryzen_coordinator.core.settings import CoreSettings

from .simulated import Fault

SETTINGS = CoreSettings(form_wait_s=3.0, hint_wait_s=1.0, restart_budget=1000, fruitless_generations=1000)
HASTY = replace(SETTINGS, stall_floor_s=40.0, frozen_stack_s=8.0)
"""Hangs are settled sooner, so that a run costs less; the patient family has the defaults."""


@dataclass(frozen=True)
class Case:
    """Everything that a run follows from. `single`: one fault alone, so that the blame must be exact."""

    seed: int
    family: str
    nodes: int = 3
    minimum: int = 3
    maximum: int = 3
    ranks_per_node: int = 2
    target: int = 60
    step_s: float = 0.1
    start_s: float = 1.0
    checkpoint_every: int = 10
    peers_hang: bool = False
    progress: bool = True
    grow: str = "checkpoint"
    tick_s: float = 0.05
    loss: float = 0.003
    until_s: float = 400.0
    settings: CoreSettings = HASTY
    faults: tuple[Fault, ...] = field(default=())
    single: bool = False

    def shape(self, known: bool = True) -> Shape:
        """What torchrun was asked for; an agent that has not met the handler does not know."""
        return Shape(self.minimum, self.maximum, self.ranks_per_node, (("grow", self.grow),)) if known else Shape()


Family: TypeAlias = Callable[[random.Random, Case], Case]

DEATHS = ("kill", "oom", "error", "torchrun", "node", "freeze")
HANGS = ("stop", "blocked", "busy", "deadlock")
HARMFUL = (*DEATHS, *DEATHS, *HANGS)
HARMLESS = ("agent", "cut", "unlink", "farewell", "coordinator", "doze")
SIGNALS = (
    "announced",
    "written",
    "sent",
    "go",
    "formed",
    "stopping",
    "rendezvous",
    "taken",
    "stepping",
    "first step",
    "finished",
)


def case_of(seed: int) -> Case:
    """The case of a seed; the same one for ever, as long as this file does not change."""
    names = list(FAMILIES)
    family = names[seed % len(names)]
    dice = random.Random(seed * 7919 + 1)
    case = Case(seed, family, tick_s=dice.uniform(0.04, 0.08), start_s=dice.uniform(0.5, 1.2))
    case = replace(case, step_s=dice.choice([0.05, 0.1, 0.2]), checkpoint_every=dice.choice([3, 10, 25]))
    case = replace(case, ranks_per_node=dice.choice([1, 2, 2]), grow=dice.choice(["checkpoint"] * 3 + ["now", "never"]))
    return FAMILIES[family](dice, case)


def _fault(dice: random.Random, case: Case, kind: str, at_s: float | None = None) -> Fault:
    """One of a kind, at some moment of the first run or at `at_s`."""
    at_s = dice.uniform(0.5, 4.0 + case.target * case.step_s) if at_s is None else at_s
    back_s = {
        "stop": 0.0,
        "kill": 0.0,
        "oom": 0.0,
        "error": 0.0,
        "torchrun": dice.uniform(0.3, 4.0),
        "node": dice.uniform(0.3, 8.0),
        "freeze": dice.uniform(0.3, 12.0),
        "agent": dice.uniform(0.2, 6.0),
        "farewell": dice.uniform(0.2, 6.0),
        "cut": dice.uniform(0.1, 6.0),
        "unlink": dice.uniform(0.05, 4.0),
        "coordinator": dice.uniform(0.1, 5.0),
        "doze": dice.uniform(0.3, 6.0),
        "pause": dice.uniform(1.0, 25.0),
        "pause all": dice.uniform(1.0, 25.0),
    }.get(kind, 0.0)
    return Fault(kind, f"node-{dice.randrange(case.nodes)}", dice.randrange(4), back_s, at_s)


def _later(dice: random.Random, fault: Fault) -> Fault:
    """The same fault, a little after something that happens in a recovery."""
    delay_s = dice.choice([0.0, dice.uniform(0.0, 0.02), dice.uniform(0.0, 0.3), dice.uniform(0.0, 2.0)])
    return replace(fault, at_s=None, signal=dice.choice(SIGNALS), nth=dice.choice([1, 2, 2, 2, 3, 4]), delay_s=delay_s)


def _quiet(dice: random.Random, case: Case) -> Case:
    """Nothing that hurts the job: no generation may be spent."""
    faults = [_fault(dice, case, dice.choice(HARMLESS)) for _ in range(dice.randrange(7))]
    faults = [_later(dice, fault) if dice.random() < 0.3 else fault for fault in faults]
    return replace(case, faults=tuple(faults))


def _single(dice: random.Random, case: Case) -> Case:
    """One fault alone while the job steps: the blame is exact and quick."""
    kind = dice.choice((*DEATHS, *HANGS))
    begin_s = 4.0 + dice.uniform(0.2, case.target * case.step_s * 0.6)
    fault = _fault(dice, case, kind, begin_s)
    if kind == "freeze":
        fault = replace(fault, seconds=dice.uniform(8.0, 15.0))
    hang = kind in {"kill", "oom", "node"} and dice.random() < 0.4
    return replace(case, faults=(fault,), single=True, minimum=dice.choice([2, 3]), peers_hang=hang, loss=0.0)


def _mixed(dice: random.Random, case: Case) -> Case:
    """Anything, any time."""
    case = replace(case, minimum=dice.choice([1, 2, 3]), peers_hang=dice.random() < 0.3)
    faults = [_fault(dice, case, dice.choice(HARMFUL + HARMLESS)) for _ in range(dice.randrange(2, 8))]
    return replace(case, faults=tuple(_later(dice, fault) if dice.random() < 0.3 else fault for fault in faults))


def _recovery(dice: random.Random, case: Case) -> Case:
    """A first fault, and more of them in the middle of what follows from it."""
    first = _fault(dice, case, dice.choice(("kill", "node", "stop", "torchrun")), dice.uniform(1.5, 6.0))
    rest = [
        _later(dice, _fault(dice, case, dice.choice(HARMFUL + HARMLESS + ("coordinator",) * 4)))
        for _ in range(dice.randrange(1, 5))
    ]
    return replace(case, faults=(first, *rest), minimum=dice.choice([2, 3]), peers_hang=dice.random() < 0.3)


def _spare(dice: random.Random, case: Case) -> Case:
    """One node more than the world takes: it waits, warm, and takes a lost one's place."""
    case = replace(case, nodes=4, minimum=dice.choice([2, 3]))
    faults = [
        _fault(dice, case, dice.choice(("node", "kill", "freeze", "coordinator"))) for _ in range(dice.randrange(1, 4))
    ]
    faults = [_later(dice, fault) if dice.random() < 0.3 else fault for fault in faults]
    return replace(case, faults=tuple(faults))


def _operated(dice: random.Random, case: Case) -> Case:
    """A person takes nodes out and lets them in again, while other things go wrong."""
    case = replace(case, nodes=4, minimum=2)
    evictions = [
        Fault("evict", f"node-{dice.randrange(4)}", 0, dice.uniform(1.0, 15.0), dice.uniform(2.0, 9.0))
        for _ in range(dice.randrange(1, 3))
    ]
    rest = [_fault(dice, case, dice.choice(("kill", *HARMLESS))) for _ in range(dice.randrange(3))]
    return replace(case, faults=(*evictions, *rest))


def _hung(dice: random.Random, case: Case) -> Case:
    """A rank hangs, others fail before or meanwhile, evaluations last long."""
    hangs = [_fault(dice, case, dice.choice(HANGS)) for _ in range(dice.randrange(1, 3))]
    rest = [_fault(dice, case, dice.choice(("pause", "pause all", "kill", "coordinator", "unlink"))) for _ in range(2)]
    return replace(case, faults=(*hangs, *rest), minimum=dice.choice([2, 3]), target=40)


def _patient(dice: random.Random, case: Case) -> Case:
    """The product's own limits: evaluations of minutes, of one rank or of all, that nobody has declared."""
    kinds = [dice.choice(("pause", "pause all")) for _ in range(dice.randrange(1, 3))]
    at_s = [3.0 + dice.uniform(0.0, 4.0) for _ in kinds]
    faults = [_fault(dice, case, kind, when) for kind, when in zip(kinds, at_s, strict=True)]
    pauses = [replace(fault, seconds=dice.uniform(5.0, 200.0)) for fault in faults]
    return replace(case, faults=tuple(pauses), settings=SETTINGS, until_s=900.0, target=40, loss=0.0)


def _skipping(dice: random.Random, case: Case) -> Case:
    """A rank leaves out a collective and the job steps on: what is saved from then on is tainted."""
    case = replace(case, step_s=dice.choice([0.2, 0.3]), target=90, checkpoint_every=dice.choice([3, 5, 10]), loss=0.0)
    skip = Fault("skip", f"node-{dice.randrange(3)}", dice.randrange(4), signal="step", nth=dice.randrange(18, 40))
    more = [_fault(dice, case, dice.choice(("coordinator", "unlink", "kill"))) for _ in range(dice.randrange(2))]
    return replace(case, faults=(skip, *more), single=not more)


def _sick(dice: random.Random, case: Case) -> Case:
    """Devices break, or scripts do: Xids and conditions, some nodes readmitted later, while other things go wrong."""
    settings = replace(HASTY, health_evict_share=1.0)
    case = replace(case, nodes=4, minimum=1, settings=settings, step_s=0.2, target=100)
    kind = dice.choice(("dead gpu", "lost gpu", "page fault", "page faults"))
    first = _fault(dice, case, kind, 4.0 + dice.uniform(0.0, 4.0))
    again = [_fault(dice, case, kind, 10.0 + dice.uniform(0.0, 10.0)) for _ in range(dice.randrange(3))]
    if kind in {"dead gpu", "lost gpu"}:
        faults = [replace(fault, seconds=dice.choice([0.0, dice.uniform(3.0, 9.0)])) for fault in (first, *again[:1])]
        faults = [_later(dice, fault) if dice.random() < 0.2 else fault for fault in faults]
    else:
        same = dice.random() < 0.7
        faults = [first, *(replace(fault, node=first.node, local=first.local) if same else fault for fault in again)]
    others = ("kill", "coordinator", "cut", "agent", "unlink")
    rest = [_fault(dice, case, dice.choice(others)) for _ in range(dice.randrange(3))]
    return replace(case, faults=(*faults, *rest))


def _braked(dice: random.Random, case: Case) -> Case:
    """A job that fails again and again: its budget, or its want of progress, ends it."""
    budget = dice.choice([1, 2, 3])
    if dice.random() < 0.5:
        settings, signal = replace(HASTY, restart_budget=budget), "first step"
    else:
        settings, signal = replace(HASTY, fruitless_generations=budget + 1), "stepping"
    place = (f"node-{dice.randrange(3)}", dice.randrange(4))
    faults = [Fault("kill", *place, signal=signal, nth=nth, delay_s=0.01) for nth in range(1, budget + 4)]
    return replace(case, faults=tuple(faults), settings=settings, checkpoint_every=25, step_s=0.2)


FAMILIES: dict[str, Family] = {
    "quiet": _quiet,
    "single": _single,
    "mixed": _mixed,
    "recovery": _recovery,
    "spare": _spare,
    "operated": _operated,
    "hung": _hung,
    "patient": _patient,
    "skipping": _skipping,
    "braked": _braked,
    "sick": _sick,
}
