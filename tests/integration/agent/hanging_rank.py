"""A real torch rank that steps twenty times and then hangs, or seems to, as HANG says; MARKED ranks do, others wait.

Arguments by environment: HANG (see `HANGS`), MARKED (a rank, default 0), FOLDER for the store's file. Rank by rank
the default group has counted the same collectives, but for HANG=skip, where the marked rank leaves one out.
"""

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import ryzen_trainer

FOLDER = Path(os.environ["FOLDER"])
RANK = int(os.environ["RANK"])
STEPS = 20
FOR_EVER_S = 10_000.0


def hold_the_lock() -> None:
    ctypes.PyDLL(None).pause()


def spin_in_c() -> None:
    ctypes.PyDLL(os.environ["SPIN_LIBRARY"]).spin()


def lock_twice() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def hang_in_a_hook(model: torch.nn.Module) -> None:
    if int(os.environ.get("MARKED", "0")) == RANK:
        next(model.parameters()).register_hook(lambda _gradient: time.sleep(FOR_EVER_S))
    model(torch.ones(2, 4)).sum().backward()


class StuckAfterEight(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> torch.Tensor:
        if index >= 8:
            time.sleep(FOR_EVER_S)
        return torch.ones(3)


def wait_for_a_worker() -> None:
    for _batch in DataLoader(StuckAfterEight(), batch_size=4, num_workers=2):
        pass


def evaluate() -> None:
    total = torch.ones(100, 100)
    while True:
        total = (total @ total).clamp(-1, 1)


def read_a_huge_text() -> None:
    text = "[" + ",".join(["1.25"] * 3_000_000) + "]"
    while True:
        json.loads(text)


def poll_a_file() -> None:
    while not (FOLDER / "never").exists():
        time.sleep(0.3)


def save_in_a_thread() -> None:
    def save() -> None:
        with (FOLDER / "saved").open("wb") as file:
            while True:
                file.write(b"x" * 65536)
                file.seek(0)
                time.sleep(0.1)

    thread = threading.Thread(target=save)
    thread.start()
    thread.join()


def wait_for_a_child() -> None:
    subprocess.run([sys.executable, "-c", "while True: pass"], check=False)


HANGS: dict[str, Callable[[], None]] = {
    "sleep": lambda: time.sleep(FOR_EVER_S),
    "lock": lock_twice,
    "gil": hold_the_lock,
    "spin": spin_in_c,
    "loader": wait_for_a_worker,
    "evaluation": evaluate,
    "json": read_a_huge_text,
    "poll": poll_a_file,
    "save": save_in_a_thread,
    "child": wait_for_a_child,
}


def main() -> None:
    run = ryzen_trainer.attach()
    dist.init_process_group(
        "gloo", init_method=f"file://{FOLDER}/store", rank=RANK, world_size=int(os.environ["WORLD_SIZE"])
    )
    hang, marked = os.environ["HANG"], int(os.environ.get("MARKED", "0")) == RANK
    model = DistributedDataParallel(torch.nn.Linear(4, 4)) if hang == "hook" else torch.nn.Identity()
    for step in range(STEPS):
        run.step(step)
        if not (hang == "skip" and marked and step == 9):
            dist.all_reduce(torch.ones(5), async_op=hang == "skip")
    run.step(STEPS)
    if hang == "hook":
        hang_in_a_hook(model)
    elif marked and hang in HANGS:
        HANGS[hang]()
    elif hang == "skip":
        time.sleep(FOR_EVER_S)
    else:
        dist.all_reduce(torch.ones(7))


if __name__ == "__main__":
    main()
