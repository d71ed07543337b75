"""Random faults at random moments: whatever the interleaving, the job ends well and no healthy world is torn down."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from .faults import Faults
from .simulator import Simulation

SEEDS = range(40)


def end_of(simulation: Simulation, until_s: float = 400.0) -> str:
    simulation.run(until_s)
    return "\n".join(simulation.log[-60:])


def assert_finished(simulation: Simulation, log: str) -> None:
    codes = {node.name: node.exit_code for node in simulation.nodes.values() if node.exit_code != -9}
    assert simulation.over(), f"still running at {simulation.now_s}\n{log}"
    assert set(codes.values()) == {0}, f"{codes}\n{log}"
    assert max(simulation.progress.step_of.values()) >= simulation.target, log


def random_faults(simulation: Simulation, seed: int, kinds: list[str], count: int, returning: bool = True) -> None:
    dice, faults = random.Random(seed * 7919 + 1), Faults(simulation)
    for _ in range(count):
        at_s, name = dice.uniform(1.0, 25.0), dice.choice(list(simulation.nodes))
        kind, local, back_s = dice.choice(kinds), dice.randrange(2), dice.uniform(0.2, 6.0)
        act: dict[str, Callable[[], None]] = {
            "kill": lambda n=name, i=local: faults.kill_rank(n, i),  # type: ignore[misc]
            "stop": lambda n=name, i=local: faults.freeze_rank(n, i),  # type: ignore[misc]
            "agent": lambda n=name, b=back_s: faults.kill_agent(n, b),  # type: ignore[misc]
            "cut": lambda n=name, b=back_s: faults.cut(n, b),  # type: ignore[misc]
            "node": lambda n=name, b=back_s: faults.kill_node(n, b if returning else None),  # type: ignore[misc]
            "coordinator": lambda b=back_s: faults.kill_coordinator(b),  # type: ignore[misc]
        }
        simulation.faults.append((at_s, f"{kind} {name} {local} {back_s:.1f}", act[kind]))


@pytest.mark.parametrize("seed", SEEDS)
def test_agents_streams_and_coordinators_may_die_and_no_generation_is_spent(seed: int) -> None:
    simulation = Simulation(seed, nodes=3, minimum=3, maximum=3)
    random_faults(simulation, seed, ["agent", "cut", "coordinator"], 6)
    log = end_of(simulation)
    assert_finished(simulation, log)
    assert len(simulation.worlds) == 1, log
    assert not simulation.false_kills, log


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("peers_hang", [False, True])
def test_any_mix_of_faults_ends_in_a_finished_job(seed: int, peers_hang: bool) -> None:
    simulation = Simulation(seed, nodes=3, minimum=2, maximum=3, peers_hang=peers_hang)
    random_faults(simulation, seed, ["kill", "stop", "agent", "cut", "node", "coordinator"], 6)
    log = end_of(simulation)
    assert_finished(simulation, log)
    assert not simulation.false_kills, simulation.false_kills[0] + "\n" + log


@pytest.mark.parametrize("seed", SEEDS)
def test_with_a_spare_two_lost_nodes_of_a_fixed_world_come_back_into_it(seed: int) -> None:
    simulation = Simulation(seed, nodes=4, minimum=3, maximum=3)
    random_faults(simulation, seed, ["node", "kill"], 3)
    log = end_of(simulation)
    assert_finished(simulation, log)
    assert not simulation.false_kills, simulation.false_kills[0] + "\n" + log
