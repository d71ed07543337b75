"""Of a job that steps on a node tells only what is new, and refers to the report that told the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ryzen_coordinator.core import moments
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.events import Hello, JobNews, JobSeen, NodeReport, RankSeen, Shape
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.server import convert
from ryzen_protos import beat_columns
from ryzen_protos.beat_columns import Record
from ryzen_protos.v1 import node_pb2 as pb

STREAM = 4


def stepping() -> Core:
    """One node with two ranks; its report number 2 has told the whole of a running job."""
    core = Core(CoreSettings(form_wait_s=0.0), now_s=0.0, unix_offset_s=0.0)
    waits = JobSeen("run", "me", "joining", join_id=1, store=("h", 1), shape=Shape(1, 1, 2), torchrun_pid=7)
    core.step(NodeReport("n", STREAM, 1, Hello("n"), (waits,)), 1.0)
    core.tick(1.1)
    ranks = tuple(RankSeen(rank, rank, 50 + rank, 1, attached=True) for rank in range(2))
    core.step(NodeReport("n", STREAM, 2, None, (replace(waits, handler="running", generation=1, ranks=ranks),)), 1.1)
    return core


def news(step: int, as_of: int = 2, ranks: int = 2) -> JobNews:
    columns = beat_columns.pack([Record(step, "forward", steps_done=step)] * ranks)
    message = pb.ObservedJob(
        run_id="run", user="me", as_of=as_of, beats=columns, checkpoint_step=3, checkpoint_known=True
    )
    (job,) = convert.report("n", STREAM, pb.NodeUpdate(jobs=[message]), 0).jobs
    assert isinstance(job, JobNews)
    return job


def told(core: Core, job: JobNews, seq: int, now_s: float, stream: int = STREAM) -> Member:
    core.step(NodeReport("n", stream, seq, Hello("n") if stream != STREAM else None, (job,)), now_s)
    return core.cluster.jobs[("me", "run")].members["n"]


def test_progress_is_taken_in_and_the_rest_stays_as_it_was() -> None:
    core = stepping()
    member = told(core, news(9), 3, 1.2)
    job = core.cluster.jobs[("me", "run")]
    assert job.table.step.tolist() == [9, 9]
    assert (job.checkpoint_step, member.heard_s) == (3, 1.2)
    assert member.seen.handler == "running"
    assert [rank.pid for rank in member.seen.ranks] == [50, 51]


def test_news_may_refer_to_the_same_report_again_and_again() -> None:
    core = stepping()
    for seq, step in ((3, 10), (4, 20), (9, 30)):
        told(core, news(step), seq, 1.1 + seq / 100)
    assert core.cluster.jobs[("me", "run")].table.step.tolist() == [30, 30]


@pytest.mark.parametrize("wrong", [news(9, as_of=1), news(9, ranks=1), news(9, ranks=3)])
def test_news_that_do_not_fit_what_is_known_are_passed_over(wrong: JobNews) -> None:
    core = stepping()
    assert told(core, wrong, 3, 1.2).heard_s == 1.1
    assert core.cluster.jobs[("me", "run")].table.step.tolist() == [-1, -1]


def test_news_of_another_stream_are_passed_over_until_the_whole_is_told_there() -> None:
    core = stepping()
    assert told(core, news(9), 1, 1.2, stream=STREAM + 1).heard_s == 1.1


def test_news_of_a_job_that_is_not_known_make_none() -> None:
    core = Core(CoreSettings(), now_s=0.0, unix_offset_s=0.0)
    core.step(NodeReport("n", STREAM, 1, Hello("n"), (news(9),)), 1.0)
    assert not core.cluster.jobs


def test_a_handler_that_has_gone_is_not_taken_for_a_running_one_by_later_news() -> None:
    core = stepping()
    seen = core.cluster.jobs[("me", "run")].members["n"].seen
    core.step(NodeReport("n", STREAM, 3, None, (replace(seen, handler="absent"),)), 1.2)
    assert told(core, news(9), 4, 1.3).heard_s == 1.2
    assert told(core, news(9, as_of=3), 5, 1.4).heard_s == 1.2


def test_who_asks_where_a_rank_is_hears_of_its_newest_progress() -> None:
    core = stepping()
    told(core, news(9), 3, 1.2)
    job = core.cluster.jobs[("me", "run")]
    assert [view.step for view in moments.views(core.cluster, job)] == [9, 9]


def test_columns_of_different_lengths_say_nothing_of_any_rank() -> None:
    core = stepping()
    message = pb.ObservedJob(run_id="run", user="me", as_of=2)
    message.beats.section.extend([0] * 50)
    message.checks.add(rows=[40], group=0, steps=[1], digests=[7])
    message.self_checks.add(rows=[40], kind=1, agreed=3)
    core.step(convert.report("n", STREAM, pb.NodeUpdate(seq=3, jobs=[message]), 0), 1.2)
    assert core.cluster.jobs[("me", "run")].table.step.tolist() == [-1, -1]


def test_what_is_said_of_ranks_beyond_the_columns_is_dropped() -> None:
    message = pb.ObservedJob(run_id="run", as_of=2, beats=beat_columns.pack([Record(1, "forward")] * 2))
    message.checks.add(rows=[5], group=0, steps=[1], digests=[7])
    message.self_checks.add(rows=[5], kind=1, agreed=3)
    message.beats.marks.add(rows=[5], counts=[1, 2])
    (job,) = convert.report("n", STREAM, pb.NodeUpdate(jobs=[message]), 0).jobs
    assert (job.checks, job.self_checks, job.beats.marks) == ((), (), ())
