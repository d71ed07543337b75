"""The run directory as paths: the one place on a node that trainer and agent share. What lies where in it, and who may
look into it, is said in `run_names`.
"""

from __future__ import annotations

import signal
from pathlib import Path

from ryzen_protos import run_names
from ryzen_protos.run_names import ENVIRONMENT, SOCKET_PATH_BYTES_MAX, RunDirError, check_name

__all__ = ["ENVIRONMENT", "SOCKET_PATH_BYTES_MAX", "RunDirError", "check_name"]

SYSTEM_RUN_DIR = Path(run_names.SYSTEM_RUN_DIR)

STACK_SIGNAL = signal.SIGRTMIN + 11
"""Makes a rank write its main thread's stack. High among the real-time signals: glibc takes the first two, debuggers
and profilers tend to take the next."""


def default_path(uid: int | None = None) -> Path:
    """Where the run directory of a user is; it need not exist yet."""
    return Path(run_names.default_path(uid))


def make(path: Path) -> Path:
    """Create the run directory, private, or check the one that stands there. Raises RunDirError."""
    run_names.make(str(path))
    return path


def agent_socket(run_dir: Path) -> Path:
    return Path(run_names.agent_socket(str(run_dir)))


def nudge_socket(run_dir: Path) -> Path:
    return Path(run_names.nudge_socket(str(run_dir)))


def job_dir(run_dir: Path, run_id: str) -> Path:
    return Path(run_names.job_dir(str(run_dir), run_id))


def beat_page(run_dir: Path, run_id: str, local_rank: int) -> Path:
    return Path(run_names.beat_page(str(run_dir), run_id, local_rank))


def worker_socket(run_dir: Path, run_id: str, local_rank: int) -> Path:
    """Raises RunDirError where its path is too long for a socket."""
    return Path(run_names.worker_socket(str(run_dir), run_id, local_rank))


def stack_file(run_dir: Path, run_id: str, local_rank: int) -> Path:
    return Path(run_names.stack_file(str(run_dir), run_id, local_rank))


def groups_file(run_dir: Path, run_id: str, local_rank: int) -> Path:
    return Path(run_names.groups_file(str(run_dir), run_id, local_rank))


def nursery_socket(run_dir: Path, run_id: str, torchrun_pid: int, key: str) -> Path:
    """Raises RunDirError where its path is too long for a socket."""
    return Path(run_names.nursery_socket(str(run_dir), run_id, torchrun_pid, key))


def worker_file(run_dir: Path, run_id: str, local_rank: int) -> Path:
    """Pid and start ticks of torchrun's child, then of the forked process that is the rank; gone with the rank."""
    return Path(run_names.worker_file(str(run_dir), run_id, local_rank))
