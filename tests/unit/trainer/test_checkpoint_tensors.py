"""The reader of small tensors against `torch.load`."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ryzen_trainer.checkpoint.tensors import TensorReader

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64)


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def like(one: Tensor, other: Tensor) -> bool:
    return (
        (one.dtype, one.size(), one.stride(), one.storage_offset())
        == (other.dtype, other.size(), other.stride(), other.storage_offset())
    ) and torch.equal(one, other)


@given(
    dtype=st.sampled_from(DTYPES),
    sizes=st.lists(st.integers(0, 4), max_size=4),
    change=st.sampled_from(["as it is", "turned", "a part", "conjugate"]),
)
def test_it_reads_what_torch_load_reads_the_first_time_and_the_next(
    dtype: torch.dtype, sizes: list[int], change: str
) -> None:
    reader = TensorReader()
    for seed in range(3):
        tensor = torch.testing.make_tensor(sizes, dtype=dtype, device="cpu", low=0, high=1 + seed)
        if change == "turned" and tensor.dim() > 1:
            tensor = tensor.transpose(0, 1)
        if change == "a part" and tensor.dim() and len(tensor) > 1:
            tensor = tensor[1:]
        if change == "conjugate" and dtype.is_complex:
            tensor = tensor.conj()
        raw = saved(tensor)
        assert like(reader.read(raw), torch.load(io.BytesIO(raw), weights_only=True))


def test_of_tensors_that_are_alike_one_is_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = TensorReader()
    reader.read(saved(torch.zeros(3, 4)))
    unpickle: Callable[..., Any] = torch.load
    unpickled = []

    def counted(*arguments: Any, **options: Any) -> Any:
        unpickled.append(1)
        return unpickle(*arguments, **options)

    monkeypatch.setattr(torch, "load", counted)
    for number in range(10):
        assert torch.equal(reader.read(saved(torch.full((3, 4), float(number)))), torch.full((3, 4), float(number)))
    assert not unpickled
    reader.read(saved(torch.zeros(4, 3)))
    assert len(unpickled) == 1


def test_what_was_read_is_not_what_was_read_before() -> None:
    reader = TensorReader()
    first = [reader.read(saved(torch.zeros(3))) for _ in range(2)]
    first[1].add_(1)
    assert torch.equal(reader.read(saved(torch.zeros(3))), torch.zeros(3))


class Intruder:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("read",))


def test_an_object_is_refused_and_a_pickle_that_runs_code_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TypeError, match="a dict stands where a tensor belongs"):
        TensorReader().read(saved({"step": 3}))
    with pytest.raises(pickle.UnpicklingError):
        TensorReader().read(saved(Intruder()))
    assert capsys.readouterr().out == ""
