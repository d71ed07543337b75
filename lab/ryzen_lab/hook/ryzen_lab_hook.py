"""The lab's eyes and hand inside a rank: no line of the training script knows of it.

An import hook waits for `torch.optim.optimizer` and registers PyTorch's own global optimizer hooks. From then on
each optimizer step is one line of JSON on a Unix socket to the lab, stamped with CLOCK_MONOTONIC, which all
processes of a machine share. At exit the parameters of every optimizer that stepped are digested. The same socket
brings the order to fail; the rank learns of a fault only at the moment it happens, the product never.

Step numbers are absolute: the optimizer's own `step` state where it has one (read once, then counted: on a GPU a
read would wait for the device), else the step that `ryzen_trainer` was told, else a count from this process's start.

Nothing here may stop or slow a script: the socket never blocks, and once it fails the hook is silent for ever.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_FRAMES_UP_MAX = 12
MARK = "RYZEN_LAB_RANK_PID"
"""Set in a rank for those that it starts: /proc shows a forked rank's environment as it was before the fork."""


class Channel:
    """Lines of JSON to the lab and back; never blocks, never raises."""

    def __init__(self, path: str) -> None:
        self._socket: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._received = b""
        try:
            self._socket.connect(path)
            self._socket.setblocking(False)
        except OSError:
            self._close()

    def send(self, kind: str, **values: Any) -> None:
        if self._socket is None:
            return
        line = json.dumps({"kind": kind, "ns": time.monotonic_ns(), **values}).encode() + b"\n"
        try:
            if self._socket.send(line) != len(line):
                self._close()
        except OSError:
            self._close()

    def orders(self) -> list[dict[str, Any]]:
        """Whole lines that have arrived."""
        if self._socket is None:
            return []
        with contextlib.suppress(BlockingIOError, InterruptedError):
            try:
                self._received += self._socket.recv(4096)
            except (ConnectionError, TimeoutError):
                self._close()
        *lines, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in lines]

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Hook:
    """State of the hook in one rank."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.pid = os.getpid()
        self.optimizers: list[Any] = []  # in the order of their first step; held so that they live until the digest
        self.count = 0
        self.base: int | None = None
        self.source = ""
        self.made_state = False  # by a step that trained nothing, and not replaced by a restored one since
        self.before_step: Callable[[], None] | None = None
        self.after_step: Callable[[], None] | None = None
        self.group: Any = None  # of all ranks, used by nothing but the fault `deadlock`
        self.linger_s = 0.0

    def install(self, module: ModuleType) -> None:
        """`torch.optim.optimizer` is loaded: register with it."""
        self.channel.send("torch")
        module.register_optimizer_step_pre_hook(self._pre)
        module.register_optimizer_step_post_hook(self._post)
        optimizer = module.Optimizer
        load = optimizer.load_state_dict

        def load_state_dict(instance: Any, *args: Any, **kwargs: Any) -> Any:
            result = load(instance, *args, **kwargs)
            self.made_state = False
            if self.count == 0:
                self.channel.send("restored")
            return result

        optimizer.load_state_dict = load_state_dict

    def install_group(self, module: Any) -> None:
        """`torch.distributed` is loading: every script makes one more group of all ranks, whatever the trial is."""
        initialise = module.init_process_group

        @functools.wraps(initialise)
        def init_process_group(*args: Any, **kwargs: Any) -> None:
            initialise(*args, **kwargs)
            if os.getpid() == self.pid and module.get_world_size() > 1:
                self.group = module.new_group()

        module.init_process_group = init_process_group
        package: Any = sys.modules.get("torch.distributed")
        if getattr(package, "init_process_group", None) is initialise:
            package.init_process_group = init_process_group  # in a forked rank it has the name already

    def _pre(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if self.before_step is not None and os.getpid() == self.pid and not self._is_other(optimizer):
            self.before_step()

    def _post(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if os.getpid() != self.pid:
            return
        if self.count == 0 and _is_initialisation():
            self.made_state = True
            return
        if not any(each is optimizer for each in self.optimizers):
            self.optimizers.append(optimizer)
        if self._is_other(optimizer):
            return
        self.count += 1
        if self.base is None:
            self.base = self._first_step(optimizer) - 1
        self.channel.send("step", step=self.base + self.count, source=self.source)
        for order in self.channel.orders():
            self._obey(order)
        if self.after_step is not None:
            self.after_step()

    def _obey(self, order: dict[str, Any]) -> None:
        from ryzen_lab_orders import ORDERS  # type: ignore[import-not-found]  # beside this file, on PYTHONPATH

        ORDERS[order["do"]](self, order)

    def _is_other(self, optimizer: Any) -> bool:
        """A second optimizer of the script: digested, but its steps are not counted."""
        return bool(self.optimizers) and self.optimizers[0] is not optimizer

    def _first_step(self, optimizer: Any) -> int:
        for state in optimizer.state.values():
            if isinstance(state, dict) and "step" in state:
                self.source = "optimizer"
                return int(state["step"]) - self.made_state
        if "ryzen_trainer" in sys.modules and (begun := _step_of_beat_page()) is not None:
            self.source = "ryzen_trainer"
            return begun + 1
        self.source = "count"
        return 1

    def finish(self) -> None:
        """At exit. A rank that ends by an exception has no final state."""
        if os.getpid() != self.pid or hasattr(sys, "last_value"):
            return
        digest, sharded = digest_of(self.optimizers)
        step = None if self.base is None else self.base + self.count
        self.channel.send("finished", step=step, digest=digest, sharded=sharded)
        if self.linger_s:
            time.sleep(self.linger_s)


def digest_of(optimizers: list[Any]) -> tuple[str | None, bool]:
    """SHA-256 of all parameters in the optimizers' own order, and whether they are this rank's shards only."""
    if not optimizers:
        return None, False
    torch = sys.modules["torch"]
    digest = hashlib.sha256()
    sharded = False
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                tensor = parameter.detach()
                if hasattr(tensor, "to_local"):
                    tensor, sharded = tensor.to_local(), True
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                raw = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(memoryview(raw.numpy()))
    return digest.hexdigest(), sharded


def _is_initialisation() -> bool:
    """torch.distributed.checkpoint makes an optimizer's state by a step of its own before it loads one."""
    frame = sys._getframe(1)
    for _ in range(_FRAMES_UP_MAX):
        if frame.f_code.co_name == "_init_optim_state":
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def _step_of_beat_page() -> int | None:
    """The step that an attached script says it is in (0 is the first)."""
    from ryzen_protos import beat_page, run_dir

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    path = run_dir.beat_page(run_dir.default_path(), os.environ["TORCHELASTIC_RUN_ID"], local_rank)
    try:
        reader = beat_page.BeatReader(path)
    except beat_page.BeatPageError:
        return None
    progress = reader.progress() if reader.header.pid == os.getpid() else None
    return progress.step if progress is not None else None


class _Finder:
    """Calls each of `installs` once, right after the module that it is for is loaded."""

    def __init__(self, installs: dict[str, Callable[[ModuleType], None]]) -> None:
        self._installs = installs

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the protocol of importlib
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        install = self._installs.pop(name, None)
        if install is None:
            return None
        spec = importlib.util.find_spec(name)  # comes here again, where it is no longer listed
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            install(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _is_rank() -> bool:
    """Helpers that a rank starts (data loader workers, compilers) inherit RANK, and MARK; a rank's parent has none."""
    if MARK in os.environ:
        return False
    try:
        with open(f"/proc/{os.getppid()}/environ", "rb") as file:  # noqa: PTH123 - no pathlib in every start
            return b"\0RANK=" not in b"\0" + file.read()
    except OSError:
        return False


def start() -> None:
    """Called by sitecustomize at the start of a rank's interpreter."""
    if not _is_rank():
        return
    environment = os.environ
    environment[MARK] = str(os.getpid())
    channel = Channel(environment["RYZEN_LAB_SOCKET"])
    channel.send(
        "born",
        pid=os.getpid(),
        rank=int(environment["RANK"]),
        local_rank=int(environment.get("LOCAL_RANK", "0")),
        world_size=int(environment.get("WORLD_SIZE", "1")),
        group_rank=int(environment.get("GROUP_RANK", "0")),
        generation=int(environment.get("RYZEN_GENERATION", "0")),
        node=environment.get("RYZEN_LAB_NODE", ""),
    )
    hook = Hook(channel)
    atexit.register(hook.finish)
    modules: dict[str, Callable[[ModuleType], None]] = {
        "torch.optim.optimizer": hook.install,
        "torch.distributed.distributed_c10d": hook.install_group,
    }
    for name in list(modules):
        if name in sys.modules:  # in a forked rank
            modules.pop(name)(sys.modules[name])
    sys.meta_path.insert(0, _Finder(modules))
