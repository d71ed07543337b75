"""What the nursery imports beforehand, and what it must never do: whatever makes a fork of it unsafe.

A fork copies one thread. Locks that other threads hold stay locked in the child for ever, and connections and devices
would be shared by all ranks. So the nursery is looked at before each fork, and where anything is there that should
not be, the rank starts cold.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import time

from ryzen_trainer.starting import quick_imports

MODULES = (
    "torch",
    "torch.distributed",
    "torch._dynamo",  # DDP's constructor and the first optimizer import it
    "torch.nn.parallel",
    "torch.optim.lr_scheduler",
    "torch.utils.data",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.distributed.checkpoint",
    "torch.distributed.elastic.multiprocessing.errors",
    "ryzen_trainer.attaching",
    "ryzen_trainer.checkpoint",
    "ryzen_trainer.settling",
)

DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/infiniband/")
"""A process that has one of these open has talked to a driver, which does not know its children."""

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class PreloadError(Exception):
    """A module could not be imported beforehand; the text names it."""


class Preloaded:
    """What has been imported, and how long it took."""

    def __init__(self, names: str) -> None:
        """`names`: of the user's own modules, with commas. Raises PreloadError."""
        began_s = time.monotonic()
        self.user_names = [each.strip() for each in names.split(",") if each.strip()]
        with quick_imports():
            for name in MODULES:
                _load(name)
            before = set(sys.modules)
            for name in self.user_names:
                _load(name)
        self._sources = _sources(set(sys.modules) - before, {each.partition(".")[0] for each in self.user_names})
        self.seconds = time.monotonic() - began_s

    def changed(self) -> str:
        """A file of the user's modules that is not what was loaded; "" where none is."""
        return next((path for path, mark in self._sources.items() if _mark(path) != mark), "")


def why_not_fork(own_sockets: int, own_children: set[int]) -> str:
    """What forbids a fork at this moment, "" where nothing does. `own_sockets`: as many are the nursery's business."""
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    if threads != 1:
        return f"the nursery has {threads} threads"
    opened = _opened()
    if device := next((each for each in opened if each.startswith(DEVICES)), ""):
        return f"a preloaded module has opened {device}"
    sockets = sum(each.startswith("socket:") for each in opened)
    if sockets > own_sockets:
        return f"preloaded modules have opened {sockets - own_sockets} sockets"
    if strangers := _children() - own_children:
        return f"a preloaded module has started process {min(strangers)}"
    return ""


def _load(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise PreloadError(f"{name!r} is no module's name: use names with commas between")
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - SystemExit included: the nursery must go on to say it
        text = " ".join(str(error).split())[:300]
        raise PreloadError(f"{name} cannot be imported beforehand: {type(error).__name__}: {text}") from None


def _sources(names: set[str], packages: set[str]) -> dict[str, tuple[int, int]]:
    """The files of those modules that belong to one of `packages`."""
    found = {}
    for name in names:
        path = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(path, str) and name.partition(".")[0] in packages:
            found[path] = _mark(path)
    return found


def _mark(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - a thousand of them before a fork
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _opened() -> list[str]:
    found = []
    for each in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            found.append(os.readlink(f"/proc/self/fd/{each}"))  # noqa: PTH115
        except OSError:
            continue  # the listing's own
    return found


def _children() -> set[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:  # noqa: PTH123
            return {int(each) for each in file.read().split()}
    except OSError:
        return set()  # a kernel without CONFIG_PROC_CHILDREN
