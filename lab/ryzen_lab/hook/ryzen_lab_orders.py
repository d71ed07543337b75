"""What the lab may order a rank to do: a fault from inside, or something innocent that looks like one.

`ORDERS` is the list; an order arrives right after an optimizer step and strikes within the next one. Each says
`fault` to the lab at the moment it strikes, with the place, and nothing before it. An order that cannot be carried
out (no DDP module to skip a sum in, say) strikes nowhere, or at a place that it names.

`where` of an order is one of: before_step, after_step (of the optimizer), forward (the n-th module call).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import mmap
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import ryzen_lab_flips as flips  # type: ignore[import-not-found]  # beside this file, on PYTHONPATH
import ryzen_lab_values as values  # type: ignore[import-not-found]  # beside this file, on PYTHONPATH

_LOOP = {"x86_64": b"\xeb\xfe", "aarch64": b"\x00\x00\x00\x14"}
"""Machine code of a jump to itself."""


class InjectedError(RuntimeError):
    """What the lab's `exit` raises."""


# ------------------------------------------------------------ places


def _at_place(hook: Any, order: dict[str, Any], deed: Callable[[], object]) -> None:
    """Do it once: before or after the optimizer, or at the n-th module call of the next step."""
    place = order["where"]

    def strike(where: str) -> None:
        hook.before_step = hook.after_step = None
        hook.channel.send("fault", where=where)
        deed()

    if place == "before_step":
        hook.before_step = lambda: strike("before_step")
    elif place == "after_step":
        hook.after_step = lambda: strike("after_step")
    else:
        left = order["calls"]

        def at_call(_module: Any, _args: Any) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                handle.remove()
                strike("forward")

        handle = _modules().register_module_forward_pre_hook(at_call)

        def too_few() -> None:  # a step with fewer module calls than that is struck at its end
            handle.remove()
            strike("before_step")

        hook.before_step = too_few


def _modules() -> Any:
    return sys.modules["torch"].nn.modules.module


# ------------------------------------------------------------ deeds


def _raise(hook: Any, order: dict[str, Any]) -> None:
    def fail() -> NoReturn:
        raise InjectedError(order["message"])

    _at_place(hook, order, fail)


def _spin(hook: Any, order: dict[str, Any]) -> None:
    _at_place(hook, order, _count_for_ever)


def _count_for_ever() -> NoReturn:
    total = 0
    while True:
        total += 1
        if total % 3 == 0:
            total ^= 5
        elif total % 7 == 0:
            total = _halved(total)
        else:
            total -= total // 1_000_003


def _halved(number: int) -> int:
    if number > 1 << 40:
        return number // 2
    return number + 1


def _gil(hook: Any, order: dict[str, Any]) -> None:
    _at_place(hook, order, _hold_asleep if order["how"] == "wait" else _hold_busy)


def _hold_asleep() -> NoReturn:
    """A blocking call by way of PyDLL: ctypes does not let go of the interpreter's lock for it."""
    pause = ctypes.PyDLL(None).pause
    while True:
        pause()


def _hold_busy() -> None:
    code = _LOOP.get(platform.machine())
    with contextlib.suppress(OSError, ValueError):
        if code is not None:
            page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            page.write(code)
            ctypes.PYFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    re.match(r"(a+)+$", "a" * 80 + "b")  # where no page may be executed: backtracking holds the lock as well


def _wait_for_ever(how: str) -> NoReturn:
    while True:
        if how == "sleep":
            time.sleep(3600.0)
        else:
            lock = threading.Lock()
            with lock:
                lock.acquire()


def _backward(hook: Any, order: dict[str, Any]) -> None:
    """A hook on the gradient of one parameter, which never returns."""
    struck = False

    def wait(where: str) -> None:
        nonlocal struck
        if not struck:
            struck = True
            hook.channel.send("fault", where=where)
            _wait_for_ever(order["how"])

    parameters = [each for group in hook.optimizers[0].param_groups for each in group["params"] if each.requires_grad]
    plain = [each for each in parameters if not hasattr(each, "to_local")]
    if plain:
        plain[int(order["part"] * len(plain))].register_hook(lambda _gradient: wait("backward"))
    else:  # the gradients of sharded parameters do not pass a hook of the parameter
        _modules().register_module_full_backward_hook(lambda *_: wait("backward"))
    hook.before_step = lambda: wait("before_step, for that parameter had no gradient")


def _loader(hook: Any, order: dict[str, Any]) -> None:
    """The next batch never comes. A step that asks no data loader for one is waited for at its first module call."""

    def wait(where: str) -> None:
        hook.channel.send("fault", where=where)
        _wait_for_ever(order["how"])

    def stuck(get: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(get)
        def next_data(*_: Any, **__: Any) -> NoReturn:
            wait("data loader")
            raise AssertionError

        return next_data

    for module in ("torch.utils.data.dataloader", "torchdata.stateful_dataloader.stateful_dataloader"):
        for kind in list(vars(sys.modules[module]).values()) if module in sys.modules else []:
            if isinstance(kind, type) and "_next_data" in vars(kind):
                kind._next_data = stuck(kind._next_data)  # type: ignore[attr-defined]

    def whole_step_without() -> None:
        hook.before_step = None
        _modules().register_module_forward_pre_hook(lambda *_: wait("forward, for no data loader was asked"))

    hook.before_step = whole_step_without


def _save(hook: Any, order: dict[str, Any]) -> None:
    """The next save never returns. With `claim` several ranks are ordered and the first that makes the file does it."""

    def is_mine() -> bool:
        if not order["claim"]:
            return True
        try:
            os.close(os.open(order["claim"], os.O_CREAT | os.O_EXCL))
        except OSError:
            return False
        return True

    def stuck(save: Callable[..., Any], where: str) -> Callable[..., Any]:
        @functools.wraps(save)
        def write(*args: Any, **kwargs: Any) -> Any:
            if is_mine():
                hook.channel.send("fault", where=where)
                _wait_for_ever(order["how"])
            return save(*args, **kwargs)

        return write

    places = (
        ("torch.serialization", "", ("_save", "_legacy_save"), "torch.save"),
        ("torch.distributed.checkpoint.filesystem", "_FileSystemWriter", ("write_data",), "checkpoint writer"),
    )
    for module, kind, names, where in places:
        found = sys.modules.get(module)
        holder = getattr(found, kind, None) if kind else found
        for name in names if holder is not None else ():
            setattr(holder, name, stuck(getattr(holder, name), where))


def _deadlock(hook: Any, order: dict[str, Any]) -> None:
    """An all_reduce on the group that was made at start, which no other rank enters."""
    torch = sys.modules["torch"]
    if hook.group is None:
        return

    def enter() -> None:
        backend = str(torch.distributed.get_backend(hook.group))
        device = "cuda" if "nccl" in backend else "cpu"
        torch.distributed.all_reduce(torch.ones(1, device=device), group=hook.group)

    _at_place(hook, order, enter)


def _skip(hook: Any, order: dict[str, Any]) -> None:  # noqa: ARG001 - nothing to choose
    """One step whose gradients this rank keeps to itself: DDP is told that it is not the last micro-batch."""
    parallel = sys.modules["torch"].nn.parallel.DistributedDataParallel
    skipped: list[Any] = []

    def at_call(module: Any, _args: Any) -> None:
        if isinstance(module, parallel) and module.require_backward_grad_sync:
            module.require_backward_grad_sync = False
            if not skipped:
                hook.channel.send("fault", where="backward")
            skipped.append(module)

    def step_done() -> None:
        if skipped:
            hook.before_step = None
            handle.remove()
            for module in skipped:
                module.require_backward_grad_sync = True

    handle = _modules().register_module_forward_pre_hook(at_call)
    hook.before_step = step_done


# ------------------------------------------------------------ innocent


def _pause(hook: Any, order: dict[str, Any]) -> None:
    """An evaluation that nobody named: as the next step begins where the script tells Ryzen so, else between two."""

    def evaluate() -> None:
        hook.channel.send("fault", where="evaluation")
        _evaluate(order["seconds"])
        hook.channel.send("resumed")

    def between_steps() -> None:
        hook.after_step = None
        evaluate()

    run = getattr(sys.modules.get("ryzen_trainer.run"), "Run", None)
    if run is None:
        hook.after_step = between_steps
        return
    begin = run.step

    def step(instance: Any, number: int) -> None:
        run.step = begin
        begin(instance, number)
        evaluate()

    run.step = step


def _evaluate(seconds: float) -> None:
    """Something like a model over something like batches: the stack moves, the CPU is used."""
    torch = sys.modules["torch"]
    end = time.monotonic() + seconds
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        weight = torch.randn(192, 192) / 14.0
        while time.monotonic() < end:
            batch = torch.randn(64, 192)
            for _ in range(8):
                batch = _attention(batch, weight)
                batch = _perceptron(batch, weight)
            time.sleep(0.002)  # the next batch comes


def _attention(batch: Any, weight: Any) -> Any:
    scores = (batch @ weight @ batch.T).softmax(-1)
    return batch + scores @ batch @ weight


def _perceptron(batch: Any, weight: Any) -> Any:
    hidden = (batch @ weight).relu()
    return (batch + hidden @ weight) / 2


def _collect(hook: Any, order: dict[str, Any]) -> None:
    """A pause of the garbage collector: a heap of so many objects in cycles, and one full collection."""

    def collect() -> None:
        hook.after_step = None
        hook.channel.send("fault", where="garbage collector")
        heap: list[Any] = [[] for _ in range(order["objects"])]
        for each in heap:
            each.append(each)
        del heap, each
        gc.collect()
        hook.channel.send("resumed")

    hook.after_step = collect


def _linger(hook: Any, order: dict[str, Any]) -> None:
    """Stay for a while once everything is done: other nodes have ended then, this rank's has not."""
    hook.linger_s = order["seconds"]


ORDERS: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "raise": _raise,
    "spin": _spin,
    "gil": _gil,
    "backward": _backward,
    "loader": _loader,
    "save": _save,
    "deadlock": _deadlock,
    "skip": _skip,
    "nan": values.nan,
    "spike": values.spike,
    "bitflip": flips.bitflip,
    "pause": _pause,
    "collect": _collect,
    "linger": _linger,
}
"""What the lab may order a rank to do. A new kind of fault is a function here and its entry."""
