"""What a node says is brought into bounds before the core sees it."""

from __future__ import annotations

import contextlib
import math

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.events import ConditionSeen
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.server import convert, convert_health
from ryzen_protos import beat_columns
from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import node_pb2 as pb

counts = st.integers(0, (1 << 64) - 1)
seconds = st.floats(allow_nan=True, allow_infinity=True)
texts = st.text(max_size=400)


@given(step=counts, done=counts, rank=st.integers(0, (1 << 32) - 1), quiet=seconds, gap=seconds, text=texts)
def test_no_report_makes_the_core_fail_or_grow_without_bound(
    step: int, done: int, rank: int, quiet: float, gap: float, text: str
) -> None:
    record = Record(step, text, quiet, quiet, done, marks=(step, done))
    seen = pb.ObservedRank(
        rank=rank, pid=1, generation=1, life=pb.ObservedRank.FAILING, process_state=text, process_state_s=quiet,
        ended_ago_s=gap, error_type=text, error_message=text, attached=True,
    )  # fmt: skip
    job = pb.ObservedJob(
        run_id="job", user=text, handler=pb.ObservedJob.RUNNING, generation=1, checkpoint_step=step,
        checkpoint_known=True, ranks=[seen], beats=beat_columns.pack([record]),
        gaps=[pb.SectionGap(section=text, longest_s=gap)],
        shape=pb.JobShape(min_nodes=rank, max_nodes=rank, ranks_per_node=rank),
    )  # fmt: skip
    update = pb.NodeUpdate(seq=1, hello=pb.NodeHello(node="n"), jobs=[job])
    report = convert.report("n", 1, update, 0)
    core = Core(CoreSettings(), now_s=0.0, unix_offset_s=0.0)
    core.step(report, 1.0)
    core.tick(2.0)
    for each in core.cluster.jobs.values():
        assert len(each.table.alive) <= convert.RANKS_MAX
        assert all(math.isfinite(longest) for longest in each.gaps.longest_s.values())


def test_what_a_node_says_of_its_health_is_bounded_and_of_one_line() -> None:
    health = pb.HealthEvent(
        kind="xid\n", code=1 << 32 - 1, device="G" * 500, unit="u\x1b", action="reboot\r", message="m\n" * 4000,
        process="p\0", ranks=range(5000),
    )  # fmt: skip
    events = [
        pb.NodeEvent(id=1, kind="rank_exit", fields={"rank": "0"}),
        pb.NodeEvent(id=2, kind="health"),
        pb.NodeEvent(id=3, kind="health", run_id="job", unix_ns=5_000_000_000, health=health),
    ]
    (seen,) = convert.report("n", 1, pb.NodeUpdate(events=events), 0).health
    assert (seen.id, seen.at_unix_s, seen.run_id, seen.pid, seen.count) == (3, 5.0, "job", None, 1)
    assert all(text.isprintable() for text in (seen.kind, seen.device, seen.unit, seen.action, seen.message))
    assert len(seen.message) <= 300
    assert len(seen.device) == 64
    assert len(seen.ranks) == 64


def test_conditions_are_told_or_not_and_none_is_told_twice() -> None:
    def told(*each: pb.HealthCondition) -> tuple[ConditionSeen, ...] | None:
        return convert.report("n", 1, pb.NodeUpdate(conditions=pb.Conditions(all=each)), 0).conditions

    assert convert.report("n", 1, pb.NodeUpdate(), 0).conditions is None
    assert told() == ()
    hot = pb.HealthCondition(name="gpu.hot", device="G0", severity="dreadful", age_s=math.nan, value=math.inf)
    assert told(hot, hot) == (ConditionSeen("gpu.hot", "G0", "warning"),)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_of_a_node_make_health_raise(event: bytes, condition: bytes) -> None:
    update = pb.NodeUpdate()
    with contextlib.suppress(DecodeError):
        update.events.add(id=1, kind="health").health.MergeFromString(event)
    with contextlib.suppress(DecodeError):
        update.conditions.all.add().MergeFromString(condition)
    core = Core(CoreSettings(), now_s=0.0, unix_offset_s=0.0)
    update.hello.node = "n"
    core.step(convert.report("n", 1, update, 0), 1.0)
    core.tick(2.0)
    assert all(isinstance(value, str) for each in update.events for value in convert_health.fields(each).values())


@given(
    st.lists(st.integers(0, 5), max_size=5),
    st.integers(0, 6),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 32) - 1),
)
def test_what_ranks_say_of_their_arithmetic_is_of_a_known_kind_and_of_ranks_that_there_are(
    rows: list[int], kind: int, step: int, agreed: int
) -> None:
    said = pb.SelfChecks(rows=rows, kind=kind, agreed=agreed, clean_step=step, step=step, digest=step, key=step)
    job = pb.ObservedJob(run_id="job", ranks=[pb.ObservedRank(rank=rank) for rank in range(4)], self_checks=[said])
    found = convert.report("n", 1, pb.NodeUpdate(jobs=[job]), 0).jobs[0].self_checks
    fits = bool(rows) and max(rows) < 4 and len(rows) <= 4 and kind in {1, 2, 3, 4}
    assert len(found) == fits
    for places, standing in found:
        assert (list(places), standing.agreed, standing.digest) == (rows, agreed, step)
        assert standing.step < 1 << 63


def test_no_control_character_of_a_node_reaches_a_terminal() -> None:
    seen = pb.ObservedRank(rank=0, error_type="Value\x1b[2JError", error_message="a\nb\x07")
    update = pb.NodeUpdate(jobs=[pb.ObservedJob(run_id="job", user="me\r", ranks=[seen])])
    (job,) = convert.report("n", 1, update, 0).jobs
    assert job.user == "me "
    assert job.ranks[0].error_type == "Value [2JError"
    assert job.ranks[0].error_message == "a b "
