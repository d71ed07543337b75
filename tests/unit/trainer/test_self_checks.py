"""Each check in which a rank compares its arithmetic with its own: what it sees, and that it leaves no trace."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ryzen_protos import beat_self_checks
from ryzen_protos.beat_page import BeatReader, BeatWriter, Header
from ryzen_protos.beat_self_checks import KNOWN_ANSWER, RECOMPUTE, REPLAY, SelfCheck
from ryzen_trainer.corruption import KnownAnswer, RecomputeCheck, StepReplay
from ryzen_trainer.corruption.known_answer import answer, key_of, material
from ryzen_trainer.corruption.own_record import DIFFERED_MAX
from ryzen_trainer.detached import DetachedRun
from ryzen_trainer.failure import Nudge
from ryzen_trainer.run import Run

CPU = torch.device("cpu")


class Rank:
    """A run, and what its page says of its checks."""

    def __init__(self, folder: Path, resume_at_most: int | None = None) -> None:
        header = Header("run", 3, 1, 1, 4, 99, 12345, 4026531836)
        self.run = Run(BeatWriter(folder / "rank-1.beat", header), Nudge(folder / "nudge"), resume_at_most)
        self._page = BeatReader(folder / "rank-1.beat")

    def said(self, kind: int) -> SelfCheck | None:
        return beat_self_checks.unpack(self._page.region(beat_self_checks.AT, beat_self_checks.BYTES)).get(kind)


@pytest.fixture
def rank(tmp_path: Path) -> Rank:
    return Rank(tmp_path)


class Net(nn.Module):
    """Two blocks with dropout, batch statistics and a residual, of which each may be recomputed."""

    def __init__(self) -> None:
        super().__init__()
        made = (nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.5), nn.Linear(16, 8))
                for _ in range(2))  # fmt: skip
        self.blocks = nn.ModuleList(made)
        self.segment: Callable[[nn.Module], Callable[..., Tensor]] | None = None
        self.reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + (
                block(x) if self.segment is None else checkpoint(self.segment(block), x, use_reentrant=self.reentrant)
            )
        return x


def batches() -> Iterator[Tensor]:
    chance = torch.Generator().manual_seed(1)
    while True:
        yield torch.randn(32, 8, generator=chance)


def train(net: Net, steps: int, run: Run, replay: StepReplay | None = None, after: Callable[[], object] = bool) -> Any:
    """What is left of a training: parameters, buffers, the next random numbers."""
    torch.manual_seed(3)
    random.seed(3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    for step, inputs in zip(run.steps(range(steps)), batches(), strict=False):

        def compute(inputs: Tensor = inputs) -> Tensor:
            x = inputs.requires_grad_(net.reentrant)
            return (net(x) * (1 + random.random())).square().mean()

        del step
        if replay is None:
            torch.autograd.backward(compute())
        else:
            with replay.of(compute):
                torch.autograd.backward(compute())
        optimizer.step()
        optimizer.zero_grad()
        after()
    return [each.clone() for each in net.state_dict().values()], torch.rand(3), random.random()


def assert_same(one: Any, other: Any) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
    assert torch.equal(one[1], other[1])
    assert one[2] == other[2]


def made() -> Net:
    torch.manual_seed(0)
    return Net()


@contextmanager
def flipped_once(module: nn.Module, call: int) -> Iterator[None]:
    """The output of the module's n-th call from now on has one wrong bit."""
    calls = 0

    def flip(_module: nn.Module, _args: Any, out: Tensor) -> Tensor | None:
        nonlocal calls
        calls += 1
        if calls != call:
            return None
        changed = out.clone()
        changed.detach().view(torch.int32)[3, 2] ^= 1 << 22
        return changed

    handle = module.register_forward_hook(flip)
    yield
    handle.remove()


# ---------------------------------------------------------------- recomputation


def recomputing(rank: Rank, every: int = 1, reentrant: bool = False) -> tuple[Net, RecomputeCheck]:
    net, check = made(), RecomputeCheck(rank.run, every=every)
    net.segment, net.reentrant = check.segment, reentrant
    return net, check


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_segments_agree_and_training_is_the_same(rank: Rank, reentrant: bool) -> None:
    plain = made()
    plain.segment, plain.reentrant = (lambda block: block), reentrant
    expected = train(plain, 16, DetachedRun())
    net, check = recomputing(rank, reentrant=reentrant)
    assert_same(train(net, 16, rank.run, after=check.step), expected)
    assert rank.said(RECOMPUTE) == SelfCheck(RECOMPUTE, agreed=16)


@pytest.mark.parametrize("call", [9 * 2 + 1, 9 * 2 + 2])  # in the forward of step 9, in its recomputation
@pytest.mark.parametrize("layer", [0, 4])
def test_one_wrong_bit_in_a_segment_is_seen_in_its_step(rank: Rank, call: int, layer: int) -> None:
    net, check = recomputing(rank)
    with flipped_once(net.blocks[1][layer], call):  # type: ignore[index]
        train(net, 14, rank.run, after=check.step)
    assert rank.said(RECOMPUTE) == SelfCheck(RECOMPUTE, agreed=9, differed=1, clean=9, step=10)


def test_in_as_many_steps_as_it_is_told_each_segment_has_been_compared(rank: Rank) -> None:
    net, check = recomputing(rank, every=5)
    compared = []
    segment = check.segment

    def noted(block: nn.Module) -> Callable[..., Tensor]:
        made = segment(block)
        compared.append(made is not block)
        return made

    net.segment = noted
    train(net, 5, rank.run, after=check.step)
    assert sum(compared[0::2]) == sum(compared[1::2]) == 1


def test_without_the_random_state_a_segment_differs_at_once_and_it_stops_looking(rank: Rank) -> None:
    check = RecomputeCheck(rank.run, every=1)
    block = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    for _ in rank.run.steps(range(9)):
        x = torch.randn(16, 4)
        checkpoint(check.segment(block), x, use_reentrant=False, preserve_rng_state=False).sum().backward()
        check.step()
    said = rank.said(RECOMPUTE)
    assert said is not None
    assert (said.agreed, said.differed) == (0, DIFFERED_MAX)
    assert check.segment(block) is block


def test_the_output_of_a_compared_segment_may_be_changed_in_place(rank: Rank) -> None:
    check = RecomputeCheck(rank.run, every=1)
    x = torch.randn(4, 4, requires_grad=True)
    out = checkpoint(check.segment(nn.Linear(4, 4)), x, use_reentrant=False)
    out += 1
    out.sum().backward()


# ---------------------------------------------------------------- replay


def test_a_replay_leaves_no_trace(rank: Rank) -> None:
    expected = train(made(), 20, DetachedRun())
    net = made()
    replay = StepReplay(net, rank.run, every=1)
    assert_same(train(net, 20, rank.run, replay), expected)
    assert rank.said(REPLAY) == SelfCheck(REPLAY, agreed=16, clean=2)


@pytest.mark.parametrize("call", [2 * 9 - 2 + 1, 2 * 9 - 2 + 2])  # the first two steps are not replayed
def test_one_wrong_bit_on_the_way_to_a_gradient_is_seen_in_a_replayed_step(rank: Rank, call: int) -> None:
    net = made()
    replay = StepReplay(net, rank.run, every=1)
    with flipped_once(net.blocks[0][0], call):  # type: ignore[index]
        train(net, 14, rank.run, replay)
    assert rank.said(REPLAY) == SelfCheck(REPLAY, agreed=7, differed=1, clean=9, step=10)


def test_a_wrong_bit_of_a_gradient_itself_is_seen(rank: Rank) -> None:
    net = made()
    replay = StepReplay(net, rank.run, every=1)
    backwards = 0

    def flip(gradient: Tensor) -> Tensor | None:
        nonlocal backwards
        backwards += 1
        if backwards != 19:
            return None
        changed = gradient.clone()
        changed.view(torch.int32)[1, 1] ^= 1
        return changed

    net.blocks[0][0].weight.register_hook(flip)  # type: ignore[index,union-attr]
    train(net, 14, rank.run, replay)
    said = rank.said(REPLAY)
    assert said is not None
    assert (said.differed, said.step) == (1, 11)


def test_one_step_in_so_many_is_replayed_and_each_of_many_after_a_suspicion(rank: Rank) -> None:
    net = made()
    replay = StepReplay(net, rank.run, every=10)
    train(net, 40, rank.run, replay)
    assert replay.record.agreed == 4
    replay.suspect()
    train(net, 20, rank.run, replay)
    assert replay.record.agreed == 4 + 20


def test_what_goes_on_after_a_rollback_is_suspicious(tmp_path: Path) -> None:
    rank = Rank(tmp_path, resume_at_most=100)
    net = made()
    replay = StepReplay(net, rank.run, every=1000)
    train(net, 20, rank.run, replay)
    assert replay.record.agreed == 18


def test_gradients_that_are_there_already_are_kept_and_added_to_once(rank: Rank) -> None:
    net = nn.Linear(4, 1)
    replay = StepReplay(net, rank.run, every=1)
    for number in range(6):
        rank.run.step(number)
        net.zero_grad()
        for part in range(2):  # micro-batches
            with replay.of(lambda part=part: net(torch.full((1, 4), 1.0 + part)).sum()):
                net(torch.full((1, 4), 1.0 + part)).sum().backward()
        assert net.weight.grad is not None
        assert net.weight.grad.tolist() == [[3.0] * 4]


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, StopIteration])
def test_a_closure_that_cannot_be_called_again_ends_the_replays_and_not_the_training(
    rank: Rank, error: type[Exception]
) -> None:
    net = nn.Linear(4, 1)
    replay = StepReplay(net, rank.run, every=1)

    def compute() -> Tensor:
        raise error("the batch is gone")

    for number in range(6):
        rank.run.step(number)
        with replay.of(compute):
            net(torch.ones(1, 4)).sum().backward()
    assert "the batch is gone" in replay.why_not


def test_a_forward_with_collectives_is_not_replayed(rank: Rank) -> None:
    """Ranks that replay at different steps would wait for each other."""
    assert "collectives" in StepReplay(nn.Sequential(nn.SyncBatchNorm(4)), rank.run, every=1).why_not


# ---------------------------------------------------------------- known answer


def test_the_known_answer_is_the_same_each_time_and_draws_nothing(rank: Rank) -> None:
    check = KnownAnswer(rank.run, every=2)
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    with torch.no_grad(), torch.autocast("cpu"):
        for _ in rank.run.steps(range(16)):
            check.step()
    assert torch.equal(torch.rand(4), expected)
    said = rank.said(KNOWN_ANSWER)
    assert said is not None
    assert (said.agreed, said.differed, said.clean, said.key) == (8, 0, 0, key_of(CPU))


def test_a_rank_answers_soon_after_its_start_but_its_first_step_is_not_held_up(rank: Rank) -> None:
    check = KnownAnswer(rank.run, every=100)
    answered = []
    for number in rank.run.steps(range(30, 34), start=30):
        check.step()
        answered.append((number, check.record.agreed))
    assert answered == [(30, 0), (31, 1), (32, 1), (33, 1)]
    said = rank.said(KNOWN_ANSWER)
    assert said is not None
    assert said.clean == 30, "a device that was wrong from the start spoilt the step before its answer, too"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_wrong_bit_in_the_computation_changes_the_answer(which: int) -> None:
    tensors = material(CPU)
    right = int(answer(tensors))
    tensors[which].view(torch.int32)[5, 7] ^= 1 << 20
    assert int(answer(tensors)) != right


def test_another_answer_than_before_is_told_with_the_step_that_was_still_right(rank: Rank) -> None:
    check = KnownAnswer(rank.run, every=1)
    for number in rank.run.steps(range(12)):
        if number == 10:
            check._tensors[1][0, 0] += 1.0
        check.step()
    said = rank.said(KNOWN_ANSWER)
    assert said is not None
    assert (said.agreed, said.differed, said.clean, said.step) == (10, 2, 10, 11)


def test_the_key_tells_settings_apart_that_change_the_answer() -> None:
    before = key_of(CPU)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    other = key_of(CPU)
    torch.set_num_threads(threads)
    assert key_of(CPU) == before != other


@pytest.mark.parametrize("make", [RecomputeCheck, KnownAnswer, lambda run, every: StepReplay(Net(), run, every=every)])
def test_a_check_that_is_off_does_nothing_and_a_negative_interval_is_refused(rank: Rank, make: Any) -> None:
    with pytest.raises(ValueError, match="every must be 0 or more"):
        make(rank.run, every=-1)
    for check in (make(rank.run, every=0), make(DetachedRun(), every=1)):
        if isinstance(check, StepReplay):
            assert check.why_not
        else:
            rank.run.step(1)
            check.step()
            assert check.record.agreed == 0
