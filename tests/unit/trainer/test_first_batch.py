"""The first batch of a rank is known by its numbers, where it says anything and where it may not be shared rightly."""

from __future__ import annotations

import pytest
import torch

from ryzen_protos.beat_batch import FirstBatch, pack, place_of, unpack
from ryzen_trainer.first_batch import first_batch

BATCH = {"input_ids": torch.arange(64).reshape(2, 32), "labels": [torch.arange(64.0).bfloat16()]}


@pytest.mark.parametrize(
    ("role", "place"),
    [
        ("", 0),
        ("dp3 tp1", 4),
        ("data=0,tensor=1", 1),
        ("DP-2", 3),
        ("trainer", None),
        ("tp1 pp2", None),
        ("update1", None),
    ],
)
def test_the_place_among_data_parallel_ranks_is_read_from_the_role(role: str, place: int | None) -> None:
    assert place_of(role) == place


def test_equal_batches_are_known_by_the_same_and_others_not() -> None:
    known = first_batch(BATCH, "dp1")
    assert known is not None
    assert known.place == 2
    again = first_batch(dict(BATCH), "")
    assert again == FirstBatch(known.digest, 0)
    other = first_batch({**BATCH, "input_ids": BATCH["input_ids"] + 1}, "")  # type: ignore[operator]
    assert other is not None
    assert other.digest != known.digest


@pytest.mark.parametrize(
    "batch",
    [
        7,
        torch.ones(64, 64),
        torch.arange(4),
        {"text": ["a", "b"]},
        torch.empty(8, 8, device="meta"),
        [torch.zeros(0)],
        torch.eye(8).to_sparse(),
    ],
    ids=["number", "all equal", "few", "texts", "elsewhere", "empty", "sparse"],
)
def test_a_batch_that_says_nothing_is_not_known(batch: object) -> None:
    assert first_batch(batch, "") is None


def test_a_role_that_says_no_place_is_not_compared() -> None:
    assert first_batch(BATCH, "tp1") is None


def test_what_is_written_is_read_and_nothing_else() -> None:
    batch = FirstBatch(1 << 63, 5)
    raw = pack(batch).ljust(256, b"\0")
    assert unpack(raw) == batch
    assert unpack(bytes(256)) is None
    assert unpack(raw.replace(raw[8:9], b"\x07", 1)) is None
