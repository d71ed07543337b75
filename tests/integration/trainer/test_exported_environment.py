"""What the rendezvous handler hands to the ranks for evidence and after a rollback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ryzen_protos.v1 import local_pb2, node_pb2
from ryzen_trainer.rendezvous.handler import RyzenRendezvousHandler

NAMES = ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE", "RYZEN_RESUME_AT_MOST")


def export(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], **world: Any) -> list[str | None]:
    """The three variables after a rendezvous, in an environment that the test puts back."""
    monkeypatch.setattr(os, "environ", {**given})
    handler = RyzenRendezvousHandler.__new__(RyzenRendezvousHandler)
    handler._run_dir = Path("/run/ryzen/1")
    handler._order = local_pb2.HandlerOrder(node="node-0")
    handler._export(node_pb2.World(generation=2, size=1, group_rank=0, uniform=True, **world))
    return [os.environ.get(name) for name in NAMES]


def test_the_flight_recorder_is_on_unless_the_user_has_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    assert export(monkeypatch, {}) == ["512", None, None]
    assert export(monkeypatch, {"TORCH_FR_BUFFER_SIZE": "0"}) == ["0", None, None]
    assert export(monkeypatch, {"TORCH_NCCL_TRACE_BUFFER_SIZE": "2000"}) == [None, "2000", None]


def test_the_limit_of_a_rollback_holds_for_its_generation_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert export(monkeypatch, {}, resume_at_most=0)[2] == "0"
    assert export(monkeypatch, {"RYZEN_RESUME_AT_MOST": "40"})[2] is None
