"""The commands of a scenario file that say what a node's kernel log and driver have said."""

from __future__ import annotations

from typing import Any

from ryzen_coordinator.core.events import ConditionSeen, HealthSeen

ACTIONS = {
    13: "restart_app_then_repeat",
    31: "restart_app_then_repeat",
    43: "ignore",
    45: "follow_other",
    79: "reboot",
    94: "restart_app",
    95: "reset_gpu",
    154: "ignore",
}
"""What the agent's table says of those Xids that the scenarios use."""

UNIX_OFFSET_S = 1e6


class HealthCommands:
    """Part of a Scenario. An event is told with every report of its node from then on: nobody acknowledges it."""

    nodes: dict[str, Any]
    now_s: float

    def _report(self, node: Any) -> None:
        raise NotImplementedError

    def do_xid(
        self, name: str, code: str, gpu: str = "GPU-0", ranks: str = "", quietly: str = "no", **more: str
    ) -> None:
        """A line of the kernel log; ranks=0,1: of the job that runs here; whose=ours|foreign; quietly: told later."""
        number = int(code)
        node = self.nodes[name]
        node.events.append(
            HealthSeen(
                id=max([0, *(event.id for event in node.events)]) + 1,
                at_unix_s=self.now_s + UNIX_OFFSET_S + node.clock_s - float(more.get("ago", "0")),
                kind=more.get("kind", "xid"),
                message=more.get("message", ""),
                code=number,
                device=gpu,
                unit=more.get("unit", ""),
                action=more.get("action", ACTIONS.get(number, "watch_repeat")),
                run_id=more.get("run_id", "job" if ranks else ""),
                ranks=tuple(map(int, ranks.split(","))) if ranks else (),
                foreign=more.get("whose") == "foreign",
                ours=more.get("whose") == "ours",
            )
        )
        if quietly == "no":
            self._report(node)

    def do_condition(
        self, name: str, condition: str, gpu: str = "GPU-0", severity: str = "warning", age: str = "0", **more: str
    ) -> None:
        """Something stands from now on."""
        node = self.nodes[name]
        action = more.get("action", "reboot" if severity == "critical" else "watch_repeat")
        foreign = more.get("whose") == "foreign"
        seen = ConditionSeen(
            condition, gpu, severity, action, more.get("message", ""), float(age), foreign=foreign,
            run_id=more.get("run_id", ""),
        )  # fmt: skip
        kept = [each for each in node.conditions or () if (each.name, each.device) != (condition, gpu)]
        node.conditions = (*kept, seen)
        self._report(node)

    def do_passed(self, name: str, condition: str) -> None:
        """It does not stand any more."""
        node = self.nodes[name]
        node.conditions = tuple(each for each in node.conditions or () if each.name != condition)
        self._report(node)

    def do_clock(self, name: str, ahead: str) -> None:
        """The node's wall clock is so many seconds ahead of ours."""
        self.nodes[name].clock_s = float(ahead)
