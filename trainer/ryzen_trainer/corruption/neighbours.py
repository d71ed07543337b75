"""`Neighbours`: under suspicion, a micro-batch that two other ranks compute as well.

A device that is wrong in the same way each time agrees with itself, so its own replay sees nothing. Here the rank lays
out what the forward starts from (the micro-batch, buffers, torch's random generators) in the job's store, the two ranks
before it in the ring do the same, and each computes what its two neighbours laid out. Gradients before the sum depend
on nothing else, for replicas have the same parameters. Two ranks that agree with each other, and not with the one whose
micro-batch it is, name it.

Nobody waits for anybody. With DDP a rank that has its gradients knows that every other has begun its backward, so what
was laid out before the forward is there; what is not is passed over. The answers are read a step later.

A healthy rank must never be outvoted, so what could make honest ranks differ ends it or is not judged: fewer than three
replicas, another device model, software or parameters, kernels that are chosen by timing them (cuDNN's benchmark mode),
a forward with random numbers of Python or NumPy (which are not sent), tensors whose place in memory says more than
their values. A forward with collectives is not replayed at all (replay.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import distributed_c10d
from torch.nn.parallel import DistributedDataParallel

from ryzen_protos.beat_self_checks import NEIGHBOURS
from ryzen_trainer.corruption.again import State, once_more
from ryzen_trainer.corruption.digest import as_unsigned, digest_on_device
from ryzen_trainer.corruption.known_answer import key_of
from ryzen_trainer.corruption.own_record import OwnRecord
from ryzen_trainer.run import Run

log = logging.getLogger(__name__)

WITNESSES = 2
BYTES_MAX = 1 << 20
"""Of what a rank lays out, mostly for one step. The store is in one process: a gigabyte of a thousand ranks."""
PATIENCE = 64
"""Steps after which answers that are not there are given up, and what was laid out is deleted: no other rank is so far
behind that it may still be reading it."""
STORE_S = 5.0
"""For the store's answer. Longer: a store that stands still holds up training."""
ALIGNED = 64
"""Bytes. Libraries choose kernels by it (MKL's numerical reproducibility asks for it), and what is sent arrives so."""

_KINDS = {str(kind).removeprefix("torch."): kind for kind in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)}  # fmt: skip


@dataclass
class _Round:
    """One step's. `parameters`: their digest; `owed`: ranks whose micro-batch this one has not computed yet; `digest`:
    of this rank's own gradients, None while not known or not to be compared."""

    step: int
    parameters: int
    owed: list[int]
    digest: int | None = None


@dataclass
class _Ring:
    """Who computes whose: the ranks of the model's group in their order."""

    ranks: list[int]
    rank: int
    before: list[int] = field(init=False)
    behind: list[int] = field(init=False)

    def __post_init__(self) -> None:
        place, around = self.ranks.index(self.rank), range(1, WITNESSES + 1)
        self.before = [self.ranks[(place - each) % len(self.ranks)] for each in around]
        self.behind = [self.ranks[(place + each) % len(self.ranks)] for each in around]

    @property
    def name(self) -> str:
        """Another for each group: one rank may be in several, and several in one store."""
        return hashlib.blake2b(repr(self.ranks).encode(), digest_size=8).hexdigest()


class Neighbours:
    """Of one model. Where it cannot be done, `why_not` says why and nothing is."""

    def __init__(self, model: nn.Module, parameters: Sequence[Tensor], run: Run, begin: int, instance: int) -> None:
        """`begin`: the step that this process began with. A device that is always wrong was so from there on.
        `instance`: which of the script's replays it is, on all ranks alike."""
        self.record = OwnRecord(run, NEIGHBOURS, "two other ranks agree on another gradient of its micro-batch")
        self.record.begin(begin)
        self.why_not = ""
        self._model, self._parameters = model, parameters
        self._open: list[_Round] = []
        self._device = parameters[0].device if parameters else torch.device("cpu")
        if not isinstance(model, DistributedDataParallel):
            self.why_not = "the model is no DistributedDataParallel"
            return
        ranks = dist.get_process_group_ranks(model.process_group)
        if len(ranks) <= WITNESSES:
            self.why_not = f"there are fewer than {WITNESSES + 1} replicas"
        elif self._device.type == "cuda" and torch.backends.cudnn.benchmark:
            self.why_not = "each rank chooses its kernels by timing them"
        if self.why_not:
            return
        self._ring = _Ring(ranks, dist.get_rank())
        self._name = f"ryzen/neighbours/{os.environ.get('RYZEN_GENERATION', '0')}/{instance}/{self._ring.name}"
        default: Any = distributed_c10d._get_default_store()
        self._store = default.clone()
        self._store.set_timeout(timedelta(seconds=STORE_S))

    def offer(self, step: int, state: State, batch: Sequence[Tensor]) -> None:
        """Lay out what this step's first micro-batch starts from, before its forward. Raises ValueError where it cannot
        be sent, and what the store raises."""
        if self.why_not or not batch or self.record.over:
            return
        buffers = [value for _, value in state.buffers]
        laid_out = pack([state.random.torch, _none_as_empty(state.random.cuda), *buffers, *batch])
        self._store.set(self._key(step, self._ring.rank), laid_out)
        parameters = as_unsigned(int(digest_on_device(self._parameters)))
        self._open.append(_Round(step, parameters, list(self._ring.before)))

    def computed(self, step: int, first: Tensor, again: Tensor, *, repeatable: bool) -> None:
        """By this rank itself, twice. Where these differ, that says all. `repeatable`: from what was laid out."""
        for each in self._of(step):
            each.digest = as_unsigned(int(first)) if repeatable and int(first) == int(again) else None

    def owes(self, step: int) -> bool:
        """Whether there may be something to compute for another in this step."""
        return any(each.owed for each in self._of(step))

    def answer(self, step: int, compute: Callable[..., Tensor]) -> None:
        """Compute what the ranks before this one have laid out, as far as it is there. Raises what the store and
        `compute` raise."""
        for now, owner in [(each, owner) for each in self._of(step) for owner in each.owed]:
            key = self._key(step, owner)
            if self._store.check([key]):
                now.owed.remove(owner)
                theirs = self._begin(unpack(self._store.get(key)), compute)
                found = once_more(self._model, self._parameters, *theirs)
                self._store.set(f"{key}/{self._ring.rank}", self._said(now, as_unsigned(int(found))))

    def compare(self, step: int) -> None:
        """Read the answers to earlier steps' micro-batches that both are there."""
        for each in [each for each in self._open if each.step != step]:
            keys = self._answers(each)
            there = self._store.check(keys)
            if not there and 0 <= step - each.step < PATIENCE:
                continue
            self._open.remove(each)
            if there and each.digest is not None:
                self._judge(each.step, self._said(each, each.digest), [self._store.get(key).decode() for key in keys])
            self._clear(each)

    def _judge(self, step: int, own: str, answers: list[str]) -> None:
        alike = {each.rpartition(" ")[0] for each in (own, *answers)}
        if len(set(answers)) == 1 and len(alike) == 1:
            self.record.take(step + 1, answers[0] == own)

    def _said(self, now: _Round, digest: int) -> str:
        """With device, software and parameters: gradients can be compared only where these are alike."""
        return f"{key_of(self._device)} {now.parameters} {digest}"

    def _begin(
        self, theirs: list[Tensor], compute: Callable[..., Tensor]
    ) -> tuple[Callable[[], Tensor], Callable[[], None]]:
        """The forward on what was laid out, and what puts generators and buffers there."""
        buffers = list(self._model.buffers())
        random, cuda, values = theirs[0], theirs[1], theirs[2 : 2 + len(buffers)]
        batch = [each.to(self._device) for each in theirs[2 + len(buffers) :]]

        def begin() -> None:
            torch.set_rng_state(random)
            if cuda.numel():
                torch.cuda.set_rng_state(cuda)
            with torch.no_grad():
                for buffer, value in zip(buffers, values, strict=True):
                    buffer.copy_(value)

        return lambda: compute(*batch), begin

    def _of(self, step: int) -> list[_Round]:
        return [each for each in self._open if each.step == step]

    def _answers(self, found: _Round) -> list[str]:
        return [f"{self._key(found.step, self._ring.rank)}/{rank}" for rank in self._ring.behind]

    def _clear(self, found: _Round) -> None:
        for key in (self._key(found.step, self._ring.rank), *self._answers(found)):
            self._store.delete_key(key)

    def _key(self, step: int, rank: int) -> str:
        return f"{self._name}/{step}/{rank}"

    def give_up(self, why: str) -> None:
        """It is not to be tried again. What is laid out stays for those who may be reading it."""
        self.why_not, self._open = why, []
        log.warning("no replay on other ranks: %s", why)


def collectives() -> int:
    """Begun by this process so far, on all groups that count them."""
    total = 0
    groups: list[Any] = list(distributed_c10d._world.pg_map)
    for group in groups:
        with contextlib.suppress(RuntimeError):
            total += int(group._get_sequence_number_for_group())
    return total


def pack(tensors: Sequence[Tensor]) -> bytes:
    """Types and shapes as a line of JSON, then the bytes. Raises ValueError for too much, or for what is no plain
    tensor."""
    if not all(isinstance(each, Tensor) and each.layout == torch.strided for each in tensors):
        raise ValueError("of a micro-batch only plain tensors can be sent")
    if not all(each.is_contiguous() and (each.is_cuda or each.data_ptr() % ALIGNED == 0) for each in tensors):
        raise ValueError("a micro-batch is a part of another tensor, or its dimensions are not in order")
    hosts = [each.detach().cpu() for each in tensors]
    total = sum(each.numel() * each.element_size() for each in hosts)
    if total > BYTES_MAX:
        raise ValueError(f"a micro-batch of {total} bytes with its buffers is more than {BYTES_MAX}")
    kinds = [str(each.dtype).removeprefix("torch.") for each in hosts]
    if unknown := set(kinds) - set(_KINDS):
        raise ValueError(f"tensors of {min(unknown)} are not sent")
    head = json.dumps([[kind, list(each.shape)] for kind, each in zip(kinds, hosts, strict=True)])
    raw = b"".join(each.reshape(-1).view(torch.uint8).numpy().tobytes() for each in hosts)
    return head.encode() + b"\n" + raw


def unpack(laid_out: bytes) -> list[Tensor]:
    """What `pack` was given. Raises ValueError for anything else."""
    head, _, raw = laid_out.partition(b"\n")
    found, at = [], 0
    for kind, shape in json.loads(head):
        like = torch.empty(shape, dtype=_KINDS[kind])
        length = like.numel() * like.element_size()
        if length:
            like.view(-1).view(torch.uint8).copy_(torch.frombuffer(bytearray(raw[at : at + length]), dtype=torch.uint8))
        found.append(like)
        at += length
    return found


def _none_as_empty(tensor: Tensor | None) -> Tensor:
    return torch.empty(0, dtype=torch.uint8) if tensor is None else tensor
