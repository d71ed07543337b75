"""Time that DDP spends in summing gradients over the ranks, apart from compute: by a communication hook that only
measures.

    model = DistributedDataParallel(net)
    communication.measure(model, run)

The hook does what DDP does without one, and with the same bits: each bucket is multiplied by one over the number of
ranks (torch's own example divides, which rounds otherwise where that number is no power of two) and summed. A sum
counts from the moment when its bucket is ready to the moment when the result is there, so waiting for the slowest
rank is in it. What the backward computes meanwhile goes on: this is time with a sum under way, not time lost.

Times are taken where a sum's future is done: on CPUs the clock in gloo's thread; on GPUs CUDA events, which are read
at a later bucket, once they are known to have passed. Nothing waits and nothing is added to what the ranks exchange.
"""

# No postponed annotations: DDP compares those of a hook with the types themselves.
from collections import deque
from functools import partial
from time import monotonic_ns
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ryzen_trainer.run import Run

_Event: Any = torch.cuda.Event
_WAITING_MAX = 1024
"""Events that are kept until the device has passed them."""


def measure(model: Any, run: Run) -> bool:
    """Measure the gradient sums of `model` from now on; whether that is done.

    Not of a model that is no DDP, nor of one that has a communication hook: that is the script's, and stays. Nor
    where no agent could read it.
    """
    if not run.attached or not isinstance(model, DistributedDataParallel) or _has_hook(model):
        return False
    model.register_comm_hook(None, _Meter(model.process_group, run).hook)
    return True


def _has_hook(model: Any) -> bool:
    """One in Python, or one of torch's own in C++ (which leaves only its name)."""
    return bool(model._comm_hooks) or bool(model._get_ddp_logging_data().get("comm_hook"))


class _Meter:
    """One model's. `hook` is called by one thread at a time; what it measures may be known in another."""

    def __init__(self, group: dist.ProcessGroup, run: Run) -> None:
        self._group = group
        self._share = 1.0 / group.size()
        self._run = run
        self._done: deque[tuple[int, int]] = deque(maxlen=_WAITING_MAX)
        self._events: deque[tuple[Any, Any]] = deque(maxlen=_WAITING_MAX)
        self._anchor: tuple[Any, int] | None = None

    def hook(self, _state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """What DDP calls for each bucket."""
        self._tell()
        tensor = bucket.buffer().mul_(self._share)
        began = self._event(monotonic_ns()) if tensor.is_cuda else monotonic_ns()
        work = self._group.allreduce([tensor])  # what DDP calls; dist.all_reduce looks everything up anew
        future: torch.futures.Future[Tensor] = work.get_future().then(partial(self._ended, began))
        return future

    def _ended(self, began: Any, future: torch.futures.Future[list[Tensor]]) -> Tensor:
        """In the thread that has seen the sum's end; on a GPU, when its end is only queued."""
        result = future.value()[0]
        if isinstance(began, int):
            self._done.append((began, monotonic_ns()))
        else:
            ended = _Event(enable_timing=True)
            ended.record()
            self._events.append((began, ended))
        return result

    def _event(self, now_ns: int) -> Any:
        """An event now, on the stream that has made the bucket. The first one ties the device's time to the clock's."""
        event = _Event(enable_timing=True)
        event.record()
        if self._anchor is None:
            self._anchor = event, now_ns
        return event

    def _tell(self) -> None:
        while self._done:
            self._run.sum_done(*self._done.popleft())
        while self._events and self._anchor is not None and self._events[0][1].query():
            began, ended = self._events.popleft()
            event, at_ns = self._anchor
            started_ns = at_ns + int(event.elapsed_time(began) * 1e6)
            self._run.sum_done(started_ns, started_ns + int(began.elapsed_time(ended) * 1e6))
            self._anchor = began, started_ns  # a float of milliseconds is exact only for near ones
