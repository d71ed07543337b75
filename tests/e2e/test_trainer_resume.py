"""Real torchruns of the reference trainer: whatever ends a run, it goes on as if nothing had been."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatPageError, BeatReader

pytestmark = [pytest.mark.timeout(280)]

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"
LAST = re.compile(r"^final step (\d+) sha256 ([0-9a-f]{64})$", re.MULTILINE)
START_S = 90.0


class Torchrun:
    """One torchrun on this machine, with a run directory of its own."""

    def __init__(self, folder: Path, ranks: int, *settings: str, max_restarts: int = 0) -> None:
        self.run_dir = folder / "run"
        self.log = folder / "log"
        overrides = [part for each in settings for part in ("--set", each)]
        environment = {
            **os.environ,
            "RYZEN_RUN_DIR": str(self.run_dir),
            "OMP_NUM_THREADS": "1",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # c10d's shared store makes restarts fail on stale addresses
        }
        command = [
            *(
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--rdzv-backend=c10d",
                "--rdzv-endpoint=localhost:0",
                "--rdzv-id=job",
            ),
            *(f"--nproc-per-node={ranks}", f"--max-restarts={max_restarts}", "--monitor-interval=0.1"),
            *("-m", "ryzen_trainer.examples.gpt", "--config", str(DEMO), *overrides),
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self) -> str:
        self.process.wait(timeout=240)
        return self.log.read_text()

    def wait_for_step(self, local_rank: int, step: int, unlike_pid: int = 0) -> int:
        """The pid of a rank that has begun `step`, other than one known before."""
        page = run_dir.beat_page(self.run_dir, "job", local_rank)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                reader = BeatReader(page, owner_uid=os.getuid())
            except BeatPageError:
                time.sleep(0.02)
                continue
            seen, pid = reader.progress(), reader.header.pid
            reader.close()
            if seen is not None and seen.step >= step and pid != unlike_pid:
                return pid
            time.sleep(0.002)
        raise AssertionError(f"rank {local_rank} did not come to step {step}: {self.log.read_text()}")

    def end(self) -> None:
        if self.process.poll() is None:
            for pid in (*children_of(self.process.pid), self.process.pid):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


Start = Callable[..., Torchrun]


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Torchrun] = []

    def one(name: str, ranks: int, *settings: str, max_restarts: int = 0) -> Torchrun:
        (tmp_path / name).mkdir()
        started.append(Torchrun(tmp_path / name, ranks, *settings, max_restarts=max_restarts))
        return started[-1]

    yield one
    for each in started:
        each.end()


def digest(log: str) -> tuple[int, str]:
    found = LAST.search(log)
    assert found is not None, log
    return int(found[1]), found[2]


@pytest.mark.long
def test_ranks_killed_at_random_steps_leave_no_trace_in_the_parameters(start: Start, tmp_path: Path) -> None:
    """Four ranks, for the order of additions only shows with more than two."""
    settings = ("training.steps=40", "training.checkpoint.every_steps=6")
    undisturbed = start("undisturbed", 4, *settings, f"training.checkpoint.folder={tmp_path}/a")
    expected = digest(undisturbed.wait())
    chance = random.Random(os.urandom(8))
    at_steps = (chance.randint(1, 14), chance.randint(20, 34))
    victims = (chance.randrange(4), chance.randrange(4))
    disturbed = start("disturbed", 4, *settings, f"training.checkpoint.folder={tmp_path}/b", max_restarts=8)
    killed = 0
    for rank, step in zip(victims, at_steps, strict=True):
        killed = disturbed.wait_for_step(rank, step, unlike_pid=killed)
        time.sleep(chance.random() * 0.08)  # somewhere within the step
        os.kill(killed, signal.SIGKILL)
    log = disturbed.wait()
    assert len(re.findall("^(resumes|starts) at step", log, re.MULTILINE)) >= 3, log
    assert digest(log) == expected, f"killed ranks {victims} at steps {at_steps}: {log}"


def test_a_sharded_training_resumes_exactly_and_on_fewer_ranks(start: Start, tmp_path: Path) -> None:
    sharded = ("distributed.strategy=fsdp2", "training.checkpoint.every_steps=4")
    whole, half = tmp_path / "a", tmp_path / "b"
    expected = digest(start("whole", 4, *sharded, f"training.checkpoint.folder={whole}", "training.steps=8").wait())
    for each in whole.glob("step-00000004-*"):
        shutil.copytree(each, half / each.name)
    resumed = (*sharded, f"training.checkpoint.folder={half}")
    log = start("resumed", 4, *resumed, "training.steps=8").wait()
    assert "resumes at step 4" in log
    assert digest(log) == expected
    log = start("fewer", 2, *resumed, "training.steps=12").wait()
    assert re.search(r"resumes at step 8 from \S+ \(of 4 ranks\) on 2 ranks, accumulating 4", log), log
    assert digest(log)[0] == 12


EVERYTHING = (
    *("training.micro_batch=2", "training.schedule=cosine", "training.warmup_steps=3", "training.evaluate_every=2"),
    *("training.replica_check_every=1", "hardware.precision=bfloat16", "hardware.activation_checkpointing=true"),
    *("training.steps=8", "training.checkpoint.every_steps=4"),
)


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_with_everything_on_a_training_resumes_exactly_and_its_sections_are_its_steps(
    start: Start, tmp_path: Path, strategy: str
) -> None:
    settings = (*EVERYTHING, f"distributed.strategy={strategy}")
    whole, half = tmp_path / "a", tmp_path / "b"
    undisturbed = start("whole", 2, *settings, f"training.checkpoint.folder={whole}")
    log = undisturbed.wait()
    expected = digest(log)
    assert "on 2 ranks, accumulating 4" in log
    assert len(re.findall(r"^step \d loss on other text [3-6]\.\d{4}$", log, re.MULTILINE)) == 4
    assert_sections_are_steps(undisturbed)
    for each in whole.glob("step-00000004-*"):
        shutil.copytree(each, half / each.name)
    log = start("resumed", 2, *settings, f"training.checkpoint.folder={half}").wait()
    assert "resumes at step 4" in log
    assert digest(log) == expected
    unevaluated = start(
        "unevaluated", 2, *settings, "training.evaluate_every=0", f"training.checkpoint.folder={tmp_path}/c"
    )
    assert digest(unevaluated.wait()) == expected, "an evaluation leaves no trace"


def assert_sections_are_steps(run: Torchrun) -> None:
    """Within 2 % in all, and hardly any of it in no section; the first step has imports in it."""
    reader = BeatReader(run_dir.beat_page(run.run_dir, "job", 0))
    names, steps = reader.section_names(), list(reader.steps())[1:]
    spent = {name: sum(each.sections[index] for each in steps) for index, name in enumerate(names[:8])}
    whole_s = sum(each.duration_ns for each in steps) / 1e9
    assert {"data", "forward", "backward", "optimizer", "check", "checkpoint", "evaluation"} <= set(spent)
    assert sum(spent.values()) == pytest.approx(whole_s, rel=0.02)
    assert spent[""] < 0.1 * whole_s


def test_a_world_over_which_the_batch_does_not_divide_is_refused_in_one_line(start: Start, tmp_path: Path) -> None:
    run = start("three", 3, f"training.checkpoint.folder={tmp_path}/a")
    log = run.wait()
    assert run.process.returncode != 0
    lines = [line for line in log.splitlines() if line.startswith("global batch")]
    assert lines == [
        "global batch 16 does not divide by 3 ranks: "
        "set training.global_batch to a multiple of every world size that may occur, or allow fewer"
    ]
    assert "Error:" not in log.split("ChildFailedError")[0], "no traceback of ours"
    failure = BeatReader(run_dir.beat_page(run.run_dir, "job", 0)).failure()
    assert failure is not None
    assert failure.type == "BatchError"


@pytest.mark.gpu
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_training_on_a_gpu_resumes_exactly(start: Start, tmp_path: Path, strategy: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    settings = (
        *("distributed.backend=nccl", "hardware.device=cuda", "hardware.precision=bfloat16"),
        *(f"distributed.strategy={strategy}", "training.checkpoint.every_steps=5"),
    )
    whole, half = tmp_path / "a", tmp_path / "b"
    expected = digest(start("whole", 1, *settings, f"training.checkpoint.folder={whole}", "training.steps=10").wait())
    for each in whole.glob("step-00000005-*"):
        shutil.copytree(each, half / each.name)
    log = start("resumed", 1, *settings, f"training.checkpoint.folder={half}", "training.steps=10").wait()
    assert "resumes at step 5" in log
    assert digest(log) == expected
