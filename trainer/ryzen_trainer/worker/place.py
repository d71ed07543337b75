"""Where the nursery of a torchrun is reached, and how it comes that there is one of it.

    jobs/<run_id>/nursery-<torchrun's pid>-<key>.sock    its socket
    jobs/<run_id>/nursery-<torchrun's pid>-<key>.lock    locked (flock) for as long as it lives
    jobs/<run_id>/nursery-<torchrun's pid>-<key>.json    what it says of itself
    jobs/<run_id>/worker-<local_rank>                    which process is the rank behind which stub

The key stands for all that is read while modules load: a stub with other such variables gets another nursery. Of the
workers that torchrun starts at once the one that gets the lock founds the nursery, unless one that wants no rank has
done so before (founding.py). The lock passes to it with the descriptor, so it ends when the nursery does, however that
ends; whatever file it has left is then anybody's to replace.
"""

from __future__ import annotations

import _socket
import os
import sys
import time
import zlib

from ryzen_protos import run_names
from ryzen_trainer.worker.errors import Cold

PRELOAD = "RYZEN_PRELOAD"
"""Modules of the user's own to import beforehand, with commas between. They must not touch a GPU, start a thread or
a process, or connect to anything at their import; a nursery where one does starts no rank."""

COLD = "RYZEN_COLD"
"""Anything but "" or "0": every rank is a fresh interpreter."""

WARM, FORK, CONTEXT = "RYZEN_WARM", "fork", "context"
"""What is warm, and the words for it; see standby.py."""

READ_AT_LOAD = (
    "PYTHON", "LC_", "LANG", "TZ", "LD_", "GLIBC_", "MALLOC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_",
    "NUMEXPR_", "TORCH", "PYTORCH_", "CUDA_", "CUBLAS_", "HIP_", "TRITON_", "HF_", "TRANSFORMERS_", "HOME", "USER",
    "PATH", "TMP", "TEMP", "XDG_", PRELOAD,
)  # fmt: skip
"""How the names of variables begin that Python, the C library, torch and its companions read while they load."""

READ_LATER = ("TORCHELASTIC_", "TORCH_ELASTIC_", "TORCH_NCCL_", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_MAX_CONNECTIONS")
"""Of those the ones that are read when a process group is made or the first device is touched."""

RANKS_OWN = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_ERROR_FILE", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
"""Not for the nursery: it is no rank, and nobody who looks into /proc shall take it for one."""

FOUND_S_MAX = 10.0
"""Between the lock and the listening socket lie microseconds. Too low: a stopped founder sends its siblings cold."""

CLEAN_UP_TRIES = 100
_POLL_S = 0.005
_BACKLOG = 256


class Place:
    """One nursery's files. Raises Cold where there can be none."""

    def __init__(self, torchrun_pid: int, torchrun_ticks: int, first_path: str) -> None:
        run_id = os.environ.get("TORCHELASTIC_RUN_ID")
        local_rank = os.environ.get("LOCAL_RANK")
        if run_id is None or local_rank is None:
            raise Cold("torchrun has not started this process")
        self.key = _key(torchrun_pid, torchrun_ticks, first_path)
        try:
            folder = run_names.default_path()
            if run_names.ENVIRONMENT not in os.environ:  # a place that other users know too
                run_names.make(folder)
            self.folder = run_names.job_dir(folder, run_id)
            self.socket = run_names.nursery_socket(folder, run_id, torchrun_pid, f"{zlib.crc32(self.key):08x}")
            self.worker = run_names.worker_file(folder, run_id, int(local_rank))
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
        except ValueError as error:  # RunDirError is one
            raise Cold(str(error)) from None
        except OSError as error:
            raise Cold(f"{error.filename}: {error.strerror}") from None
        self.lock = _with_suffix(self.socket, ".lock")
        self.status = _with_suffix(self.socket, ".json")

    def connect(self) -> _socket.socket | None:
        """None where nobody listens. Raises Cold where it is somebody else."""
        channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            channel.connect(self.socket)
            owner = peer(channel)[1]
        except (FileNotFoundError, ConnectionError):
            channel.close()
            return None
        if owner != os.getuid():
            channel.close()
            raise Cold(f"{self.socket} belongs to uid {owner}")
        return channel

    def try_lock(self) -> int | None:
        """The lock's descriptor, None where somebody has it."""
        return _locked(self.lock)

    def listen(self) -> _socket.socket:
        """A fresh socket at the place; call with the lock."""
        self.sweep()
        try:
            os.unlink(self.socket)
        except FileNotFoundError:
            pass
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        listener.bind(self.socket)
        os.chmod(self.socket, 0o600)
        listener.listen(_BACKLOG)
        return listener

    def clean_up(self) -> None:
        """Remove what a nursery that has died without a word has left, unless there is another already."""
        for _ in range(CLEAN_UP_TRIES):
            lock = self.try_lock()
            if lock is not None:
                remove(self.worker, self.socket, self.status, self.lock)
                os.close(lock)
                return
            time.sleep(_POLL_S)  # a dying process closes its connections and its lock one after the other

    def sweep(self) -> None:
        """Remove what was left where nobody was there to do so: nursery and stubs were killed together."""
        there = os.listdir(self.folder)
        for path in (f"{self.folder}/{name}" for name in there if name.startswith("nursery-")):
            if path.endswith(".lock") and path != self.lock and (lock := _locked(path)) is not None:
                remove(_with_suffix(path, ".sock"), _with_suffix(path, ".json"), path)
                os.close(lock)
        for path in (f"{self.folder}/{name}" for name in there if name.startswith("worker-")):
            try:
                with open(path, "rb") as file:
                    _, _, pid, ticks = map(int, file.read().split())
                if not _is_there(pid, ticks):
                    remove(path)
            except (OSError, ValueError):
                pass


def reached_or_locked(place: Place) -> tuple[_socket.socket | None, int]:
    """A connection to the nursery; or no connection, and the lock: then found one."""
    deadline = time.monotonic() + FOUND_S_MAX
    while True:
        channel = place.connect()
        if channel is not None:
            return channel, -1
        lock = place.try_lock()
        if lock is not None:
            return None, lock
        if time.monotonic() > deadline:
            raise Cold(f"whoever holds {place.lock} does not listen")
        time.sleep(_POLL_S)


def _locked(path: str) -> int | None:
    import fcntl  # late: a stub that reaches a nursery locks nothing

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:  # nobody has removed it meanwhile
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _is_there(pid: int, ticks: int) -> bool:
    """Whether that process is alive; a zombie is not."""
    try:
        fields = _stat(pid)
    except OSError:
        return False
    return int(fields[19]) == ticks and fields[0] not in b"ZX"


def peer(channel: _socket.socket) -> tuple[int, int]:
    """Pid and uid of the process at the other end."""
    found = channel.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(found[:4], sys.byteorder), int.from_bytes(found[4:8], sys.byteorder)


def start_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat. Raises OSError where there is no such process."""
    return int(_stat(pid)[19])


def state(pid: int) -> bytes:
    """One letter, see proc(5). Raises OSError where there is no such process."""
    return _stat(pid)[0]


def _stat(pid: int) -> list[bytes]:
    """/proc/PID/stat from its third field, the state, on."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def remove(*paths: str | os.PathLike[str]) -> None:
    for each in paths:
        try:
            os.unlink(each)
        except OSError:
            pass


def _with_suffix(path: str, suffix: str) -> str:
    return os.path.splitext(path)[0] + suffix


def _key(torchrun_pid: int, torchrun_ticks: int, first_path: str) -> bytes:
    given = os.environ
    read = [f"{name}={given[name]}" for name in sorted(given) if name.startswith(READ_AT_LOAD)]
    kept = [each for each in read if not each.startswith(READ_LATER)]
    who = [str(torchrun_pid), str(torchrun_ticks), str(os.getuid()), sys.executable, sys.version]
    return os.fsencode("\0".join([*who, os.getcwd(), first_path, *kept]))
