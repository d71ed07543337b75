"""What the device of this rank could do: the data sheet for a GPU, a measured matrix product for a CPU.

Nobody states the peak of "one thread of this virtual machine", so that is measured: once in the life of a node's run
directory, in a fraction of a second, only when asked for. It says what the machine gave at that moment: a busy
machine has a lower "peak", and the MFU of a CPU is good for comparing one hour with the next, not for publication.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from functools import cache
from pathlib import Path

import torch

from ryzen_protos import run_dir
from ryzen_trainer.throughput.peaks import peak_flops

_SIDE = 512
_MEASURE_S = 0.2
"""At most so long, and a product more: 512 x 512 takes a few milliseconds on a slow core."""


def peak_of(device: torch.device, dtype: torch.dtype) -> float | None:
    """Peak FLOP/s of this rank's device for products of `dtype`; None where it is not known.

    float32 on a GPU means TF32 where torch is allowed to use it.
    """
    name = str(dtype).removeprefix("torch.")
    if device.type == "cpu":
        return measured_cpu_peak(name, torch.get_num_threads())
    if device.type != "cuda":
        return None
    if name == "float32" and torch.get_float32_matmul_precision() != "highest":
        name = "tf32"
    if name.startswith("float8"):
        name = "float8"
    try:
        return peak_flops(torch.cuda.get_device_name(device), name)
    except ValueError:  # a type without a column of its own
        return None


@cache
def measured_cpu_peak(dtype: str, threads: int) -> float:
    """FLOP/s of the fastest product that `threads` threads of this machine managed; kept for the ranks after."""
    kept = run_dir.default_path() / f"cpu-peak-{os.getuid()}-{dtype}-{threads}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = float(json.loads(kept.read_text()))
        if math.isfinite(known) and known > 0:
            return known
    found = _measure(dtype)
    with contextlib.suppress(OSError):
        _keep(kept, found)
    return found


def _measure(dtype: str) -> float:
    one = torch.ones((_SIDE, _SIDE), dtype=getattr(torch, dtype))
    best_s, end_s = math.inf, time.perf_counter() + _MEASURE_S
    with torch.no_grad():
        while True:
            began_s = time.perf_counter()
            one @ one
            now_s = time.perf_counter()
            best_s = min(best_s, now_s - began_s)
            if now_s > end_s:
                return 2.0 * _SIDE**3 / best_s


def _keep(path: Path, flops: float) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(flops))
    aside.replace(path)
