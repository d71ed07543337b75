"""The run directory: the one place on a node that trainer and agent share.

    RYZEN_RUN_DIR                     where it is set
    /run/ryzen/<uid>                  where /run/ryzen exists (an agent of root makes it, sticky like /tmp)
    /dev/shm/ryzen-<uid>              else

    agent.sock                        gRPC for the rendezvous handler and the command line
    nudge.sock                        datagrams from ranks: "look at my page now"; their content is ignored
    jobs/<run_id>/rank-<local_rank>.beat
    jobs/<run_id>/rank-<local_rank>.beat.previous
    jobs/<run_id>/rank-<local_rank>.sock             torch's worker server of the rank
    jobs/<run_id>/worker-<local_rank>                the forked rank behind a `ryzen-worker`: four numbers
    jobs/<run_id>/nursery-<torchrun's pid>-<key>.sock   of the process that forks ranks; .lock and .json beside it
    jobs/<run_id>/evidence/rank-<local_rank>.stack   what faulthandler wrote at STACK_SIGNAL
    jobs/<run_id>/evidence/rank-<local_rank>.groups  members of the rank's process groups, JSON

Private to its user (mode 0700): grpcio cannot tell who calls on a Unix socket, so the folder is the guard.

This module says it in strings and imports nothing that Python has not loaded at its start: `ryzen-worker` reads it at
each start of a rank, and has no time for pathlib or re. All others take the same as paths, from `run_dir`.
"""

from __future__ import annotations

import os
import stat

ENVIRONMENT = "RYZEN_RUN_DIR"
SYSTEM_RUN_DIR = "/run/ryzen"
SOCKET_PATH_BYTES_MAX = 107
"""sun_path of sockaddr_un has 108 bytes on Linux, the last one is the terminator (unix(7))."""

NAME_CHARACTERS_MAX = 64
_ALLOWED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


class RunDirError(ValueError):
    """The run directory cannot be used; the text says why and what to do."""


def check_name(kind: str, name: str) -> str:
    """`name` if it is fit for a run id or a node name, else RunDirError. "." and ".." are not."""
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not _ALLOWED.issuperset(name) or name in {".", ".."}:
        raise RunDirError(f"{kind} {name!r} is not allowed: use 1 to 64 of A-Z a-z 0-9 . _ -")
    return name


def default_path(uid: int | None = None) -> str:
    """Where the run directory of a user is; it need not exist yet."""
    user = os.getuid() if uid is None else uid
    if uid is None and (given := os.environ.get(ENVIRONMENT)):
        return given
    if os.path.isdir(SYSTEM_RUN_DIR):
        return f"{SYSTEM_RUN_DIR}/{user}"
    return f"/dev/shm/ryzen-{user}"  # noqa: S108 - private by mode and owner, checked below


def make(path: str) -> str:
    """Create the run directory, private, or check the one that stands there. Raises RunDirError."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as error:
        raise RunDirError(f"run directory {path}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise RunDirError(f"run directory {path} is not a directory")
    if status.st_uid != os.getuid():
        raise RunDirError(f"run directory {path} belongs to uid {status.st_uid}, not to you ({os.getuid()})")
    if status.st_mode & 0o077:
        raise RunDirError(f"run directory {path} is open to other users: chmod 700 {path}")
    agent_socket(path)
    return path


def agent_socket(run_dir: str) -> str:
    return _socket(f"{run_dir}/agent.sock")


def nudge_socket(run_dir: str) -> str:
    return _socket(f"{run_dir}/nudge.sock")


def job_dir(run_dir: str, run_id: str) -> str:
    return f"{run_dir}/jobs/{check_name('run id', run_id)}"


def beat_page(run_dir: str, run_id: str, local_rank: int) -> str:
    return f"{job_dir(run_dir, run_id)}/rank-{local_rank}.beat"


def worker_socket(run_dir: str, run_id: str, local_rank: int) -> str:
    """Raises RunDirError where its path is too long for a socket."""
    return _socket(f"{job_dir(run_dir, run_id)}/rank-{local_rank}.sock")


def stack_file(run_dir: str, run_id: str, local_rank: int) -> str:
    return f"{job_dir(run_dir, run_id)}/evidence/rank-{local_rank}.stack"


def groups_file(run_dir: str, run_id: str, local_rank: int) -> str:
    return f"{job_dir(run_dir, run_id)}/evidence/rank-{local_rank}.groups"


def nursery_socket(run_dir: str, run_id: str, torchrun_pid: int, key: str) -> str:
    """Raises RunDirError where its path is too long for a socket."""
    return _socket(f"{job_dir(run_dir, run_id)}/nursery-{torchrun_pid}-{key}.sock")


def worker_file(run_dir: str, run_id: str, local_rank: int) -> str:
    """Pid and start ticks of torchrun's child, then of the forked process that is the rank; gone with the rank."""
    return f"{job_dir(run_dir, run_id)}/worker-{local_rank}"


def _socket(path: str) -> str:
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise RunDirError(
            f"socket path {path} is longer than {SOCKET_PATH_BYTES_MAX} bytes: set {ENVIRONMENT} to a shorter folder"
        )
    return path
