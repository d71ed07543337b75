"""`KnownAnswer`: a fixed small forward and backward, whose bits must be the same each time and on each equal device.

    check = KnownAnswer(run, device)
    ...
    check.step()                        # at the end of every step; every `every`-th answers

Inputs and weights are made of integers, not drawn: the script's random generators are not touched. A linear layer,
attention, GELU, a second linear layer, a loss, and the gradients of all. On a GPU in bfloat16 and large enough to keep
its matrix units busy; on a CPU small, in float32. The answer goes to the coordinator with a key of device and software
(`key_of`): ranks with the same key must give the same answer.

Sees: a device that computes these operations wrong at that moment, or always; with peers also one that was never right.
Does not see: a fault in other operations, in other parts of the device, at other temperatures, or between two answers.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ryzen_protos.beat_self_checks import KNOWN_ANSWER
from ryzen_trainer.corruption.arriving import Arriving
from ryzen_trainer.corruption.digest import as_unsigned, digest_on_device
from ryzen_trainer.corruption.own_record import OwnRecord
from ryzen_trainer.run import Run

EVERY = 100
"""Steps between two answers. docs/corruption.md has the cost that this follows from."""
COMPUTATION = 1
"""Number of the computation below: another one has other answers, so it is part of the key."""

_HEADS = 4
_KNUTH = 2654435761
"""2^32 divided by the golden ratio: multiples of it, modulo 2^32, are spread evenly."""


class KnownAnswer:
    """One object a training loop. Without an agent its calls do nothing."""

    def __init__(self, run: Run, device: torch.device | str = "cpu", *, every: int = EVERY) -> None:
        """`device`: of this rank. `every`: steps between two answers, 0 for none. Raises ValueError if negative."""
        if every < 0:
            raise ValueError(f"every must be 0 or more, not {every}")
        self.record = OwnRecord(run, KNOWN_ANSWER, "the fixed computation differs from itself")
        self._run, self._every, self._device = run, every, torch.device(device)
        self._on = bool(every) and run.attached
        self._tensors: list[Tensor] = []
        self._pending: tuple[int, int, Arriving] | None = None
        self._known: dict[int, int] = {}
        self._calls = 0

    def step(self) -> None:
        """The running step is done. Every `every`-th step answers, and soon after a start one more does: that of the
        second call, for everybody waits for the first step after a fault."""
        if not self._on:
            return
        self._publish()
        done = self._run.number + 1
        self._calls += 1
        if self._calls == 1:
            self.record.begin(done - 1)
        if (done % self._every and self._calls != 2) or self._pending is not None:
            return
        if not self._tensors:
            self._tensors = material(self._device)
        self._pending = done, key_of(self._device), Arriving(answer(self._tensors))
        self._publish()

    def _publish(self) -> None:
        if self._pending is None or not self._pending[2].arrived():
            return
        done, key, arriving = self._pending
        self._pending = None
        digest = as_unsigned(arriving.number())
        before = self._known.setdefault(key, digest)
        self.record.take(done, digest == before, digest, key)
        self._on = not self.record.over


def material(device: torch.device) -> list[Tensor]:
    """The input and the weights: (rows, width), (width, 3 width), (width, width)."""
    large = device.type == "cuda"
    rows, width, dtype = (2048, 1024, torch.bfloat16) if large else (64, 64, torch.float32)
    shapes = ((rows, width), (width, 3 * width), (width, width))
    return [_spread(shape, number).to(device, dtype) for number, shape in enumerate(shapes)]


def answer(tensors: list[Tensor]) -> Tensor:
    """The digest of output and gradients, a 0-dimensional int64 tensor on the device; nothing waits for it."""
    with torch.enable_grad(), torch.autocast(tensors[0].device.type, enabled=False):
        x, wide, narrow = (each.detach().requires_grad_() for each in tensors)
        query, key, value = (x @ wide).view(1, len(x), 3, _HEADS, -1).permute(2, 0, 3, 1, 4)
        scores = (query @ key.transpose(-1, -2)).softmax(-1)
        out = functional.gelu((scores @ value).transpose(1, 2).reshape(x.shape)) @ narrow
        gradients = torch.autograd.grad(out.float().square().mean(), (x, wide, narrow))
        return digest_on_device([out, *gradients])


def key_of(device: torch.device) -> int:
    """64 bits that are the same where the same answer is due: device model, software, and how it is set."""
    parts: list[Any] = [COMPUTATION, _model(device), torch.get_num_threads()]
    parts += [torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()]
    parts += [
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    ]
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


@cache
def _model(device: torch.device) -> str:
    software = f"torch {torch.__version__} {torch.__config__.show()}"
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return f"{found.name} {found.multi_processor_count} {torch.version.cuda} {software}"
    return f"{_processor()} {torch.backends.cpu.get_cpu_capability()} {software}"


def _processor() -> str:
    """ "Intel(R) Xeon(R) ..."; only the architecture where the kernel does not say more."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _spread(shape: tuple[int, int], number: int) -> Tensor:
    """Numbers between -0.5 and 0.5 over the root of the rows that are summed, the same on every machine."""
    count = shape[0] * shape[1]
    words = (torch.arange(1, count + 1, dtype=torch.int64) + 65537 * number) * _KNUTH % (1 << 32)
    scale = shape[0] ** (0.5 if number else 0.0)
    spread: Tensor = ((words.double() / (1 << 32) - 0.5) / scale).float()
    return spread.reshape(shape)
