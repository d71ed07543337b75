"""Whom to blame: causes before consequences, the clock last, and nobody where nothing separates."""

from __future__ import annotations

from typing import Any

import pytest

from ryzen_coordinator.core import blame
from ryzen_coordinator.core.blame import Failure, Weight, essence

PEER_CLOSED = "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:31270"


def failure(rank: int = 0, **fields: Any) -> Failure:
    return Failure(**{"rank": rank, "node": f"node-{rank // 2}", "exit_code": 1, "ended_s": 1.0, **fields})


def blamed(*failures: Failure) -> tuple[int, ...]:
    return blame.judge_exit(list(failures)).ranks


@pytest.mark.parametrize("signal", [4, 7, 8, 9, 11])
def test_a_signal_that_no_peer_can_send_outranks_an_earlier_collective_error(signal: int) -> None:
    earlier = failure(0, ended_s=1.0, error_type="RuntimeError", error_message=PEER_CLOSED)
    assert blamed(earlier, failure(3, exit_code=-signal, ended_s=1.05)) == (3,)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("RuntimeError", PEER_CLOSED),
        ("RuntimeError", "Gloo connectFullMesh failed with [...] Connection refused"),
        ("torch.distributed.DistBackendError", "NCCL error in: ProcessGroupNCCL.cpp:3690, remote process exited"),
        ("DistNetworkError", "Failed to recv, got 0 bytes. Connection was likely closed."),
        ("RuntimeError", "NCCL Error 6: ncclRemoteError: A call failed possibly due to a network error"),
        ("RuntimeError", "[gloo] Read error [127.0.0.1]:5000: Connection reset by peer"),
        ("OSError", "[Errno 32] Broken pipe"),
    ],
)
def test_errors_of_a_lost_peer_are_consequences(kind: str, message: str) -> None:
    assert blame.weigh(failure(error_type=kind, error_message=message)) is Weight.CONSEQUENCE


def test_an_exception_of_the_scripts_own_is_a_cause() -> None:
    own = failure(2, error_type="ValueError", error_message="bad batch", exit_code=None)
    verdict = blame.judge_exit([failure(0, exit_code=-6), failure(1), own])
    assert (verdict.fault_class, verdict.ranks, verdict.nodes) == ("exit", (2,), ("node-1",))
    assert "ValueError: bad batch" in verdict.reason


def test_what_the_agent_or_torchrun_killed_is_never_blamed() -> None:
    ours = failure(0, exit_code=-9, killed_by_agent=True)
    terminated = failure(1, exit_code=-15)
    assert blamed(ours, terminated, failure(2, exit_code=-11, ended_s=9.0)) == (2,)
    assert blame.judge_exit([ours, terminated]).fault_class == "unknown"


def test_an_exception_stamped_before_the_agent_killed_the_rank_still_counts() -> None:
    stamped = failure(1, exit_code=-9, killed_by_agent=True, error_type="KeyError", error_message="'x'")
    assert blamed(stamped, failure(0, exit_code=1)) == (1,)


def test_an_abort_ranks_between_a_cause_and_a_bare_exit_code() -> None:
    assert blamed(failure(0, exit_code=1, ended_s=0.9), failure(3, exit_code=-6)) == (3,)
    assert blamed(failure(0, exit_code=-6, ended_s=0.9), failure(3, exit_code=-9)) == (3,)


def test_an_exit_code_that_could_not_be_read_ranks_above_a_bare_one() -> None:
    assert blamed(failure(0, exit_code=1, ended_s=0.9), failure(3, exit_code=None)) == (3,)


def test_among_equals_the_earliest_is_blamed() -> None:
    assert blamed(failure(0, ended_s=2.0), failure(3, ended_s=1.0), failure(2, ended_s=3.0)) == (3,)


def test_every_rank_killed_from_outside_is_named() -> None:
    assert blamed(failure(3, exit_code=-9, ended_s=1.0), failure(0, exit_code=-9, ended_s=1.08)) == (0, 3)


def test_a_crash_that_follows_another_crash_is_not_named() -> None:
    assert blamed(failure(3, exit_code=-11, ended_s=1.0), failure(0, exit_code=-11, ended_s=1.05)) == (3,)


def test_only_consequences_name_nobody() -> None:
    lost_peer = [failure(rank, error_type="RuntimeError", error_message=PEER_CLOSED) for rank in range(4)]
    verdict = blame.judge_exit(lost_peer)
    assert (verdict.fault_class, verdict.ranks, verdict.nodes, verdict.confidence) == ("unknown", (), (), "unknown")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("MemoryError", ""),
        ("torch.OutOfMemoryError", "CUDA out of memory. Tried"),
        ("RuntimeError", "CUDA out of memory"),
    ],
)
def test_running_out_of_memory_is_a_class_of_its_own(kind: str, message: str) -> None:
    assert blame.judge_exit([failure(error_type=kind, error_message=message)]).fault_class == "oom"


def test_the_same_exception_at_the_same_step_on_two_nodes_is_the_jobs_own() -> None:
    first = failure(0, error_type="ValueError", error_message="loss is nan in shard 0", step=33)
    second = failure(2, error_type="ValueError", error_message="loss is nan in shard 1", step=33)
    assert blame.shared_exception([first, second]) is not None


@pytest.mark.parametrize(
    "changed",
    [{"step": 34}, {"error_type": "KeyError"}, {"node": "node-0"}, {"error_message": "other words"}],
)
def test_anything_else_is_not(changed: dict[str, Any]) -> None:
    first = failure(0, error_type="ValueError", error_message="loss is nan", step=33)
    second = failure(2, **{"error_type": "ValueError", "error_message": "loss is nan", "step": 33, **changed})
    assert blame.shared_exception([first, second]) is None


def test_a_lost_peer_on_every_node_is_not_the_jobs_own_fault() -> None:
    errors = [failure(rank, error_type="RuntimeError", error_message=PEER_CLOSED, step=5) for rank in (0, 2)]
    assert blame.shared_exception(errors) is None


def test_an_error_that_came_through_a_callback_is_told_by_its_own_words() -> None:
    wrapped = f"Got the following error when running the callback: RuntimeError: {PEER_CLOSED}"
    assert essence(wrapped) == essence(PEER_CLOSED) == "Connection closed by peer [127.0.0.1]:31270"
