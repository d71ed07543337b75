"""Xids that are the application's."""

from __future__ import annotations

from collections import Counter

from .checker import Checker


class Applications(Checker):
    """A page fault evicts only if the same GPU had one before and no other node has had one at the same time."""

    name = "applications"
    promise = "no node is evicted for an Xid of the application's: seen once, or on several nodes at once"

    def ended(self) -> None:
        struck = self.sim.struck
        broken = {fault.node for fault in struck if fault.kind in {"dead gpu", "lost gpu"}}
        per_gpu = self.sim.case.ranks_per_node
        faults = Counter((fault.node, fault.local % per_gpu) for fault in struck if fault.kind == "page fault")
        repeated = {node for (node, _), count in faults.items() if count > 1}
        for (kind, _), body in self.sim.control.records.items():
            verdict = body["verdict"] if kind == "incident" else None
            if verdict is None or (verdict["fault_class"], verdict["action"]) != ("hardware", "evict"):
                continue
            if wrong := set(verdict["nodes"]) - broken - repeated:
                self.broke(f"{', '.join(sorted(wrong))} is evicted: {verdict['reason']}")
