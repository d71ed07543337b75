"""Every kind of fault that the lab can do. A new kind is a class in a file here and its line in `KINDS`."""

from __future__ import annotations

from ryzen_lab.errors import UsageError
from ryzen_lab.faults.base import Aim, Fault
from ryzen_lab.faults.injected import Backward, Deadlock, Exit, Gil, Loader, Save, Skip, Spin
from ryzen_lab.faults.innocent import Partition, Pause
from ryzen_lab.faults.signals import AgentKill, CoordinatorKill, Kill, NodeKill, NodeStop, Stop

__all__ = ["KINDS", "Aim", "Fault", "parse"]

NOTHING = "none"

KINDS: dict[str, type[Fault]] = {
    "kill": Kill,
    "exit": Exit,
    "stop": Stop,
    "spin": Spin,
    "gil": Gil,
    "backward": Backward,
    "loader": Loader,
    "save": Save,
    "deadlock": Deadlock,
    "skip": Skip,
    "pause": Pause,
    "node-kill": NodeKill,
    "node-stop": NodeStop,
    "agent-kill": AgentKill,
    "coordinator-kill": CoordinatorKill,
    "partition": Partition,
}


def parse(text: str) -> list[Fault]:
    """`kill,coordinator-kill` as faults, `none` as no fault. Raises UsageError for an unknown kind."""
    names = [each.strip() for each in text.split(",")]
    for name in names:
        if name not in KINDS and name != NOTHING:
            raise UsageError(f"--fault: {name!r} is not a kind of fault; allowed: {NOTHING}, {', '.join(KINDS)}")
    if len(names) > 1 and NOTHING in names:
        raise UsageError(f"--fault: {text!r}: {NOTHING!r} stands alone")
    return [KINDS[name]() for name in names if name != NOTHING]
