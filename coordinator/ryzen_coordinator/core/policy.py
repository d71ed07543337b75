"""What is done about a verdict: the least that helps, with the rule in words.

exit, oom, unknown   restart in place: the nodes are not to blame
hang                 restart in place; the agent kills what does not move
desync               roll back to a checkpoint from before it
divergence           roll back to a checkpoint from before the skipped steps, once for a step
corruption           quarantine the node of the odd one out, and resume from a checkpoint from when replicas agreed;
                     where nobody can be named only the latter, once an hour
node_lost            evict: a spare takes the group rank, else the world shrinks; none while it must wait
hardware             the same, and the node is quarantined: it stays out, whoever must wait for that, until readmitted
thermal              advise: a person looks at the fans, or at the rack
network              none: the job still steps, so the node lives
the job's own fault  stop
"""

from __future__ import annotations

from dataclasses import replace

from ryzen_coordinator.core.blame import Action, Verdict
from ryzen_coordinator.core.rendezvous import Plan


def for_exit(verdict: Verdict, stop_reason: str | None) -> Verdict:
    """Restart, unless a brake or the job's own fault says that this cannot help."""
    if stop_reason is not None:
        return replace(verdict, action="stop", reason=_joined(verdict.reason, stop_reason))
    return replace(verdict, action="restart")


def for_desync(verdict: Verdict, clean_step: int | None, stop_reason: str | None) -> Verdict:
    """Back to a checkpoint from before the ranks fell apart; where nobody knows when that was, to the newest."""
    if stop_reason is not None:
        return for_exit(verdict, stop_reason)
    if clean_step is None:
        unknown = "since when is not known (no step marks): the newest checkpoint is resumed from"
        return replace(verdict, action="restart", reason=_joined(verdict.reason, unknown))
    words = f"back to a checkpoint of step {clean_step} or before"
    return replace(verdict, action="rollback", reason=_joined(verdict.reason, words))


def for_divergence(verdict: Verdict, clean_step: int, stop_reason: str | None) -> Verdict:
    """Back to a checkpoint from before the guard began to skip; the nodes are not to blame."""
    if stop_reason is not None:
        return for_exit(verdict, stop_reason)
    words = f"back to a checkpoint of step {clean_step} or before"
    return replace(verdict, action="rollback", reason=_joined(verdict.reason, words))


def for_corruption(verdict: Verdict, clean_step: int, stop_reason: str | None) -> Verdict:
    """Of replicas that differ where no node is taken out."""
    return for_divergence(verdict, clean_step, stop_reason)


def for_hang(verdict: Verdict, stop_reason: str | None) -> Verdict:
    return for_exit(verdict, stop_reason)


def for_node_loss(verdict: Verdict, before: tuple[str, ...], plan: Plan, minimum: int) -> Verdict:
    """`before`: the world that lost the node; `plan`: the one to come."""
    if all(node in plan.wanted for node in verdict.nodes):
        return replace(verdict, action="restart")  # a new torchrun is there already
    if len(plan.wanted) < minimum:
        action: Action = "evict" if verdict.fault_class in {"hardware", "corruption"} else "none"
        return replace(verdict, action=action, reason=_joined(verdict.reason, plan.reason))
    promoted = [node for node in plan.wanted if node not in before]
    if promoted:
        return replace(verdict, action="evict", reason=_joined(verdict.reason, f"spare {', '.join(promoted)} promoted"))
    return replace(verdict, action="evict", reason=_joined(verdict.reason, f"goes on with {len(plan.wanted)} nodes"))


def watch_only(verdict: Verdict) -> Verdict:
    """Membership is another rendezvous backend's."""
    return replace(verdict, action="none", reason=_joined(verdict.reason, "left to torchrun's own rendezvous"))


def advise(verdict: Verdict) -> Verdict:
    """The rule may only say what it would do."""
    return replace(verdict, action="advise")


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
