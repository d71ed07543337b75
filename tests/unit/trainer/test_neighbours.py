"""What a rank lays out for its neighbours comes back as it was, or not at all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ryzen_trainer.corruption.neighbours import BYTES_MAX, pack, unpack

KINDS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
SHAPES = st.lists(st.integers(0, 4), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(KINDS), SHAPES), max_size=5))
def test_tensors_come_back_bit_for_bit(wanted: list[tuple[torch.dtype, list[int]]]) -> None:
    sent = [(100 * torch.rand(shape)).to(kind) for kind, shape in wanted]
    back = unpack(pack(sent))
    assert [(each.dtype, each.shape) for each in back] == [(each.dtype, each.shape) for each in sent]
    assert all(torch.equal(one, other) for one, other in zip(sent, back, strict=True))


@pytest.mark.parametrize(
    "part", [torch.arange(12).reshape(3, 4).t(), torch.zeros(2, 2, 3, 3)[:, :1], torch.arange(9)[1:]]
)
def test_one_whose_place_in_memory_others_would_not_have_is_refused(part: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="part of another tensor"):
        pack([part])


def test_more_than_a_store_should_hold_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=f"more than {BYTES_MAX}"):
        pack([torch.zeros(BYTES_MAX + 1, dtype=torch.uint8)])
    with pytest.raises(ValueError, match="complex64"):
        pack([torch.zeros(2, dtype=torch.complex64)])
    with pytest.raises(ValueError, match="only plain tensors"):
        pack([{"input_ids": torch.zeros(2)}])  # type: ignore[list-item]
