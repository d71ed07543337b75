"""Every kind of fault that the lab can do. A new kind is a class in a file here and its line in `KINDS`."""

from __future__ import annotations

from ryzen_lab.errors import UsageError
from ryzen_lab.faults.base import Aim, Fault
from ryzen_lab.faults.hardware import GpuLost, Thermal, Xid, tell_xids
from ryzen_lab.faults.injected import Backward, Deadlock, Exit, Gil, Loader, Save, Skip, Spin
from ryzen_lab.faults.innocent import Partition, Pause
from ryzen_lab.faults.signals import AgentKill, CoordinatorKill, Kill, NodeKill, NodeStop, Stop
from ryzen_lab.moments import ENDING, MOMENTS

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
    "xid": Xid,
    "thermal": Thermal,
    "gpu-lost": GpuLost,
}


def parse(text: str, xids: str = "79") -> list[Fault]:
    """`kill,coordinator-kill` as faults, `none` as no fault; `kill,kill@rendezvous`: the second one at that moment.

    `xids`: which ones those of kind `xid` are, in turn. Raises UsageError for an unknown kind, moment or Xid.
    """
    names = [each.strip() for each in text.split(",")]
    if len(names) > 1 and NOTHING in names:
        raise UsageError(f"--fault: {text!r}: {NOTHING!r} stands alone")
    faults = [_one(name) for name in names if name != NOTHING]
    if faults and all(each.moment and each.moment != ENDING for each in faults):
        raise UsageError(f"--fault: {text!r}: nothing is {faults[0].moment} before a fault: put one before it")
    tell_xids(faults, xids)
    return faults


def _one(name: str) -> Fault:
    kind, at, moment = name.partition("@")
    if kind not in KINDS:
        raise UsageError(f"--fault: {kind!r} is not a kind of fault; allowed: {NOTHING}, {', '.join(KINDS)}")
    if at and moment not in MOMENTS:
        raise UsageError(f"--fault: {moment!r} is not a moment; allowed: {', '.join(MOMENTS)}")
    fault = KINDS[kind]()
    fault.moment = moment
    return fault
