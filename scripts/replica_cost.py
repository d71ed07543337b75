"""What a digest of the reference model's parameters costs, beside one of its training steps on the same machine.

    python scripts/replica_cost.py [--config configs/demo.yaml] [--repeats 200]

One process, one thread; steps and digests in turn, so that a loaded machine loads both. Medians and
minima, milliseconds, and the interval of checks at which the digest is 0.2 % of the step time by either.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from pathlib import Path
from time import perf_counter

import torch

from ryzen_trainer.corruption.digest import digest_on_device
from ryzen_trainer.examples.gpt.config import load
from ryzen_trainer.examples.gpt.model import Gpt, next_byte_loss

SHARE = 0.002


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of the replica check's digest.")
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"))
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    config = load(options.config, [])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Gpt(config.model)
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(0, 256, (config.training.micro_batch, config.model.sequence_length))
    parameters = list(model.parameters())
    steps, digests = [], []
    for _ in range(options.repeats):
        began = perf_counter()
        torch.autograd.backward(next_byte_loss(model(tokens), tokens))
        optimizer.step()
        optimizer.zero_grad()
        done = perf_counter()
        int(digest_on_device(parameters))
        digests.append(perf_counter() - done)
        steps.append(done - began)
    count = sum(each.numel() for each in parameters)
    lines = [f"{count} parameters in {len(parameters)} tensors, {options.repeats} repeats"]
    for name, of in (("median", statistics.median), ("least", min)):
        step, digest = of(steps), of(digests)
        every = f"{SHARE:.1%} from every {math.ceil(digest / step / SHARE)} steps on"
        lines.append(f"{name}: step {step * 1e3:.2f} ms, digest {digest * 1e3:.3f} ms: {every}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
