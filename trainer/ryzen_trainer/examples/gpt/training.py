"""One rank of the reference trainer, from the process group to the digest of the final parameters.

The order at the start matters for a bit-identical resumption: model, wrapper and optimizer are made; DDP is
settled; then the checkpoint is restored; then training goes on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch._dynamo  # DDP and the first optimizer import it anyway; here the collector is still at rest
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import ryzen_trainer
from ryzen_trainer import communication
from ryzen_trainer.checkpoint import Checkpointer
from ryzen_trainer.errors import CheckpointError
from ryzen_trainer.examples.gpt.checks import Checks
from ryzen_trainer.examples.gpt.config import Config, Training
from ryzen_trainer.examples.gpt.data import Division, GlobalBatches, StandardLibrary, Windows, make_loader
from ryzen_trainer.examples.gpt.evaluation import Evaluation
from ryzen_trainer.examples.gpt.model import Gpt, next_byte_loss
from ryzen_trainer.guard import GradientGuard
from ryzen_trainer.settling import settle
from ryzen_trainer.throughput import FlopsPerToken, of_transformer
from ryzen_trainer.throughput.counting import multiplied_parameters
from ryzen_trainer.throughput.device import peak_of

log = logging.getLogger(__name__)

LOWEST_RATE = 0.1
"""Share of the learning rate at which the cosine ends (Hoffmann et al. 2022, arXiv 2203.15556, section 3.1)."""


@dataclass
class Parts:
    """What a step works with."""

    config: Config
    run: ryzen_trainer.Run
    device: torch.device
    model: nn.Module
    flops: FlopsPerToken
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LambdaLR
    division: Division
    batches: Iterator[tuple[Tensor, Tensor]]
    checkpointer: Checkpointer
    guard: GradientGuard
    checks: Checks
    evaluation: Evaluation | None = None
    figures: tuple[float | None, float | None] = (None, None)
    """Loss and gradient norm of the newest step that they were read of."""


def train(config: Config, run: ryzen_trainer.Run) -> str:
    """Train to the last step; the last line to print. Raises TrainerError."""
    device = begin(config)
    division = Division(config.training.global_batch, config.training.micro_batch, dist.get_world_size())
    parts, start = prepare(config, run, device, division)
    for step in run.steps(range(start, config.training.steps), start=start):
        do_step(parts, step)
        if step == start:  # on a CPU the peak is measured, once a node: no restart shall wait for that
            tell_worth(parts)
    run.finish()
    last = f"final step {config.training.steps} sha256 {parameter_digest(parts.model)}"
    dist.destroy_process_group()
    return last


def begin(config: Config) -> torch.device:
    """The process group is made; the device that this rank computes on."""
    torch.set_num_threads(config.hardware.threads)
    wanted = config.hardware.device
    cuda = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
        if config.hardware.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it, says torch
            torch.use_deterministic_algorithms(True)
    backend = config.distributed.backend
    if backend == "auto":
        backend = "nccl" if cuda else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=config.distributed.timeout_s))
    return device


def prepare(config: Config, run: ryzen_trainer.Run, device: torch.device, division: Division) -> tuple[Parts, int]:
    """All parts, restored, and the first step to do."""
    training = config.training
    torch.manual_seed(training.seed)
    plain = Gpt(config.model, config.hardware.activation_checkpointing).to(device)
    flops = _flops_per_token(plain, config)
    model = _wrapped(plain, config, device)
    communication.measure(model, run)
    optimizer = torch.optim.AdamW(
        model.parameters(), training.learning_rate, training.betas, weight_decay=training.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_share(training))
    windows = Windows(StandardLibrary(), config.model.sequence_length, training.seed)
    batches = GlobalBatches(division, dist.get_rank())
    loader = make_loader(windows, batches)
    checks = Checks.of(config, run, device, plain, model)
    guard = GradientGuard(model, optimizer, run=run, max_norm=training.gradient_clip, on_skip=checks.suspect)
    checkpointer = Checkpointer(
        training.checkpoint.folder, model, optimizer, scheduler=scheduler, loader=loader, guard=guard,
        global_batch=training.global_batch, keep_last=training.checkpoint.keep_last,
        committed=run.checkpoint_committed,
    )  # fmt: skip
    checkpointer.check_writable()
    torch.manual_seed(training.seed + 1 + dist.get_rank())  # dropout differs between ranks, weights did not
    if config.distributed.strategy == "ddp":
        inputs, targets = (each.to(device) for each in windows[0])
        settle(model, lambda: next_byte_loss(model(inputs[None]), targets[None]))
    start = _resume(checkpointer, batches, division)
    evaluation = Evaluation(config, device, lambda: _precision(config, device)) if training.evaluate_every else None
    parts = Parts(
        config, run, device, model, flops, optimizer, scheduler, division, iter(loader), checkpointer, guard, checks,
        evaluation,
    )  # fmt: skip
    return parts, start


def _flops_per_token(model: Gpt, config: Config) -> FlopsPerToken:
    """Of the model before it is wrapped."""
    shape = config.model
    return of_transformer(
        parameters=multiplied_parameters(model, tied=[model.tokens.weight]),
        layers=shape.layers,
        heads=shape.heads,
        head_width=shape.width // shape.heads,
        sequence_length=shape.sequence_length,
        recomputed_layers=shape.layers if config.hardware.activation_checkpointing else 0,
    )


def tell_worth(parts: Parts) -> None:
    """What a token costs and what the device could do, for MFU."""
    if not parts.run.attached:
        return
    precision = torch.float32 if parts.config.hardware.precision == "float32" else torch.bfloat16
    parts.run.measures(
        flops_per_token=parts.flops.model,
        hardware_factor=parts.flops.hardware / parts.flops.model,
        peak_flops=peak_of(parts.device, precision),
    )


def _wrapped(model: nn.Module, config: Config, device: torch.device) -> nn.Module:
    if config.distributed.strategy == "ddp":
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks:  # type: ignore[union-attr]
        fully_shard(block)
    fully_shard(model)
    return model


def _resume(checkpointer: Checkpointer, batches: GlobalBatches, division: Division) -> int:
    restored = checkpointer.restore()
    if restored is None:
        _say(f"starts at step 0 on {division.world_size} ranks, accumulating {division.accumulation}")
        return 0
    if not restored.same_world:
        batches.move_to(restored.samples)
    _say(
        f"resumes at step {restored.step} from {restored.path} (of {restored.world_size} ranks) "
        f"on {division.world_size} ranks, accumulating {division.accumulation}"
    )
    return restored.step


def do_step(parts: Parts, step: int) -> None:
    """All of one step, within `run.step(step)`."""
    run, training = parts.run, parts.config.training
    loss = _gradients(parts)
    with run.section("optimizer"):
        parts.guard.step()
        parts.scheduler.step()
        parts.optimizer.zero_grad(set_to_none=True)
    with run.section("check"):
        parts.checks.step()
    done = step + 1
    spoken = done % training.report_every == 0
    if spoken or parts.device.type == "cpu":  # on a GPU to read a figure is to wait for it
        parts.figures = float(loss), parts.guard.norm
    local = training.global_batch // parts.division.world_size
    run.report(
        loss=parts.figures[0], grad_norm=parts.figures[1], learning_rate=parts.scheduler.get_last_lr()[0],
        tokens=local * parts.config.model.sequence_length, samples=local,
    )  # fmt: skip
    if spoken:
        _say(f"step {done} loss {parts.figures[0]:.4f} gradient norm {parts.figures[1]:.4f}")
    if parts.evaluation is not None and done % training.evaluate_every == 0:
        with run.section("evaluation"):
            _say(f"step {done} loss on other text {parts.evaluation.loss(parts.model):.4f}")
    if done % training.checkpoint.every_steps == 0 or done == training.steps:
        with run.section("checkpoint"):
            _save(parts.checkpointer, done, done * training.global_batch)


def _gradients(parts: Parts) -> Tensor:
    """Forward and backward of all micro-batches; the mean loss of this rank."""
    total = torch.zeros((), device=parts.device)
    for index in range(parts.division.accumulation):
        with parts.run.section("data"):
            batch = next(parts.batches)
            parts.run.batch_read(batch)
            inputs, targets = (each.to(parts.device) for each in batch)
        last = index == parts.division.accumulation - 1
        compute = partial(_loss, parts)
        with _synchronised(parts.model, last), parts.checks.replay.of(compute, inputs, targets):
            with parts.run.section("forward"):
                loss = compute(inputs, targets)
            with parts.run.section("backward"):
                torch.autograd.backward(loss)
        total += loss.detach()
    return total


def _loss(parts: Parts, inputs: Tensor, targets: Tensor) -> Tensor:
    """Of one micro-batch, as its share of the step's."""
    with _precision(parts.config, parts.device):
        return next_byte_loss(parts.model(inputs), targets) / parts.division.accumulation


def _synchronised(model: nn.Module, last: bool) -> AbstractContextManager[Any]:
    """Gradients are summed over the ranks with the last micro-batch only."""
    if isinstance(model, DistributedDataParallel):
        return nullcontext() if last else model.no_sync()
    model.set_requires_gradient_sync(last)  # type: ignore[operator]
    return nullcontext()


def _precision(config: Config, device: torch.device) -> AbstractContextManager[Any]:
    if config.hardware.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _save(checkpointer: Checkpointer, step: int, samples: int) -> None:
    """A checkpoint that fails costs safety, not the run: say so, train on, try again next time."""
    try:
        checkpointer.save(step, samples)
    except CheckpointError as error:
        if dist.get_rank() == error.rank:
            log.error("step %d: %s", step, error)  # noqa: TRY400 - the line is for people, a traceback is not


def parameter_digest(model: nn.Module) -> str:
    """SHA-256 over all parameters in the order of the model. Collective for sharded ones."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        value: Tensor = parameter.detach()
        if isinstance(value, DTensor):
            value = value.full_tensor()
        digest.update(value.contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def learning_rate_share(training: Training) -> Callable[[int], float]:
    """The learning rate of a step as a share of the largest: warm-up, then constant or half a cosine."""

    def share(step: int) -> float:
        if step < training.warmup_steps or training.schedule == "constant":
            return min(1.0, (step + 1) / (training.warmup_steps + 1))
        done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
        return LOWEST_RATE + (1.0 - LOWEST_RATE) * (1.0 + math.cos(math.pi * min(1.0, done))) / 2.0

    return share


def _say(line: str) -> None:
    if dist.get_rank() == 0:
        log.info("%s", line)
