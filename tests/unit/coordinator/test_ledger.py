"""What the core makes of a run's time: the stories behind the seven states."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.simulation.coordinator.columns import beats_of

from ryzen_coordinator import render_ledger
from ryzen_coordinator.core import durable, ledger
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Effect, Journal
from ryzen_coordinator.core.events import (
    Hello,
    JobSeen,
    NodeReport,
    OperatorEvict,
    PaceSeen,
    ProgressSeen,
    RankSeen,
    Shape,
)
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.state import Job
from ryzen_coordinator.server.accounts import cluster_ledger

UNIX_S = 1e9


def perhaps_dead(rank: RankSeen, dead: bool, ago_s: float) -> RankSeen:
    return rank._replace(life="exited", exit_code=-9, ended_ago_s=ago_s) if dead else rank


class Cluster:
    """Nodes of two ranks that step once a second; everything else is told to them."""

    def __init__(
        self, nodes: str = "ab", minimum: int = 2, maximum: int = 2, records: Any = (), now_s: float = 0.0
    ) -> None:
        self.core = Core(CoreSettings(), records, now_s, UNIX_S - now_s)
        self.now_s, self.seq, self.nodes = now_s, 0, list(nodes)
        self.shape = Shape(minimum, maximum, 2)
        self.step0, self.stepped_s, self.generation, self.join = 0, 0.0, 0, 1
        self.records: dict[tuple[str, str], Any] = {}
        self.pace: PaceSeen | None = None

    @property
    def job(self) -> Job:
        return next(iter(self.core.cluster.jobs.values()))

    def keep(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Journal):
                self.records[(effect.kind, effect.key)] = json.loads(json.dumps(effect.body))

    def report(self, node: str, **fields: Any) -> None:
        self.seq += 1
        new = node not in self.core.cluster.nodes or not self.core.cluster.nodes[node].connected
        hello = Hello(node, device_model="H100") if new else None
        seen = JobSeen("job", "me", shape=self.shape, torchrun_pid=7, join_id=self.join, **fields)
        self.keep(self.core.step(NodeReport(node, ord(node), self.seq, hello, (seen,)), self.now_s))

    def join_all(self) -> None:
        for node in self.nodes:
            self.report(node, handler="joining", store=(node, 1), seen_generation=self.job_generation())

    def job_generation(self) -> int:
        return self.job.generation if self.core.cluster.jobs else 0

    def starts(self, resumed: int) -> None:
        """The ranks of the newest world do their first step."""
        self.generation, self.step0, self.stepped_s = self.job.generation, resumed, self.now_s
        self.run(0.05, first=1)

    def run(
        self,
        seconds: float,
        first: int = 0,
        dead: int | None = None,
        ago_s: float = 0.0,
        stands_since_s: float | None = None,
    ) -> None:
        """Time passes; each second all nodes report, and the clock ticks twenty times.
        `stands_since_s`: since then no rank has advanced.
        """
        assert self.job.world is not None
        end_s = self.now_s + seconds
        while True:
            advanced_s = self.now_s if stands_since_s is None else stands_since_s
            quiet_s = self.now_s - advanced_s
            done = first or int(advanced_s - self.stepped_s) + 1
            for place, node in enumerate(self.job.world.nodes):
                ranks = tuple(
                    perhaps_dead(
                        RankSeen(rank, rank % 2, 50 + rank, self.generation, attached=True), rank == dead, ago_s
                    )
                    for rank in (2 * place, 2 * place + 1)
                )
                beats = beats_of([ProgressSeen(self.step0 + done, "", quiet_s, quiet_s, done)] * 2)
                self.report(
                    node, handler="running", generation=self.generation, ranks=ranks, beats=beats, pace=self.pace
                )
            if self.now_s >= end_s:
                return
            self.wait(min(1.0, end_s - self.now_s))

    def wait(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds / 0.05))):
            self.now_s += 0.05
            self.keep(self.core.tick(self.now_s))

    def gpu_s(self) -> dict[str, float]:
        return {state: spent for state, spent in ledger.of_job(self.job, self.now_s).gpu_s.items() if spent > 1e-9}


def trained(seconds: float) -> Cluster:
    """Two nodes wait a second for each other, start for three and then train."""
    cluster = Cluster()
    cluster.nodes = ["a"]
    cluster.join_all()
    cluster.wait(1.0)
    cluster.nodes = ["a", "b"]
    cluster.join_all()
    cluster.wait(3.0)
    cluster.starts(resumed=0)
    cluster.run(seconds)
    return cluster


def test_before_the_first_step_a_job_waits_and_then_it_is_productive() -> None:
    cluster = trained(20.0)
    assert cluster.gpu_s() == {
        "waiting": pytest.approx(1.0 * 2 + 3.0 * 4, abs=0.3),
        "productive": pytest.approx(20.0 * 4, abs=0.3),
    }
    times = ledger.of_job(cluster.job, cluster.now_s)
    assert times.gpus == 4
    assert times.ettr == pytest.approx(20.0 / 24.0, abs=0.01)


def test_of_a_fault_all_that_it_cost_is_on_its_incident() -> None:
    cluster = trained(20.0)
    cluster.run(0.05, first=21, dead=3, ago_s=0.8)  # at step 21: a rank is killed, and its node late to tell
    cluster.wait(2.0)
    cluster.join = 2
    cluster.join_all()
    cluster.wait(4.0)
    cluster.starts(resumed=10)
    cluster.run(10.0)
    spent = cluster.gpu_s()
    assert spent["detection"] == pytest.approx(0.8 * 4, abs=0.1)
    assert spent["recovery"] == pytest.approx((2.0 + 4.0) * 4, abs=0.5)
    assert spent["lost_steps"] == pytest.approx(11 * 4, abs=6.0)  # steps 10 to 20
    assert spent["productive"] == pytest.approx((20.0 - 11.0 + 10.0) * 4, abs=6.0)
    incident = cluster.core.cluster.incidents[1]
    for state in ("detection", "recovery", "lost_steps"):
        assert incident.gpu_s[state] == pytest.approx(spent[state])
    total = ledger.of_job(cluster.job, cluster.now_s)
    assert sum(spent.values()) == pytest.approx(1.0 * 2 + (total.wall_s - 1.0) * 4, abs=0.3)


def test_a_stall_is_detection_from_the_last_advance_on_whatever_ends_it() -> None:
    cluster = trained(20.0)
    cluster.run(70.0, stands_since_s=cluster.now_s)
    assert cluster.job.phase == "stalled"
    assert cluster.gpu_s()["detection"] == pytest.approx(70.0 * 4, abs=0.3)
    # Whoever watches loses patience and kills a rank.
    cluster.run(0.05, dead=3, stands_since_s=cluster.now_s - 70.0)
    spent = cluster.gpu_s()
    assert spent["detection"] == pytest.approx(70.0 * 4, abs=0.5)
    assert spent["productive"] == pytest.approx(20.0 * 4, abs=0.3)
    incident = cluster.core.cluster.incidents[max(cluster.core.cluster.incidents)]
    assert incident.marks.keys() >= {"fault", "announced"}
    assert incident.gpu_s["detection"] == pytest.approx(spent["detection"])


def test_a_stall_that_ends_by_itself_was_productive_all_the_time() -> None:
    cluster = trained(20.0)
    cluster.run(70.0, stands_since_s=cluster.now_s)
    assert cluster.job.phase == "stalled"
    cluster.run(5.0)
    assert cluster.gpu_s()["productive"] == pytest.approx(95.0 * 4, abs=0.8)
    assert "detection" not in cluster.gpu_s()


def test_a_spare_is_idle_and_so_is_a_node_that_was_taken_out() -> None:
    cluster = Cluster("abc", minimum=2, maximum=2)
    cluster.join_all()
    cluster.wait(1.1)
    cluster.starts(resumed=0)
    for _ in range(10):
        cluster.run(1.0)
        cluster.report("c", handler="joining", store=("c", 1))
    assert cluster.gpu_s()["idle"] == pytest.approx(2 * 11.0, abs=5.0)
    nodes = ledger.of_nodes(cluster.job, cluster.now_s)
    assert nodes["c"][1]["productive"] == 0.0
    cluster.keep(cluster.core.step(OperatorEvict("a", "dust"), cluster.now_s))
    cluster.wait(0.1)
    idle = ledger.of_nodes(cluster.job, cluster.now_s)["a"][1]["idle"]
    assert idle == pytest.approx(2 * 0.1, abs=0.01)


def test_the_share_of_a_step_that_goes_into_saving_is_checkpoint_time() -> None:
    cluster = trained(1.0)
    cluster.pace = PaceSeen(1, (0, 1), step_s=1.0, sections=(("forward", 0.7), ("checkpoint", 0.25)))
    cluster.run(60.0)
    spent = cluster.gpu_s()
    assert spent["checkpoint"] == pytest.approx(0.25 * 60 * 4, abs=8.0)
    assert spent["checkpoint"] + spent["productive"] == pytest.approx(61.0 * 4, abs=1.0)


def test_a_restarted_coordinator_goes_on_where_it_was_if_the_job_still_runs() -> None:
    before = trained(20.0)
    before.core.cluster.durable[("job", before.job.record)] = None
    before.keep(durable.flush(before.core.cluster))
    records = [(kind, key, body) for (kind, key), body in sorted(before.records.items())]
    after = Cluster(records=records, now_s=before.now_s + 30.0)
    after.core.cluster.unix_offset_s = UNIX_S
    after.job.book.settled_s = before.job.book.settled_s
    after.generation, after.stepped_s = before.generation, before.stepped_s
    after.wait(0.5)
    assert after.gpu_s()["productive"] < 21.0 * 4, "nobody has said yet that it still trains"
    after.run(0.1)
    assert after.gpu_s()["productive"] == pytest.approx(50.5 * 4, abs=1.0)


def test_money_is_told_where_each_model_has_its_price_and_else_not() -> None:
    cluster = trained(20.0)
    priced = cluster_ledger(cluster.core.cluster, {"H100": 3600.0}, cluster.now_s)
    spent_s = sum(cluster.gpu_s().values())
    assert priced.jobs[0].time.cost == pytest.approx(spent_s)
    assert cluster_ledger(cluster.core.cluster, {"*": 3600.0}, cluster.now_s).jobs[0].time.cost == pytest.approx(
        spent_s
    )
    assert not cluster_ledger(cluster.core.cluster, {"A100": 1.0}, cluster.now_s).jobs[0].time.HasField("cost")


def test_csv_has_a_row_for_the_job_and_each_node_and_its_states_add_up() -> None:
    cluster = trained(20.0)
    rows = render_ledger.as_csv(cluster_ledger(cluster.core.cluster, {}, cluster.now_s)).splitlines()
    assert [row.split(",")[2] for row in rows] == ["of", "job", "node", "node"]
    figures = [[float(each) for each in row.split(",")[7:14]] for row in rows[1:]]
    assert figures[0] == pytest.approx([a + b for a, b in zip(figures[1], figures[2], strict=True)], abs=0.01)
