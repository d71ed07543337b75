"""The digest of parameters: any one bit changes it, nothing else does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzen_trainer.corruption.digest import as_unsigned, digest_on_device

WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
KINDS = [torch.float32, torch.bfloat16, torch.float64, torch.float16, torch.int64, torch.uint8]


def digest(tensors: list[torch.Tensor]) -> int:
    return as_unsigned(int(digest_on_device(tensors)))


@given(st.sampled_from(KINDS), st.integers(1, 9), st.integers(1, 9), st.data())
@settings(max_examples=150, deadline=None)
def test_every_single_bit_changes_it(kind: torch.dtype, rows: int, columns: int, data: st.DataObject) -> None:
    tensors = [torch.randn(3), (torch.randn(rows, columns) * 9).to(kind), torch.randn(5)]
    before = digest(tensors)
    size = tensors[1].element_size()
    place = data.draw(st.integers(0, rows * columns - 1))
    bit = data.draw(st.integers(0, 8 * size - 1))
    flat = tensors[1].view(-1).view(torch.uint8)
    flat[place * size + bit // 8] ^= 1 << bit % 8
    assert digest(tensors) != before
    flat[place * size + bit // 8] ^= 1 << bit % 8
    assert digest(tensors) == before


def test_it_is_that_of_the_values_wherever_they_lie() -> None:
    value = torch.randn(6, 4)
    shifted = torch.cat([torch.zeros(1), value.reshape(-1)])[1:].view(6, 4)
    turned = value.t().contiguous().t()
    assert digest([value]) == digest([shifted]) == digest([turned])


def test_tensors_that_change_places_change_it() -> None:
    one, other = torch.randn(4), torch.randn(4)
    assert digest([one, other]) != digest([other, one])


def test_of_nothing_it_is_nothing() -> None:
    assert digest([]) == 0
    assert digest([torch.zeros(0)]) == 0


def test_two_flips_of_one_bit_place_do_not_cancel() -> None:
    """As they would in an xor over all elements."""
    value = torch.ones(4)
    before = digest([value])
    value.view(torch.int32)[:2] ^= 1
    assert digest([value]) != before


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
def test_sizes_that_fill_no_whole_words_are_summed_too(count: int) -> None:
    value = torch.zeros(count, dtype=torch.bfloat16)
    before = digest([value])
    value[-1] = 1.0
    assert digest([value]) != before
