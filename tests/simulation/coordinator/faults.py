"""What can go wrong in the simulated cluster: one function a kind, all of them in `STRIKES`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ryzen_coordinator.core.events import ConditionSeen, HealthSeen, OperatorEvict, OperatorReadmit

from .control import UNIX_OFFSET_S
from .simulated import Fault, Rank, SimNode, Strike, Trouble

if TYPE_CHECKING:
    from .simulator import Simulation

KEEPALIVE_S = 8.0
CUDA_ERROR = ("RuntimeError", "CUDA error: unspecified launch failure")


def strike(sim: Simulation, fault: Fault) -> None:
    """The moment has come."""
    if STRIKES[fault.kind](sim, fault):
        fault.struck_s = sim.now_s
        sim.struck.append(fault)
        sim.note(f"FAULT {fault.words()}")
        sim.watch("struck", fault)


def _rank(sim: Simulation, fault: Fault) -> tuple[SimNode, Rank] | None:
    node = sim.nodes[fault.node]
    if node.gone or node.frozen_until_s > sim.now_s:
        return None
    ranks = [rank for rank in node.ranks if rank.alive and rank.local == fault.local % sim.case.ranks_per_node]
    return (node, ranks[0]) if ranks and not sim.worlds.world_of(ranks[0]).finished else None


def _trains(sim: Simulation, node: SimNode) -> bool:
    return not node.gone and node.torchrun.alive and node.torchrun.pid > 0


def _kill_rank(sim: Simulation, fault: Fault) -> bool:
    found = _rank(sim, fault)
    if found is None:
        return False
    sim.watch("harmed", found[1].generation, found[0], found[1])
    sim.worlds.end(*found, -9)
    return True


def _kill_for_memory(sim: Simulation, fault: Fault) -> bool:
    found = _rank(sim, fault)
    if found is None:
        return False
    found[1].oom = True
    return _kill_rank(sim, fault)


def _raise_error(sim: Simulation, fault: Fault) -> bool:
    found = _rank(sim, fault)
    if found is None or found[1].trouble:
        return False
    sim.watch("harmed", found[1].generation, found[0], found[1])
    sim.worlds.fail(*found, ("ValueError", f"bad record {fault.local}"))
    return True


def _trouble(kind: Trouble) -> Strike:
    def do(sim: Simulation, fault: Fault) -> bool:
        found = _rank(sim, fault)
        if found is None or found[1].trouble or found[1].doomed or found[1].terminated:
            return False
        node, rank = found
        world = sim.worlds.world_of(rank)
        if kind != "stopped" and (world.step is None or world.done < 2):
            return False
        if kind != "pause" and not (kind == "stopped" and fault.seconds):
            sim.watch("harmed", rank.generation, node, rank)
        sim.worlds.trouble(node, rank, kind, "evaluation" if kind == "pause" else "")
        if fault.seconds:
            sim.on(node, fault.seconds, lambda: sim.worlds.calm(node, rank))
        return True

    return do


def _pause_all(sim: Simulation, fault: Fault) -> bool:
    """Every rank of the newest world evaluates."""
    world = max(sim.worlds.by_generation.values(), key=lambda each: each.generation, default=None)
    if world is None or world.done < 2 or world.broken or world.finished:
        return False
    for node, rank in world.ranks:
        if rank.alive and not rank.trouble and not node.gone and node.frozen_until_s <= sim.now_s:
            sim.worlds.trouble(node, rank, "pause", "evaluation")
            sim.on(node, fault.seconds, partial(sim.worlds.calm, node, rank))
    return True


def _skip(sim: Simulation, fault: Fault) -> bool:
    """One rank leaves out a collective; the others' next one pairs with its next one, and the job steps on."""
    found = _rank(sim, fault)
    world = sim.worlds.world_of(found[1]) if found is not None else None
    if found is None or world is None or world.step is None or world.done < 2 or found[1].skipped:
        return False
    found[1].skipped, found[1].skipped_from = 1 + fault.local % 2, world.step
    sim.watch("harmed", found[1].generation, *found)
    return True


def _kill_torchrun(sim: Simulation, fault: Fault) -> bool:
    node = sim.nodes[fault.node]
    if not _trains(sim, node) or node.frozen_until_s > sim.now_s or node.torchrun.waits_at_barrier_s is not None:
        return False
    if any(sim.worlds.world_of(rank).finished for rank in node.ranks):
        return False
    sim.watch("harmed", node.torchrun.generation, node, None)
    sim.torchruns.kill(node)
    if fault.seconds:
        sim.returning += 1
        sim.after(fault.seconds, lambda: _torchrun_back(sim, node))
    return True


def _torchrun_back(sim: Simulation, node: SimNode) -> None:
    sim.returning -= 1
    if not node.gone:
        sim.note(f"{node.name}: a new torchrun")
        sim.torchruns.begin(node)


def _kill_agent(sim: Simulation, fault: Fault) -> bool:
    node = sim.nodes[fault.node]
    if node.gone or node.agent is None or node.frozen_until_s > sim.now_s:
        return False
    sim.agents.stop(node)
    sim.on(node, fault.seconds, lambda: sim.agents.start(node) if node.agent is None else None)
    return True


def _farewell(sim: Simulation, fault: Fault) -> bool:
    """The agent is stopped by its owner and says goodbye."""
    node = sim.nodes[fault.node]
    if node.gone or node.agent is None or node.frozen_until_s > sim.now_s:
        return False
    sim.control.hang_up(node, goodbye=True)
    return _kill_agent(sim, fault)


def _cut(sim: Simulation, fault: Fault) -> bool:
    """The agent lives, its stream breaks and cannot be made anew for a while."""
    node = sim.nodes[fault.node]
    if node.gone:
        return False
    sim.cut_until_s[node.name] = sim.now_s + fault.seconds
    sim.control.hang_up(node)
    return True


def _unlink(sim: Simulation, fault: Fault) -> bool:
    """The handler and its agent lose each other for a moment."""
    node = sim.nodes[fault.node]
    if node.gone or node.agent is None or not node.agent.linked:
        return False
    node.agent.linked, node.agent.link_lost_s = False, sim.now_s
    sim.agents.dirty(node)
    sim.on(node, fault.seconds, lambda: sim.torchruns.meet(node))
    return True


def _kill_node(sim: Simulation, fault: Fault) -> bool:
    node = sim.nodes[fault.node]
    if not _trains(sim, node):
        return False  # done: a new torchrun there would begin a new run
    sim.watch("harmed", node.torchrun.generation, node, None)
    node.gone = True
    sim.worlds.lose(node)
    sim.control.hang_up(node)
    node.agent = None
    if fault.seconds:
        sim.returning += 1
        sim.after(fault.seconds, lambda: _node_back(sim, node))
    return True


def _node_back(sim: Simulation, node: SimNode) -> None:
    sim.returning -= 1
    sim.note(f"{node.name}: node is back")
    sim.raise_node(node.name, node.hint, 0.0)


def _freeze_node(sim: Simulation, fault: Fault) -> bool:
    """The whole machine stands still for some seconds and goes on with what it had: a stale generation, perhaps."""
    node = sim.nodes[fault.node]
    if not _trains(sim, node) or node.frozen_until_s > sim.now_s:
        return False
    sim.watch("harmed", node.torchrun.generation, node, None)
    node.frozen_until_s = sim.now_s + fault.seconds
    if fault.seconds > KEEPALIVE_S or sim.dice.random() < 0.5:
        sim.after(fault.seconds * 0.5, lambda: sim.control.hang_up(node))
    sim.on(node, fault.seconds + 0.05, lambda: _thaw(sim, node))
    return True


def _thaw(sim: Simulation, node: SimNode) -> None:
    sim.note(f"{node.name}: the machine goes on")
    for rank in node.ranks:
        if rank.alive and rank.trouble != "stopped":
            world = sim.worlds.world_of(rank)
            if world.broken and rank.started:
                sim.worlds.doom(node, rank)
            sim.worlds.nudge(world)


def _kill_coordinator(sim: Simulation, fault: Fault) -> bool:
    if sim.control.life is None:
        return False
    sim.control.crash()
    sim.after(fault.seconds, lambda: _coordinator_back(sim))
    return True


def _coordinator_back(sim: Simulation) -> None:
    sim.note("coordinator is back")
    sim.control.start()


def _doze(sim: Simulation, fault: Fault) -> bool:
    """The coordinator's process is stopped for some seconds and goes on; nobody hangs up."""
    if sim.control.life is None:
        return False
    sim.control.dozes_until_s = sim.now_s + fault.seconds
    return True


def _evict(sim: Simulation, fault: Fault) -> bool:
    if not sim.control.listens() or fault.node not in sim.control.known():
        return False
    sim.watch("barred", fault.node, True)
    sim.control.give(OperatorEvict(fault.node, "maintenance"))
    if fault.seconds:
        sim.after(fault.seconds, lambda: _readmit(sim, fault))
    return True


def _readmit(sim: Simulation, fault: Fault) -> None:
    if not sim.control.listens():
        sim.after(1.0, lambda: _readmit(sim, fault))
    else:
        sim.note(f"{fault.node}: readmitted by the operator")
        sim.watch("barred", fault.node, False)
        if sim.dice.random() < 0.5:  # else it stands still, and whoever lets the node in knows
            sim.conditions.pop(fault.node, None)
        sim.control.give(OperatorReadmit(fault.node))


def _xid(
    sim: Simulation, node: SimNode, rank: Rank, code: int, action: str, delay_s: float, ours: bool = False
) -> None:
    """A line in the kernel log of the node; its agent tells it within milliseconds, and knows whom it has killed
    and which lines are of a broken device for all that."""

    def say() -> None:
        said = sim.said.setdefault(node.name, [])
        at_unix_s, gpu = UNIX_OFFSET_S + sim.now_s, f"GPU-{node.name}-{rank.local}"
        number = sim.next_number()
        said.append(
            HealthSeen(
                number,
                at_unix_s,
                "xid",
                "",
                code,
                gpu,
                action=action,
                run_id="job",
                ranks=(rank.rank,),
                ours=ours or (rank.by_agent and action.startswith("restart_app")),
            )
        )
        sim.note(f"{node.name}: Xid {code} of rank {rank.rank}, event {number}")
        sim.agents.dirty(node)

    sim.on(node, delay_s, say)


def _dead_gpu(sim: Simulation, fault: Fault) -> bool:
    """A GPU falls off the bus: its rank ends of it, before the kernel's line or after it; perhaps it is repaired."""
    found = _rank(sim, fault)
    if found is None or found[1].trouble:
        return False
    node, rank = found
    sim.watch("harmed", rank.generation, node, rank)
    sim.watch("sick", node.name, 79)
    _xid(sim, node, rank, 79, "reboot", sim.dice.choice([0.0, sim.dice.uniform(0.0, 1.0)]))
    sim.on(node, sim.dice.uniform(0.0, 0.6), lambda: sim.worlds.fail(node, rank, CUDA_ERROR))
    if fault.seconds:
        sim.after(fault.seconds, lambda: _readmit(sim, fault))
    return True


def _lost_gpu(sim: Simulation, fault: Fault) -> bool:
    """The driver says it, not the kernel: a condition that stands until the node is repaired."""
    found = _rank(sim, fault)
    if found is None:
        return False
    node, rank = found
    sim.watch("harmed", rank.generation, node, rank)
    sim.watch("sick", node.name, 0)
    sim.conditions[node.name] = (ConditionSeen("gpu.lost", f"GPU-{rank.local}", "critical", "reboot"),)
    sim.agents.dirty(node)
    if fault.seconds:
        sim.after(fault.seconds, lambda: _readmit(sim, fault))
    return True


def _page_fault(sim: Simulation, fault: Fault) -> bool:
    """Xid 31: the rank's own doing, as far as one can tell. It ends of it, or hangs."""
    found = _rank(sim, fault)
    if found is None or found[1].trouble:
        return False
    node, rank = found
    sim.watch("harmed", rank.generation, node, rank)
    _xid(sim, node, rank, 31, "restart_app_then_repeat", sim.dice.choice([0.0, sim.dice.uniform(0.0, 0.2)]))
    if sim.dice.random() < 0.8:
        sim.on(node, sim.dice.uniform(0.0, 0.6), lambda: sim.worlds.fail(node, rank, CUDA_ERROR))
    return True


def _page_faults(sim: Simulation, fault: Fault) -> bool:
    """The same at once on this node and on another: a mistake in the script."""
    there = [name for name in sim.nodes if _rank(sim, replace(fault, node=name)) is not None]
    for name in there[:2] if len(there) > 1 else ():
        _page_fault(sim, replace(fault, node=name))
    return len(there) > 1


STRIKES: dict[str, Strike] = {
    "dead gpu": _dead_gpu,
    "lost gpu": _lost_gpu,
    "page fault": _page_fault,
    "page faults": _page_faults,
    "kill": _kill_rank,
    "oom": _kill_for_memory,
    "error": _raise_error,
    "stop": _trouble("stopped"),
    "blocked": _trouble("blocked"),
    "busy": _trouble("busy"),
    "deadlock": _trouble("deadlock"),
    "skip": _skip,
    "pause": _trouble("pause"),
    "pause all": _pause_all,
    "torchrun": _kill_torchrun,
    "agent": _kill_agent,
    "farewell": _farewell,
    "cut": _cut,
    "unlink": _unlink,
    "node": _kill_node,
    "freeze": _freeze_node,
    "coordinator": _kill_coordinator,
    "doze": _doze,
    "evict": _evict,
}
