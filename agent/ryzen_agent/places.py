"""The run directories that one agent serves.

An agent of an ordinary user serves one: its own. An agent of root serves every user's folder below
/run/ryzen, which it makes, world-writable and sticky like /tmp; what the agent itself remembers (spool,
records, lock) is then kept in root's state folder, because a user's folder is hostile input to it.

Such a folder's owner could exchange it for a link between two looks. Root therefore opens the folder once,
checks what it has opened, and reaches everything in it through that descriptor.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ryzen_protos import run_dir

STATE_FOLDER = Path("/var/lib/ryzen-agent")


@dataclass(frozen=True, slots=True)
class Place:
    """One run directory. `path` is what its user knows, `inner` the same folder as the agent reaches it."""

    path: Path
    inner: Path
    uid: int
    inode: int
    descriptor: int = -1

    def still_there(self) -> bool:
        try:
            return self.path.lstat().st_ino == self.inode
        except OSError:
            return False

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Own:
    """The run directory of the agent's own user, or one that was named."""

    path: Path
    may_grow: ClassVar[bool] = False

    def __str__(self) -> str:
        return str(self.path)

    @property
    def state_folder(self) -> Path:
        return self.path

    def find(self) -> list[Place]:
        """Made again where somebody has removed it. Raises RunDirError."""
        path = run_dir.make(self.path)
        return [Place(path, path, os.getuid(), path.stat().st_ino)]


@dataclass(frozen=True, slots=True)
class EveryUsers:
    """All folders below `root` that are their user's own and private."""

    root: Path = run_dir.SYSTEM_RUN_DIR
    may_grow: ClassVar[bool] = True
    state_folder: Path = STATE_FOLDER

    def __str__(self) -> str:
        return f"{self.root}/*"

    def find(self) -> list[Place]:
        """Folders that are not as they must be are left out."""
        return [place for each in self.root.iterdir() if (place := open_place(each)) is not None]


def open_place(path: Path) -> Place | None:
    """A user's folder, named by the uid, owned by that user and closed to others; None for anything else."""
    if not path.name.isdigit():
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if status.st_uid != int(path.name) or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(descriptor)
        return None
    return Place(path, Path(f"/proc/self/fd/{descriptor}"), status.st_uid, status.st_ino, descriptor)


def make_shared(path: Path) -> None:
    """World-writable and sticky, so that each user's folder below it stays that user's. Raises RunDirError."""
    try:
        path.mkdir(exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) != 0o1777:
            path.chmod(0o1777)
    except OSError as error:
        raise run_dir.RunDirError(f"run directory {path}: {error.strerror}") from error


def make_state_folder(path: Path) -> Path:
    """Private. Raises RunDirError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise run_dir.RunDirError(f"state folder {path}: {error.strerror}") from error
    return path


def choose(given: Path | None) -> Own | EveryUsers:
    """What this agent serves: what was named, else every user's folder for root, else the user's own.

    Makes it. Raises RunDirError.
    """
    if given is not None:
        return Own(run_dir.make(given))
    if os.getuid() == 0 and run_dir.ENVIRONMENT not in os.environ:
        own = run_dir.SYSTEM_RUN_DIR / "0"
        make_shared(run_dir.SYSTEM_RUN_DIR)
        run_dir.make(own)
        return EveryUsers(state_folder=Path(os.environ.get("STATE_DIRECTORY", STATE_FOLDER)))
    return Own(run_dir.make(run_dir.default_path()))
