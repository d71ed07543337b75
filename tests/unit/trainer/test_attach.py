"""What a loop says through `attach()` is in its beat page, and nothing it says can stop the loop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import ryzen_trainer
from ryzen_protos import beat_batch, run_dir
from ryzen_protos.beat_page import BeatReader, Event, Measures, Progress
from ryzen_protos.beat_records import process_start_ticks
from ryzen_trainer import attaching
from ryzen_trainer.first_batch import first_batch
from ryzen_trainer.run import Run

TORCHRUN = {"TORCHELASTIC_RUN_ID": "job", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "RYZEN_GENERATION": "3"}


@pytest.fixture
def rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run as torchrun's rank 5 would have it, with the interpreter's hooks put back afterwards."""
    monkeypatch.setenv("RYZEN_RUN_DIR", str(tmp_path))
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(attaching.ATTACHED, "")
    monkeypatch.setattr(attaching, "_runs", {})
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("atexit.register", lambda *_function: None)
    run = ryzen_trainer.attach(role="trainer", device="GPU-1")
    assert run.attached
    return run


def page(folder: Path) -> BeatReader:
    return BeatReader(run_dir.beat_page(folder, "job", 1))


def now(folder: Path) -> Progress:
    seen = page(folder).progress()
    assert seen is not None
    return seen


def test_the_header_names_the_process_and_its_place(rank: Run, tmp_path: Path) -> None:
    header = page(tmp_path).header
    assert (header.run_id, header.generation, header.rank, header.local_rank, header.world_size) == ("job", 3, 5, 1, 8)
    assert (header.pid, header.start_ticks) == (os.getpid(), process_start_ticks(os.getpid()))
    assert header.pid_namespace == Path("/proc/self/ns/pid").stat().st_ino
    assert (header.device, header.role) == ("GPU-1", "trainer")


def test_tokens_alone_tell_flops_once_a_loop_has_said_what_one_is_worth(rank: Run, tmp_path: Path) -> None:
    rank.measures(flops_per_token=6e9, peak_flops=989.4e12)
    assert page(tmp_path).measures() == Measures(6e9, 0.0, 1.0, 989.4e12)
    rank.step(0)
    rank.report(tokens=10)
    rank.report(tokens=5)
    assert now(tmp_path).flops == 15 * 6e9
    rank.step(1)
    rank.report(tokens=1)
    assert now(tmp_path).flops == 6e9
    rank.report(flops=7.0)
    assert now(tmp_path).flops == 7.0


def test_a_loop_over_numbers_says_itself_what_it_reads_first(rank: Run, tmp_path: Path) -> None:
    rank.role = "dp0"
    batches = [(torch.arange(32) + step,) for step in range(3)]
    for step in rank.steps(range(3)):
        rank.batch_read(batches[step])
    found = beat_batch.unpack(page(tmp_path).region(beat_batch.AT, beat_batch.BYTES))
    assert found is not None
    assert found == first_batch(batches[0], "dp0"), "that of the first step"


def test_a_worth_that_cannot_be_is_none(rank: Run, tmp_path: Path) -> None:
    assert page(tmp_path).measures() is None
    rank.measures(flops_per_token=float("nan"), flops_per_step=-1.0, hardware_factor="x", peak_flops=None)  # type: ignore[arg-type]
    assert page(tmp_path).measures() is None


def test_the_sections_of_a_step_add_up_to_the_step(rank: Run, tmp_path: Path) -> None:
    for number in range(20):
        rank.step(number)
        for name in ("data", "forward", "backward", "optimizer"):
            with rank.section(name):
                sum(range(2000))
    rank.finish()
    steps = list(page(tmp_path).steps())
    assert [each.step for each in page(tmp_path).steps(last=5)] == [15, 16, 17, 18, 19]
    assert list(page(tmp_path).steps(last=20)) == steps
    for each in steps:
        assert sum(each.sections) == pytest.approx(each.duration_ns / 1e9, rel=0.02)


def test_nothing_is_recorded_before_the_first_step(rank: Run, tmp_path: Path) -> None:
    with rank.section("restore"):
        pass
    rank.report(loss=1.0)
    assert page(tmp_path).progress() is None


def test_a_step_is_done_when_the_next_one_begins(rank: Run, tmp_path: Path) -> None:
    rank.step(40)
    assert (now(tmp_path).step, now(tmp_path).steps_done) == (40, 0)
    rank.step(41)
    assert (now(tmp_path).step, now(tmp_path).steps_done) == (41, 1)
    rank.finish()
    assert (now(tmp_path).step, now(tmp_path).steps_done) == (41, 2)
    rank.finish()
    assert now(tmp_path).steps_done == 2


def test_steps_numbers_from_the_resumed_step_and_names_the_wait_for_data(rank: Run, tmp_path: Path) -> None:
    def items() -> Iterator[str]:
        for each in "ab":
            assert now(tmp_path).section == "data"
            yield each

    numbers = []
    for _ in rank.steps(items(), start=7):
        assert now(tmp_path).section == ""
        numbers.append(now(tmp_path).step)
    assert numbers == [7, 8]
    assert now(tmp_path).steps_done == 2
    rank.finish()
    assert now(tmp_path).steps_done == 2, "there was no third step"


def test_leaving_the_loop_early_still_counts_the_step(rank: Run, tmp_path: Path) -> None:
    for step in rank.steps(range(10)):
        if step == 3:
            break
    rank.finish()
    assert now(tmp_path).steps_done == 4


def test_sections_nest_and_are_left_by_an_exception(rank: Run, tmp_path: Path) -> None:
    rank.step(1)
    with rank.section("evaluation"):
        with rank.section("evaluation"), rank.section("forward"):
            assert now(tmp_path).section == "forward"
        with contextlib.suppress(KeyError), rank.section("data"):
            raise KeyError
        assert now(tmp_path).section == "evaluation"
    assert now(tmp_path).section == ""


def test_each_moment_of_a_step_is_charged_to_one_section(rank: Run, tmp_path: Path) -> None:
    rank.step(1)
    with rank.section("outer"), rank.section("inner"):
        pass
    rank.step(2)
    (done,) = page(tmp_path).steps()
    assert sum(done.sections) == pytest.approx(done.duration_ns * 1e-9, rel=1e-3)
    assert all(each > 0 for each in done.sections[:3])
    assert page(tmp_path).section_names()[:3] == ["", "outer", "inner"]


def test_a_report_is_kept_until_the_next_and_counts_add_up(rank: Run, tmp_path: Path) -> None:
    rank.step(1)
    rank.report(loss=2.5, tokens=100, samples=2, grad_norm=0.5, learning_rate=1e-3, flops=1e9)
    rank.step(2)
    rank.report(tokens=100, samples=2, loss=float("nan"))
    seen = now(tmp_path)
    assert (seen.tokens, seen.samples) == (200, 4)
    assert seen.loss is not None
    assert seen.loss != seen.loss
    assert (seen.grad_norm, seen.learning_rate) == (None, None)
    (done,) = page(tmp_path).steps()
    assert done.tokens == 100


def test_a_scalar_tensor_in_host_memory_is_read_and_any_other_passed_over(rank: Run, tmp_path: Path) -> None:
    import torch

    rank.step(1)
    rank.report(loss=torch.tensor(1.5, requires_grad=True), grad_norm=torch.empty((), device="meta"))
    assert (now(tmp_path).loss, now(tmp_path).grad_norm) == (1.5, None)
    rank.report(loss=torch.ones(3), grad_norm=torch.float32, learning_rate="fast")
    assert (now(tmp_path).loss, now(tmp_path).grad_norm, now(tmp_path).learning_rate) == (None, None, None)


def test_what_does_not_fit_in_the_page_does_not_stop_the_loop(rank: Run, tmp_path: Path) -> None:
    rank.step(1)
    rank.step(-1)
    with rank.section("forward"):
        rank.report(loss=1.0, tokens=-5)
        rank.report(tokens="many")  # type: ignore[arg-type]
    rank.step(1 << 70)
    rank.checkpoint_committed(-1)
    rank.step(2)
    assert now(tmp_path).step == 2
    assert now(tmp_path).tokens == 0


def test_a_page_that_was_closed_does_not_stop_the_loop(rank: Run) -> None:
    rank.step(1)
    rank._page.close()
    rank.step(2)
    with rank.section("never seen before"):
        rank.report(loss=1.0)
    rank.checkpoint_committed(1)
    rank.failed("ValueError", "text")
    rank.finish()


def test_a_committed_checkpoint_is_an_event_and_wakes_the_agent(rank: Run, tmp_path: Path) -> None:
    with agent_ear(tmp_path) as ear:
        rank.checkpoint_committed(20)
        ear.recv(16)
    (event,) = page(tmp_path).events()
    assert (event.kind, event.step) == (Event.CHECKPOINT, 20)


def test_an_agent_that_does_not_listen_is_not_waited_for(rank: Run, tmp_path: Path) -> None:
    with agent_ear(tmp_path):
        for step in range(3000):  # far more datagrams than the queue of a Unix socket holds
            rank.checkpoint_committed(step)


@pytest.mark.parametrize("missing", ["TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE"])
def test_outside_torchrun_every_call_does_nothing(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZEN_RUN_DIR", str(tmp_path / "run"))
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    monkeypatch.setattr(attaching, "_runs", {})
    hook = sys.excepthook
    run = ryzen_trainer.attach()
    use_everything(run)
    assert not run.attached
    assert sys.excepthook is hook
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [("TORCHELASTIC_RUN_ID", "../up"), ("RANK", "first"), ("LOCAL_RANK", "-1")])
def test_an_environment_that_makes_no_sense_is_as_none(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZEN_RUN_DIR", str(tmp_path))
    for each, right in {**TORCHRUN, name: value}.items():
        monkeypatch.setenv(each, right)
    run = ryzen_trainer.attach()
    use_everything(run)
    assert not run.attached


def test_a_run_directory_that_cannot_be_used_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RYZEN_RUN_DIR", str(tmp_path / "file"))
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    run = ryzen_trainer.attach()
    use_everything(run)
    assert not run.attached


def test_an_uncaught_exception_is_stamped_and_printed_and_wakes_the_agent(tmp_path: Path) -> None:
    script = "import ryzen_trainer\nrun = ryzen_trainer.attach()\nrun.step(3)\nraise ValueError('no such\\nshard')\n"
    with agent_ear(tmp_path) as ear:
        ended = in_rank(script, tmp_path)
        ear.recv(16)
        ear.recv(16)
    assert ended.returncode == 1
    assert "ValueError: no such\nshard" in ended.stderr
    failure = page(tmp_path).failure()
    assert failure is not None
    assert (failure.type, failure.message) == ("ValueError", "no such shard")
    assert now(tmp_path).steps_done == 0, "the step that failed is not done"


def test_the_stamp_stands_while_the_former_hook_still_runs(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, ryzen_trainer\n"
        "sys.excepthook = lambda *what: os.kill(os.getpid(), signal.SIGKILL)\n"
        "ryzen_trainer.attach()\n"
        "raise MemoryError('of the host')\n"
    )
    assert in_rank(script, tmp_path).returncode == -signal.SIGKILL
    failure = page(tmp_path).failure()
    assert failure is not None
    assert failure.type == "MemoryError"


def test_an_exception_that_cannot_be_printed_is_stamped_all_the_same(tmp_path: Path) -> None:
    script = (
        "import ryzen_trainer\n"
        "class Bad(Exception):\n"
        "    def __str__(self): raise KeyError\n"
        "ryzen_trainer.attach()\n"
        "raise Bad\n"
    )
    in_rank(script, tmp_path)
    failure = page(tmp_path).failure()
    assert failure is not None
    assert failure.type == "Bad"


def test_a_second_call_gives_the_same_run(rank: Run) -> None:
    assert ryzen_trainer.attach() is rank


def test_a_forked_child_says_nothing_in_its_parents_name(rank: Run, tmp_path: Path) -> None:
    rank.step(5)
    child = os.fork()
    if child == 0:
        try:
            rank.step(6)
            rank.report(loss=1.0)
            rank.checkpoint_committed(6)
            sys.excepthook(ValueError, ValueError("of the child"), None)
            use_everything(ryzen_trainer.attach())
            rank.finish()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert now(tmp_path).step == 5
    assert page(tmp_path).failure() is None
    assert page(tmp_path).events() == []
    assert page(tmp_path).header.pid == os.getpid()
    rank.step(6)
    assert now(tmp_path).step == 6


def test_a_spawned_worker_that_runs_the_script_again_takes_no_page(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, ryzen_trainer\n"
        "ryzen_trainer.attach().step(7)\n"
        "again = 'import ryzen_trainer; print(ryzen_trainer.attach().attached)'\n"
        "subprocess.run([sys.executable, '-c', again])\n"
    )
    assert in_rank(script, tmp_path).stdout == "False\n"
    assert now(tmp_path).step == 7


def test_the_run_directory_made_by_a_rank_is_private(tmp_path: Path) -> None:
    in_rank("import ryzen_trainer\nryzen_trainer.attach()\n", tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    run_dir.make(tmp_path / "new")


def test_the_last_step_is_done_at_a_normal_exit(tmp_path: Path) -> None:
    in_rank("import ryzen_trainer\nrun = ryzen_trainer.attach()\nrun.step(0)\nrun.step(1)\n", tmp_path)
    assert now(tmp_path).steps_done == 2
    assert page(tmp_path).failure() is None


def test_the_import_brings_no_torch_and_no_grpc(tmp_path: Path) -> None:
    script = (
        "import sys, ryzen_trainer\n"
        "ryzen_trainer.attach()\n"
        "print(sorted({'torch', 'grpc', 'numpy', 'pydantic'} & set(sys.modules)))\n"
    )
    assert in_rank(script, tmp_path).stdout == "[]\n"


def test_the_public_names_are_there() -> None:
    assert all(hasattr(ryzen_trainer, name) for name in ryzen_trainer.__all__)


def use_everything(run: Run) -> None:
    run.step(1)
    with run.section("forward"):
        run.report(loss=1.0, tokens=1, samples=1, grad_norm=1.0, learning_rate=1.0, flops=1.0)
    assert list(run.steps("ab", start=3)) == ["a", "b"]
    run.checkpoint_committed(1)
    run.computes_on("GPU-1", "0000:01:00")
    run.failed("ValueError", "text")
    run.finish()


def agent_ear(folder: Path) -> socket.socket:
    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.bind(str(run_dir.nudge_socket(folder)))
    ear.settimeout(10)
    return ear


def in_rank(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **TORCHRUN, "RYZEN_RUN_DIR": str(folder), attaching.ATTACHED: ""}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
