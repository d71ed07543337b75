"""Sentences stay short, and say what matters all the same."""

from __future__ import annotations

from ryzen_coordinator.core import incidents
from ryzen_coordinator.core.blame import Verdict
from ryzen_coordinator.core.effects import Say
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.state import Cluster, Incident
from ryzen_coordinator.core.words import few


def test_eight_are_named_and_the_rest_is_counted() -> None:
    assert few([]) == ""
    assert few(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert few(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_a_verdict_about_all_ranks_of_a_node_names_the_node() -> None:
    cluster = Cluster(CoreSettings(), 0.0, 1.0)
    incident = Incident(1, "me", "run", "exit", 1, 0.0, marks={"fault": 0.5})
    incidents.decide(cluster, incident, Verdict("exit", tuple(range(24, 40)), ("node-3",), action="restart"))
    said = [each.text for each in cluster.effects if isinstance(each, Say)]
    assert "rank 31 and 8 more, node-3 -> restart" in said[0]
    assert "node-3" in incident.timeline[-1]
