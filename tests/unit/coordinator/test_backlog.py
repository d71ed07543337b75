"""A coordinator that is behind takes its own delay for no node's silence."""

from __future__ import annotations

import pytest

from ryzen_coordinator.core.backlog import Backlog, Promptness
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Say
from ryzen_coordinator.core.events import Hello, NodeReport
from ryzen_coordinator.core.settings import CoreSettings

NODES = 100
SKEW_S = 1000.0
"""Of the nodes' clocks against ours."""


class Fleet:
    """Nodes that speak once a second, and a coordinator that takes it in so much later."""

    def __init__(self, nodes: int = NODES) -> None:
        self.core = Core(CoreSettings(), now_s=0.0, unix_offset_s=0.0)
        self.names = [f"node-{number}" for number in range(nodes)]
        self.seq = 0
        self.said: list[str] = []

    def second(self, sent_s: float, late_s: float, silent: tuple[str, ...] = (), skew_s: float = SKEW_S) -> None:
        """All have spoken within the second that began at `sent_s`."""
        self.seq += 1
        for place, name in enumerate(self.names):
            said_s = sent_s + place / len(self.names)
            if name not in silent:
                hello = Hello(name) if self.seq == 1 else None
                offset_s = SKEW_S + (skew_s - SKEW_S if place == 0 else 0.0) - late_s
                self.core.step(NodeReport(name, place + 1, self.seq, hello, clock_offset_s=offset_s), said_s + late_s)
            if place % 5 == 0:
                self.said += [each.text for each in self.core.tick(said_s + late_s) if isinstance(each, Say)]

    def phases(self) -> set[str]:
        return {node.phase for node in self.core.cluster.nodes.values()}


def test_a_growing_backlog_makes_no_node_silent() -> None:
    fleet = Fleet()
    for second, late_s in enumerate((0.0, 0.0, 1.0, 2.5, 4.0, 5.0)):
        fleet.second(float(second), late_s)
        assert fleet.phases() == {"healthy"}
    assert fleet.core.cluster.backlog.behind_s > 2.0


def test_a_node_that_is_silent_in_a_backlog_is_seen_all_the_same_only_later() -> None:
    fleet = Fleet()
    for second, late_s in enumerate((0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0)):
        fleet.second(float(second), late_s, silent=("node-7",) if second > 1 else ())
    assert fleet.core.cluster.nodes["node-7"].phase == "suspect"
    assert fleet.phases() == {"healthy", "suspect"}


def test_a_node_that_is_lost_stays_so_when_a_backlog_begins() -> None:
    fleet = Fleet()
    for second, late_s in enumerate((0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 4.0)):
        fleet.second(float(second), late_s, silent=("node-7",) if second > 1 else ())
        if second > 3:
            assert fleet.core.cluster.nodes["node-7"].phase == "suspect"


def test_a_backlog_that_has_gone_is_forgotten_within_seconds_and_told_once() -> None:
    fleet = Fleet()
    for second, late_s in enumerate((0.0, 0.0, 1.0, 2.0, 2.0, 1.0, 0.0, 0.0, 0.0)):
        fleet.second(float(second), late_s)
    assert fleet.core.cluster.backlog.behind_s < 0.2
    assert len([text for text in fleet.said if "before they are taken in" in text]) == 1


def test_prompt_reports_among_late_ones_do_not_hide_them() -> None:
    """All nodes speak at once when they are told something: most of the queue is prompt, its end is not."""
    backlog = Backlog()
    for number in range(40):
        backlog.note(f"node-{number}", 3.0)
    backlog.look(1.0)
    for number in range(80):
        backlog.note(f"node-{number}", 0.0)
    backlog.look(1.05)
    assert backlog.behind_s > 2.9


def test_one_clock_that_has_been_set_is_no_backlog_however_often_its_node_speaks() -> None:
    fleet = Fleet()
    for second in range(6):
        fleet.second(float(second), 0.0, skew_s=SKEW_S - 100.0 if second > 2 else SKEW_S)
        assert fleet.core.cluster.backlog.behind_s < 0.2
    backlog = Backlog()
    for number in range(20):
        backlog.note(f"node-{number}", 0.0)
        backlog.note("node-0", 5.0)
    backlog.look(1.0)
    assert backlog.behind_s == 0.0


def test_clocks_that_have_all_been_set_count_for_less_than_a_minute() -> None:
    promptness = Promptness()
    promptness.late_s(0.0, 0.0)
    assert promptness.late_s(-3600.0, 1.0) == pytest.approx(5.0)
    for second in range(2, 60):
        late_s = promptness.late_s(-3600.0, float(second))
    assert late_s == pytest.approx(0.0)


def test_a_few_nodes_are_never_a_backlog() -> None:
    fleet = Fleet(nodes=10)
    for second, late_s in enumerate((0.0, 0.0, 1.0, 2.5, 4.0)):
        fleet.second(float(second), late_s)
    assert fleet.core.cluster.backlog.behind_s == 0.0
