"""What must hold in every run: one promise a file, all of them in `CHECKERS`."""

from __future__ import annotations

from .accounting import Accounting
from .applications import Applications
from .barred import Barred
from .blame import Blame
from .brakes import Brakes
from .checker import Checker
from .endings import Endings
from .false_actions import FalseActions
from .generations import Generations
from .innocents import Innocents
from .journal_first import JournalFirst
from .one_generation import OneGeneration
from .replayed import Replayed
from .rollbacks import Rollbacks
from .sick_nodes import SickNodes
from .slots import Slots
from .stalls import Stalls
from .two_phases import TwoPhases

CHECKERS: tuple[type[Checker], ...] = (
    OneGeneration,
    Barred,
    FalseActions,
    Slots,
    Generations,
    TwoPhases,
    Stalls,
    Blame,
    Innocents,
    Rollbacks,
    Brakes,
    SickNodes,
    Applications,
    Endings,
    JournalFirst,
    Accounting,
    Replayed,
)
