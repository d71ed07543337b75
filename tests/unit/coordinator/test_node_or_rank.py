"""A script without beat pages dies of a lost peer with a bare exit code 1: that must not name the survivor."""

from __future__ import annotations

import pytest

from ryzen_coordinator.core import blame
from ryzen_coordinator.core.blame import Failure


def failure(**fields: object) -> Failure:
    return Failure(**{"rank": 0, "node": "node-0", "exit_code": 1, "ended_s": 1.0, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [1, -6])
def test_a_bare_exit_may_be_the_consequence_of_a_node_that_has_not_spoken(code: int) -> None:
    assert blame.may_follow(failure(exit_code=code))


@pytest.mark.parametrize(
    "own",
    [
        {"exit_code": -9},
        {"exit_code": -11},
        {"exit_code": 3},
        {"error_type": "ValueError", "error_message": "bad batch"},
    ],
)
def test_a_cause_of_its_own_waits_for_nobody(own: dict[str, object]) -> None:
    assert not blame.may_follow(failure(**own))


def test_a_lost_peer_is_told_without_torchs_source_line_and_advice() -> None:
    gloo = (
        "[/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer "
        "[127.0.0.1]:741. This is typically caused by a remote worker crashing. Check the logs."
    )
    words = failure(error_type="RuntimeError", error_message=gloo).words()
    assert words == (
        "rank 0 (node-0): a collective has lost its peer (RuntimeError: Connection closed by peer [127.0.0.1]:741)"
    )
    assert failure(error_type="ValueError", error_message="[a] b.").words() == "rank 0 (node-0): ValueError: [a] b"
