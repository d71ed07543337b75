"""The pieces of the reference trainer: data by global samples, settling, the digest."""

from __future__ import annotations

import gc
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ryzen_trainer.errors import BatchError
from ryzen_trainer.examples.gpt.config import Checkpoint, Model, Training
from ryzen_trainer.examples.gpt.data import Division, GlobalBatches, StandardLibrary, Windows, make_loader
from ryzen_trainer.examples.gpt.model import VOCABULARY, Gpt, next_byte_loss
from ryzen_trainer.examples.gpt.training import learning_rate_share, parameter_digest
from ryzen_trainer.settling import settle
from ryzen_trainer.starting import quick_imports

TINY = Model(layers=1, heads=2, width=16, sequence_length=8, dropout=0.5)


def step_samples(global_batch: int, micro_batch: int, world_size: int, samples: int) -> list[int]:
    """What all ranks together take in the step that begins at `samples`."""
    taken = []
    for rank in range(world_size):
        division = Division(global_batch, micro_batch, world_size)
        batches = GlobalBatches(division, rank)
        batches.move_to(samples)
        for _ in range(division.accumulation):
            taken += next(batches)
    return sorted(taken)


@given(
    each=st.integers(1, 12),
    worlds=st.lists(st.sampled_from([1, 2, 3, 4]), min_size=2, max_size=2),
    micro=st.integers(1, 9),
    step=st.integers(0, 1000),
)
def test_a_step_takes_the_same_samples_whatever_the_number_of_ranks(
    each: int, worlds: list[int], micro: int, step: int
) -> None:
    global_batch = 12 * each
    first, second = (step_samples(global_batch, micro, world, step * global_batch) for world in worlds)
    assert first == second == list(range(step * global_batch, (step + 1) * global_batch))


@given(global_batch=st.integers(1, 200), micro_batch=st.integers(1, 50), world_size=st.integers(1, 16))
def test_the_global_batch_is_kept_or_refused(global_batch: int, micro_batch: int, world_size: int) -> None:
    if global_batch % world_size:
        with pytest.raises(BatchError):
            Division(global_batch, micro_batch, world_size)
    else:
        division = Division(global_batch, micro_batch, world_size)
        assert division.micro_batch * division.accumulation * world_size == global_batch
        assert 1 <= division.micro_batch <= micro_batch


def test_a_loader_goes_on_where_its_state_was_taken() -> None:
    loader = make_loader(Windows(bytes(range(256)), 4, 0), GlobalBatches(Division(8, 2, 2), 1))
    running = iter(loader)
    for _ in range(5):
        next(running)
    state = loader.state_dict()
    again = make_loader(Windows(bytes(range(256)), 4, 0), GlobalBatches(Division(8, 2, 2), 1))
    again.load_state_dict(state)
    resumed = iter(again)
    for _ in range(3):
        assert torch.equal(next(running)[0], next(resumed)[0])


def test_a_loader_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    next(iter(make_loader(Windows(bytes(range(256)), 4, 0), GlobalBatches(Division(8, 2, 2), 1))))
    assert torch.equal(torch.rand(1), expected)


def whole_library() -> bytes:
    folder = Path(sysconfig.get_paths()["stdlib"])
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))


def test_any_part_of_the_standard_library_is_what_stands_there_when_its_files_are_put_in_a_row() -> None:
    text, library = whole_library(), StandardLibrary()
    assert len(library) == len(text) > 1_000_000
    for start in (0, 1, *range(12_345, len(text) - 100_000, 99_991), len(text) - 100_000):
        assert library[start : start + 100_000] == text[start : start + 100_000]
        assert library[start : start + 1] == text[start : start + 1]


def test_windows_are_text_and_the_bytes_that_follow() -> None:
    text = whole_library()
    windows = Windows(text, 16, seed=1)
    inputs, targets = windows[5]
    assert torch.equal(inputs[1:], targets[:-1])
    assert bytes(inputs.tolist()) in text
    assert torch.equal(windows[5][0], inputs)
    assert not torch.equal(windows[6][0], inputs)
    assert not torch.equal(Windows(text, 16, seed=2)[5][0], inputs)


def test_the_model_learns_a_text_by_heart() -> None:
    torch.manual_seed(0)
    model = Gpt(TINY.model_copy(update={"dropout": 0.0}))
    inputs = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])
    targets = inputs + 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    first = next_byte_loss(model(inputs), targets).item()
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(next_byte_loss(model(inputs), targets))
        optimizer.step()
    assert first == pytest.approx(torch.tensor(VOCABULARY).log().item(), abs=0.3)
    assert next_byte_loss(model(inputs), targets).item() < 0.5


def test_the_model_does_not_see_the_future() -> None:
    torch.manual_seed(0)
    model = Gpt(TINY).eval()
    inputs = torch.randint(0, VOCABULARY, (1, 8))
    changed = inputs.clone()
    changed[0, 5] = (changed[0, 5] + 1) % VOCABULARY
    assert torch.equal(model(inputs)[0, :5], model(changed)[0, :5])
    assert not torch.equal(model(inputs)[0, 5:], model(changed)[0, 5:])


def test_the_learning_rate_rises_linearly_and_falls_by_a_cosine_to_a_tenth() -> None:
    checkpoint = Checkpoint(folder=Path("x"), every_steps=1)
    base = Training(steps=110, global_batch=1, micro_batch=1, learning_rate=1.0, warmup_steps=10, checkpoint=checkpoint)
    constant = learning_rate_share(base)
    cosine = learning_rate_share(base.model_copy(update={"schedule": "cosine"}))
    assert [constant(step) for step in (0, 9, 10, 109)] == pytest.approx([1 / 11, 10 / 11, 1, 1])
    assert [cosine(step) for step in (0, 9, 10, 60, 110, 200)] == pytest.approx([1 / 11, 10 / 11, 1, 0.55, 0.1, 0.1])


def test_recomputed_activations_give_the_same_gradients_to_the_bit() -> None:
    inputs = torch.arange(16).reshape(2, 8)
    gradients = {}
    for recomputing in (False, True):
        torch.manual_seed(0)
        model = Gpt(TINY, activation_checkpointing=recomputing)
        forwards: list[nn.Module] = []
        model.blocks[0].register_forward_pre_hook(lambda block, _args, seen=forwards: seen.append(block))
        torch.manual_seed(1)  # dropout draws the same again
        torch.autograd.backward(next_byte_loss(model(inputs), inputs))
        assert len(forwards) == 1 + recomputing
        gradients[recomputing] = [each.grad for each in model.parameters()]
    assert all(
        kept is not None and again is not None and torch.equal(kept, again)
        for kept, again in zip(gradients[False], gradients[True], strict=True)
    )


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("wrapped", [False, True])
def test_settling_leaves_no_trace(process_group: None, wrapped: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    model = DistributedDataParallel(net) if wrapped else net
    before = {name: value.clone() for name, value in model.state_dict().items()}
    draws = torch.get_rng_state(), random.getstate()
    example = torch.ones(3, 4)

    def loss() -> torch.Tensor:
        random.random()
        out: torch.Tensor = model(example).sum()
        return out

    settle(model, loss)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), draws[0])
    assert random.getstate() == draws[1]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("settled", [False, True])
def test_settling_is_the_backward_after_which_ddp_lays_out_its_buckets(process_group: None, settled: bool) -> None:
    model = DistributedDataParallel(nn.Linear(4, 1))
    if settled:
        settle(model, lambda: model(torch.ones(3, 4)).sum())
    torch.autograd.backward(model(torch.ones(3, 4)).sum())
    model(torch.ones(3, 4))  # what DDP logs is one iteration old
    logged = model._get_ddp_logging_data()  # type: ignore[no-untyped-call]
    assert logged.get("has_rebuilt_buckets", 0) == settled


def test_the_digest_tells_one_changed_bit() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    before = parameter_digest(model)
    assert parameter_digest(model) == before
    with torch.no_grad():
        model.weight.view(torch.int32)[0, 0] ^= 1
    assert parameter_digest(model) != before


def test_the_collector_rests_during_imports_and_works_afterwards() -> None:
    frozen = gc.get_freeze_count()
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > frozen
    gc.disable()
    try:
        with quick_imports():
            pass
        assert not gc.isenabled(), "a collector that was off stays off"
    finally:
        gc.enable()
        gc.unfreeze()
