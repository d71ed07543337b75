"""`attach()`: the beat page of this rank, from torchrun's environment.

Only the process that torchrun started writes its page. A child of it (a data loader's worker, forked or spawned)
inherits the environment and perhaps the page: a fork closes its copy, and whoever finds that an ancestor has
attached already gets a run that does nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from ryzen_protos import run_dir
from ryzen_protos.beat_page import BeatWriter, Header
from ryzen_protos.beat_records import process_start_ticks
from ryzen_trainer import evidence, gpu
from ryzen_trainer.detached import DetachedRun
from ryzen_trainer.failure import Nudge, stamp_uncaught
from ryzen_trainer.leaving import let_gloo_finish_at_exit
from ryzen_trainer.run import RESUME_AT_MOST, Run, resume_at_most

ATTACHED = "RYZEN_ATTACHED_PID"
"""Set by `attach()` for the children: the process that writes the page."""

DEVICE_LOOKS = 3
"""Steps at whose begin the rank's GPU is looked for; after that it computes on none."""

when_asked: list[Callable[[], None]] = []
"""Called once, when the script attaches by itself: whoever has spoken for it falls silent (`ryzen_trainer.auto`)."""

_runs: dict[int, Run] = {}  # by process id: one, and after a fork the parent's beside it


def attach(role: str = "", device: str = "") -> Run:
    """The run of this rank; one that does nothing where no agent could see it. Each call returns the same.

    `device` is what the rank computes on (GPU UUID or PCI address), `role` its place in the parallel layout:
    "dp3 tp1" for the third after the first of the data-parallel ones.
    Chains `sys.excepthook`, so that an uncaught exception is known before the interpreter finalises (for a
    process with torch that takes a second). Never raises.
    """
    while when_asked:
        when_asked.pop()()
    spoken_for = _runs.get(os.getpid())
    if spoken_for is not None:
        spoken_for.role = role
        if device:
            spoken_for.computes_on(device)
    return run_of_this_process(role, device)


def run_of_this_process(role: str = "", device: str = "") -> Run:
    """As `attach()`, but not in the name of the script."""
    found = _runs.get(os.getpid())
    if found is None:
        try:
            found = _attached(role, device)
        except (
            OSError,
            KeyError,
            ValueError,
            TypeError,
        ):  # no torchrun, no run directory, no room, an unfit id or text
            return DetachedRun()
        _runs[os.getpid()] = found
    return found


def _attached(role: str, device: str) -> Run:
    writer = os.environ.get(ATTACHED, "")
    if writer and writer != str(os.getpid()):
        raise ValueError(f"process {writer} writes the page of this rank")
    header = _header(role, device)
    folder = run_dir.default_path()
    if run_dir.ENVIRONMENT not in os.environ:  # a place that other users know too
        run_dir.make(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    page = run_dir.beat_page(folder, header.run_id, header.local_rank)
    page.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    nudge = Nudge(run_dir.nudge_socket(folder))
    groups = run_dir.groups_file(folder, header.run_id, header.local_rank)
    groups.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    groups.unlink(missing_ok=True)  # of the generation before
    collectives = evidence.Collectives(groups)
    run = Run(BeatWriter(page, header), nudge, resume_at_most(os.environ.get(RESUME_AT_MOST, "")), collectives)
    run.role = role
    os.environ[ATTACHED] = str(os.getpid())
    stamp_uncaught(run.failed)
    let_gloo_finish_at_exit()
    atexit.register(run.finish)
    os.register_at_fork(after_in_child=run.detach)
    nudge.send()
    evidence.write_stack_on_signal(run_dir.stack_file(folder, header.run_id, header.local_rank))
    _serve_evidence(run, folder, header)
    return run


def _serve_evidence(run: Run, folder: Path, header: Header) -> None:
    """Now where torch is loaded, else when the first step begins. A path too long for a socket is done without."""
    path: Path | None = None
    with contextlib.suppress(run_dir.RunDirError):
        path = run_dir.worker_socket(folder, header.run_id, header.local_rank)
    if path is not None and evidence.torch_is_loaded():
        evidence.serve(path)
        path = None
    run.at_next_step = lambda: _first_step(run, path, known=bool(header.device))


def _first_step(run: Run, worker_socket: Path | None, known: bool) -> None:
    if worker_socket is not None:
        evidence.serve(worker_socket)
    if not known:
        _look_for_device(run, DEVICE_LOOKS)


def _look_for_device(run: Run, looks: int) -> None:
    """At the next steps too, where nothing lies on a GPU yet: a script may move its model there in its first one."""
    found = gpu.in_use()
    if found is not None:
        run.computes_on(*found)
        _time_on_device(run)
    elif looks > 1:
        run.at_next_step = lambda: _look_for_device(run, looks - 1)


def _time_on_device(run: Run) -> None:
    """Only where torch's current device is the one that is used: an event on another would wake that up."""
    from ryzen_trainer.throughput.device_clock import DeviceClock  # late: it takes torch, which is there by now

    if gpu.current_is_used():
        run.device_clock = DeviceClock()


def _header(role: str, device: str) -> Header:
    given = os.environ
    if min(int(given[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")) < 0:
        raise ValueError("a rank below zero")
    return Header(
        run_id=given["TORCHELASTIC_RUN_ID"],
        generation=int(given.get("RYZEN_GENERATION", "0")),
        rank=int(given["RANK"]),
        local_rank=int(given["LOCAL_RANK"]),
        world_size=int(given["WORLD_SIZE"]),
        pid=os.getpid(),
        start_ticks=process_start_ticks(os.getpid()),
        pid_namespace=Path("/proc/self/ns/pid").stat().st_ino,
        device=device,
        role=role,
    )
