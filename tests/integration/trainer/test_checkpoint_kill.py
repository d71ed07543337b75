"""A process killed at any moment of saving leaves its newest committed checkpoint, whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

SAVES_WITHOUT_REST = """
import sys, torch
from ryzen_trainer.checkpoint import Checkpointer
torch.set_num_threads(1)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.AdamW(model.parameters())
say = lambda step: print(step, flush=True)
checkpointer = Checkpointer(sys.argv[1], model, optimizer, global_batch=1, keep_last=2, committed=say)
found = checkpointer.restore()
step = found.step if found else 0
if found:
    assert torch.equal(model.weight, torch.full((8, 8), float(step))), "the values are those of that step"
for step in range(step + 1, step + 100_000):
    model.zero_grad()
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    torch.nn.init.constant_(model.weight, step)
    checkpointer.save(step, step)
"""


def test_no_kill_loses_a_committed_checkpoint(tmp_path: Path) -> None:
    chance = random.Random(os.urandom(8))
    newest = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVES_WITHOUT_REST, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = int(process.stdout.readline() or -1)
        assert first >= newest, "what was committed before the kill is what is restored"
        time.sleep(0.3 + chance.random() * 0.5)
        assert process.poll() is None, "it is still at work"
        process.send_signal(signal.SIGKILL)
        process.wait()
        newest = max(first, *(int(line) for line in process.stdout if line.endswith("\n")))
        process.stdout.close()
    assert newest > 3, "it saved between the kills"
