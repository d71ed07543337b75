"""The folder that holds a run's checkpoints: which there are, which may go, what is wrong with it.

    FOLDER/step-00000040-9f3ac1/__0_0.distcp ... .metadata manifest.json

Each attempt has a folder of its own, so that a rank of an older generation that still writes can do no harm.
A folder without a manifest is an attempt that never completed. One job writes here; only its rank 0 deletes.
"""

from __future__ import annotations

import contextlib
import errno
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ryzen_trainer.checkpoint.manifest import MANIFEST, Manifest, ManifestError, Verification, sync_folder
from ryzen_trainer.errors import CheckpointError, CheckpointFolderError

_NAME = re.compile(r"step-(\d{8,})-[0-9a-f]{6}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Committed:
    """A checkpoint whose manifest stands; whether its files do is checked when it is read."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Passed:
    """A folder that is no checkpoint, and why."""

    path: Path
    reason: str


def attempt_name(step: int) -> str:
    """A fresh name for the shards of `step`."""
    return f"step-{step:08d}-{secrets.token_hex(3)}"


def probe_name() -> str:
    """A fresh name for the file by which ranks find out whether they share the folder."""
    return f".probe-{secrets.token_hex(6)}"


class CheckpointFolder:
    """What stands under `path`. It need not exist before the first checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def survey(self) -> tuple[list[Committed], list[Passed]]:
        """Committed checkpoints, newest commit first, and the folders that are none. Raises CheckpointFolderError."""
        committed, passed = [], []
        for path in self._attempts():
            try:
                committed.append(Committed(path, Manifest.read(path)))
            except ManifestError as error:
                passed.append(Passed(path, str(error)))
        committed.sort(key=lambda each: each.manifest.sequence, reverse=True)
        return committed, passed

    def make(self, name: str) -> Path:
        """The folder of a new attempt. Raises CheckpointFolderError."""
        path = self.path / name
        with self.explained():
            path.mkdir(parents=True)
        return path

    def check_writable(self) -> None:
        """Find out before the first step, not at the first checkpoint. Raises CheckpointFolderError."""
        name = probe_name()
        try:
            self.leave(name)
        finally:
            self.remove(name)

    def leave(self, name: str) -> None:
        """A small file, written for others to see. Raises CheckpointFolderError."""
        with self.explained():
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(b"\0" * 4096)

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self.path / name).unlink(missing_ok=True)

    def check_seen(self, name: str) -> None:
        """Raises CheckpointFolderError where another rank's file is not seen."""
        if not (self.path / name).exists():
            raise self.not_shared("what rank 0 wrote is not there")

    def check_size(self, path: Path, size: int) -> None:
        """Raises CheckpointFolderError unless the file is here with this size."""
        with self.explained():
            seen = path.stat().st_size if path.exists() else None
        if seen != size:
            raise self.not_shared(f"{path.name} has {seen} bytes here, {size} were written")

    def not_shared(self, seen: str) -> CheckpointFolderError:
        return CheckpointFolderError(
            f"checkpoint folder {self.path} is not the same for all ranks ({seen}): name one on storage they share"
        )

    def commit(self, path: Path, manifest: Manifest) -> None:
        """From here on `path` is a checkpoint. Raises CheckpointFolderError."""
        with self.explained():
            manifest.write(path)

    def discard(self, path: Path) -> None:
        """Delete an attempt or a checkpoint; first what makes it one. What cannot be deleted stays as an attempt."""
        with contextlib.suppress(OSError):
            (path / MANIFEST).unlink(missing_ok=True)
            sync_folder(path)
        shutil.rmtree(path, ignore_errors=True)

    def retain(self, keep_last: int) -> None:
        """Delete what is not among the newest `keep_last` commits; never the newest one nor the newest clean one.

        Tainted ones do not count among those: they must not push out the ones that can be resumed from.
        """
        committed, passed = self.survey()
        kept = [each for each in committed if each.manifest.verification is not Verification.TAINTED]
        kept = committed[:1] + kept[: max(keep_last, 1)]
        kept += [each for each in committed if each.manifest.verification is Verification.CLEAN][:1]
        for each in committed:
            if each not in kept:
                self.discard(each.path)
        for other in passed:
            self.discard(other.path)

    def mark(self, step: int, verification: Verification) -> int:
        """Record what a check found of the checkpoints of `step`; how many there are. Raises CheckpointFolderError."""
        found = [each for each in self.survey()[0] if each.manifest.step == step]
        for each in found:
            self.commit(each.path, each.manifest.verified(verification))
        return len(found)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn an OSError within into a CheckpointFolderError that says what to do."""
        try:
            yield
        except OSError as error:
            raise self.explain(error) from error

    def explain(self, error: BaseException) -> CheckpointError:
        """One line for whoever runs the job."""
        number = error.errno if isinstance(error, OSError) else None
        text = " ".join(str(getattr(error, "strerror", None) or error).split())[:300]
        if number in _FULL or (number is None and self._is_full()):
            return CheckpointFolderError(
                f"checkpoint folder {self.path} is full ({text}): free space there or keep fewer checkpoints"
            )
        if number in _READ_ONLY:
            return CheckpointFolderError(
                f"checkpoint folder {self.path} cannot be written ({text}): make it writable or name another folder"
            )
        if number is not None:
            return CheckpointFolderError(
                f"checkpoint folder {self.path} cannot be used ({text}): name a folder that all ranks can write"
            )
        return CheckpointError(f"checkpoint in {self.path} failed ({type(error).__name__}: {text})")

    def _is_full(self) -> bool:
        """torch reports a failed write without its reason."""
        try:
            return shutil.disk_usage(self.path).free < 1 << 20
        except OSError:
            return False

    def _attempts(self) -> list[Path]:
        with self.explained():
            try:
                return sorted(each for each in self.path.iterdir() if _NAME.fullmatch(each.name) and each.is_dir())
            except FileNotFoundError:
                return []
