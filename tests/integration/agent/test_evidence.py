"""What the agent finds out about ranks that stand still: real torch processes, a real agent, py-spy.

The test plays the coordinator; it asks for evidence and reads what comes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ryzen_protos.v1 import node_pb2

from .cluster import Coordinator, Node, desired, records, running

Observed = node_pb2.ObservedJob


def hanging(node: Node, coordinator: Coordinator, hang: str, **environ: str) -> Observed:
    """The job once both ranks stand in step 20."""
    node.agent()
    node.torchrun(RANK_SCRIPT="hanging_rank.py", HANG=hang, TORCH_FR_BUFFER_SIZE="512", OMP_NUM_THREADS="1", **environ)
    running(coordinator)
    job, _ = coordinator.wait_records(lambda ranks: all(each.step == 20 for each in ranks))
    return job


def ask(coordinator: Coordinator, job: Observed) -> int:
    """Ask for evidence. From which update on it can be there."""
    coordinator.desire(desired(job, job.generation, go=True, evidence=True))
    return len(coordinator.updates)


def probed(coordinator: Coordinator, after: int, what: Callable[[Observed], bool] = lambda _job: True) -> Observed:
    return coordinator.wait_job(
        lambda job: len(job.ranks) == 2 and all(each.probe.samples for each in job.ranks) and what(job), after
    )


def stack_of(coordinator: Coordinator, job: Observed, rank: int) -> str:
    """The text came with this update or an earlier one: it is told once."""
    texts = {each.id: each.text for update in coordinator.updates for job in update.jobs for each in job.stacks}
    return texts[job.ranks[rank].probe.stack]


def test_two_ranks_in_a_collective_show_stack_recorder_groups_and_marks(node: Node, coordinator: Coordinator) -> None:
    job = hanging(node, coordinator, "sleep")
    first, second = (each.marks for each in records(job))
    assert first[::2] == (0, 16, 20), "the newest multiples of 64 and 8, and the newest"
    assert first == second, "both have begun as many collectives"
    assert not job.ranks[0].HasField("probe"), "nobody has asked"
    after = ask(coordinator, job)
    seen = probed(coordinator, after, lambda job: bool(job.stacks) and bool(job.groups))
    sleeper, waiter = seen.ranks
    assert "hanging_rank.py" in stack_of(coordinator, seen, 0)
    assert stack_of(coordinator, seen, 1).startswith("all_reduce (torch/distributed/distributed_c10d.py:")
    assert (sleeper.probe.in_collective, waiter.probe.in_collective) == (False, True)
    assert sleeper.probe.recorder
    assert waiter.probe.recorder
    (pending,) = [each for each in waiter.probe.collectives if not each.done]
    assert (pending.group, pending.operation, pending.shape) == ("0", "all_reduce", "Float[7]")
    assert all(each.done for each in sleeper.probe.collectives)
    assert [(each.name, list(each.ranks)) for each in seen.groups] == [("0", [0, 1])]
    assert list(records(seen)[0].marks[::2]) == list(range(21)), "all steps that the page holds, up to 32"
    frozen = probed(coordinator, after, lambda job: all(each.probe.frozen_s > 2 for each in job.ranks))
    assert frozen.ranks[0].probe.stack == sleeper.probe.stack


def test_probes_vanish_when_nobody_asks_any_more(node: Node, coordinator: Coordinator) -> None:
    job = hanging(node, coordinator, "sleep")
    probed(coordinator, ask(coordinator, job))
    coordinator.desire(desired(job, job.generation, go=True))
    gone = coordinator.wait_job(
        lambda job: not any(each.HasField("probe") for each in job.ranks), len(coordinator.updates)
    )
    assert not gone.groups
    assert not gone.stacks


def test_a_skipped_collective_shows_in_the_marks(node: Node, coordinator: Coordinator) -> None:
    job = hanging(node, coordinator, "skip")
    after = ask(coordinator, job)
    seen = probed(coordinator, after, lambda job: all(len(each.marks) > 40 for each in records(job)))
    skipper, other = (dict(zip(each.marks[::2], each.marks[1::2], strict=True)) for each in records(seen))
    assert [other[step] - skipper[step] for step in range(21)] == [0] * 10 + [1] * 11


def test_a_new_inquiry_is_answered_with_all_stacks_again(node: Node, coordinator: Coordinator) -> None:
    job = hanging(node, coordinator, "sleep")
    after = ask(coordinator, job)
    probed(coordinator, after, lambda job: all(each.probe.frozen_s > 2 for each in job.ranks))
    after = len(coordinator.updates)
    probed(coordinator, after, lambda job: not job.stacks)
    after = len(coordinator.updates)
    coordinator.desire(desired(job, job.generation, go=True, evidence=True, inquiry=7))
    again = coordinator.wait(lambda update: update.answered_inquiry == 7, after)
    assert len(again.jobs[0].stacks) == 2


def test_an_exception_without_a_stamp_is_told_from_the_error_file(
    node: Node, coordinator: Coordinator, tmp_path: Path
) -> None:
    path = tmp_path / "error.json"
    path.write_text('{"message": {"message": "torch.OutOfMemoryError: CUDA out of memory", "extraInfo": {}}}')
    node.agent()
    node.torchrun(TORCHELASTIC_ERROR_FILE=str(path))
    running(coordinator)
    node.tell(1, "1")
    ended = coordinator.wait_job(lambda job: len(job.ranks) == 2 and job.ranks[1].life == node_pb2.ObservedRank.EXITED)
    assert (ended.ranks[1].error_type, ended.ranks[1].error_message) == ("OutOfMemoryError", "CUDA out of memory")
    assert not ended.ranks[1].oom_killed
    assert not ended.ranks[0].error_type, "one that lives has raised nothing"
