"""What a node says is brought into bounds before the core sees it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.server import convert
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


def test_no_control_character_of_a_node_reaches_a_terminal() -> None:
    seen = pb.ObservedRank(rank=0, error_type="Value\x1b[2JError", error_message="a\nb\x07")
    update = pb.NodeUpdate(jobs=[pb.ObservedJob(run_id="job", user="me\r", ranks=[seen])])
    (job,) = convert.report("n", 1, update, 0).jobs
    assert job.user == "me "
    assert job.ranks[0].error_type == "Value [2JError"
    assert job.ranks[0].error_message == "a b "
