"""What survives a restart of the coordinator."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.simulation.coordinator.columns import beats_of

from ryzen_coordinator.core import durable
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.durable import DurableError
from ryzen_coordinator.core.effects import Effect, Journal
from ryzen_coordinator.core.events import (
    ConditionSeen,
    HealthSeen,
    Hello,
    JobSeen,
    NodeReport,
    OperatorEvict,
    OperatorReadmit,
    ProgressSeen,
    RankSeen,
    Shape,
)
from ryzen_coordinator.core.settings import CoreSettings

Records = dict[tuple[str, str], dict[str, Any]]


def keep(records: Records, effects: list[Effect]) -> None:
    """What the journal does, through JSON and back."""
    for effect in effects:
        if isinstance(effect, Journal):
            if effect.body is None:
                records.pop((effect.kind, effect.key), None)
            else:
                records[(effect.kind, effect.key)] = json.loads(json.dumps(effect.body))


def eventful() -> tuple[Core, Records]:
    """A core that has formed a world, learned silences, seen a rank killed and a node evicted."""
    core, records = Core(CoreSettings(), now_s=0.0, unix_offset_s=1e6), {}
    seq = 0

    def report(node: str, now_s: float, hello: bool = False, **fields: Any) -> None:
        nonlocal seq
        seq += 1
        shape = Shape(1, 2, 1, (("grow", "now"),))
        beats = beats_of([ProgressSeen(9, "", 0, 0, 9)] * len(fields.get("ranks", ())))
        job = JobSeen("job", "me/x", shape=shape, torchrun_pid=7, join_id=1, beats=beats, **fields)
        who = Hello(node, host="h", labels=(("rack", "r1"),)) if hello else None
        keep(records, core.step(NodeReport(node, 1 if node == "a" else 2, seq, who, (job,)), now_s))

    def ranks(rank: int, **fields: Any) -> tuple[RankSeen, ...]:
        return (RankSeen(rank, 0, 50 + rank, 1, attached=True, **fields),)

    for node in ("a", "b"):
        report(node, 1.0, hello=True, handler="joining", store=(node, 1))
    report("a", 2.0, handler="running", generation=1, ranks=ranks(0), gaps=(("", 0.5),), checkpoint_step=8)
    report("b", 2.0, handler="running", generation=1, ranks=ranks(1))
    keep(records, core.tick(2.5))
    report("b", 3.0, handler="running", generation=1, ranks=ranks(1, life="exited", exit_code=-9))
    keep(records, core.tick(3.2))
    keep(records, core.step(OperatorEvict("b", "dust"), 3.3))
    xid = HealthSeen(7, 1e6 + 3.3, "xid", code=31, device="G0", action="restart_app_then_repeat", ranks=(0,))
    hot = ConditionSeen("gpu.hot", "G0", message="91 C")
    for seq, said in ((1, (xid,)), (2, ())):
        keep(records, core.step(NodeReport("c", 3, seq, Hello("c"), health=said, conditions=(hot,)), 3.4))
        keep(records, core.step(OperatorEvict("c", "dust"), 3.5))
        keep(records, core.step(OperatorReadmit("c"), 3.6))
    keep(records, core.step(NodeReport("c", 3, 3, health=(replace(xid, id=8, action="reboot"),)), 3.7))
    return core, records


def restored(records: Records, now_s: float) -> Core:
    listed = [(kind, key, body) for (kind, key), body in sorted(records.items())]
    return Core(CoreSettings(), listed, now_s, 1e6 + 500.0)


def test_a_restored_core_writes_the_same_records() -> None:
    _, records = eventful()
    core = restored(records, now_s=10.0)
    cluster = core.cluster
    for job in cluster.jobs.values():
        cluster.durable[("job", job.record)] = None
    for number in cluster.incidents:
        cluster.durable[("incident", str(number))] = None
    for name in cluster.nodes:
        cluster.durable[("node", name)] = None
    again: Records = {}
    keep(again, list(durable.flush(cluster)))
    assert set(again) == set(records)
    for name in records:
        assert comparable(again[name]) == comparable(records[name]), name


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    """Times go through another clock and back: equal to the microsecond."""
    text = json.dumps(body)
    return json.loads(text, parse_float=lambda number: round(float(number), 6))


def test_quarantine_outlives_a_restart() -> None:
    _, records = eventful()
    assert restored(records, 10.0).cluster.nodes["b"].phase == "draining"


def test_what_is_remembered_of_a_nodes_health_outlives_a_restart_and_conditions_are_heard_anew() -> None:
    before, records = eventful()
    was, now = before.cluster.nodes["c"].health, restored(records, 10.0).cluster.nodes["c"].health
    assert was.conditions
    assert (was.event_id, len(was.bursts), was.pardoned) == (8, 2, {("gpu.hot", "G0")})
    assert now == replace(was, conditions=())


def test_an_event_that_is_told_to_the_next_coordinator_is_old() -> None:
    _, records = eventful()
    core = restored(records, 10.0)
    xid = HealthSeen(8, 1e6, "xid", code=79, device="G0", action="reboot")
    known = core.cluster.nodes["c"].health
    core.step(NodeReport("c", 9, 1, Hello("c"), health=(xid,)), 11.0)
    assert core.cluster.nodes["c"].health == known
    core.step(NodeReport("c", 9, 2, health=(xid, replace(xid, id=9))), 11.1)
    assert core.cluster.nodes["c"].health.event_id == 9


def test_a_journal_from_before_there_was_health_can_be_read() -> None:
    _, records = eventful()
    for (kind, _), body in records.items():
        body.pop("health" if kind == "node" else "bursts", None)
    assert restored(records, 10.0).cluster.nodes["c"].health.event_id == 0


def test_a_journal_from_before_there_was_a_ledger_can_be_read() -> None:
    _, records = eventful()
    for (kind, _), body in records.items():
        body.pop({"job": "ledger", "incident": "gpu_s"}.get(kind, ""), None)
        body.get("hello", {}).pop("device_model", None)
    assert next(iter(restored(records, 10.0).cluster.jobs.values())).book.wall_s == 0.0


def test_silence_begins_anew_with_a_restart() -> None:
    _, records = eventful()
    core = restored(records, now_s=1000.0)
    core.tick(1001.0)
    assert core.cluster.nodes["a"].phase == "healthy"


def test_generations_grow_over_a_restart() -> None:
    before, records = eventful()
    job, again = next(iter(before.cluster.jobs.values())), restored(records, 10.0)
    assert again.cluster.last_generation[job.key] == job.generation == 2


def test_numbers_of_inquiries_grow_over_a_restart() -> None:
    before, records = eventful()
    assert restored(records, 10.0).cluster.next_inquiry > before.cluster.next_inquiry


def test_learned_silences_and_marks_keep_their_age_through_another_clock() -> None:
    before, records = eventful()
    again = restored(records, now_s=10.0)
    job, was = next(iter(again.cluster.jobs.values())), next(iter(before.cluster.jobs.values()))
    assert job.gaps.longest_s == {"": 0.5}
    shift_s = 500.0
    assert job.gaps.seen_s[""] == pytest.approx(was.gaps.seen_s[""] - shift_s)
    assert again.cluster.incidents[1].marks["fault"] == pytest.approx(
        before.cluster.incidents[1].marks["fault"] - shift_s
    )


def test_a_record_of_another_making_names_itself() -> None:
    _, records = eventful()
    del records[("node", "a")]["phase"]
    with pytest.raises(DurableError, match="record node 'a' cannot be read"):
        restored(records, 10.0)


def test_a_phase_that_does_not_exist_is_refused() -> None:
    _, records = eventful()
    records[("node", "a")]["phase"] = "happy"
    with pytest.raises(DurableError, match="unknown phase 'happy'"):
        restored(records, 10.0)
