"""The manifest: the one file whose presence makes a folder of shards a checkpoint.

`manifest.json` names every file with its size and CRC-32, and what the checkpoint is of. It is written when all
ranks' shards are on disk, under another name, synced, renamed: either it is there and whole, or there is no
checkpoint. It carries a checksum of its own.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from zlib import crc32

MANIFEST = "manifest.json"
FORMAT = 1
_READ_BYTES = 1 << 20


class Verification(StrEnum):
    """What is known of the values in a checkpoint."""

    UNVERIFIED = "unverified"
    CLEAN = "clean"
    TAINTED = "tainted"


class ManifestError(ValueError):
    """There is no manifest, or it is not a whole one, or a file is not as it says; the text says which."""


@dataclass(frozen=True)
class FileMark:
    """Size in bytes and CRC-32 of one file."""

    bytes: int
    crc32: int

    @classmethod
    def of(cls, path: Path) -> FileMark:
        """Read `path` once. Raises OSError."""
        size = checksum = 0
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                size += len(block)
                checksum = crc32(block, checksum)
        return cls(size, checksum)


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is. `sequence` orders commits; steps do not, for a run that fell back repeats some."""

    step: int
    sequence: int
    samples: int
    global_batch: int
    world_size: int
    torch: str
    files: dict[str, FileMark]
    verification: Verification = Verification.UNVERIFIED
    written_unix_s: float = field(default_factory=time.time)

    def verified(self, verification: Verification) -> Manifest:
        return replace(self, verification=verification)

    def write(self, folder: Path) -> None:
        """Commit: aside, synced, renamed, folder synced. Raises OSError."""
        content = {"format": FORMAT, **asdict(self), "verification": self.verification.value}
        text = _canonical(content)
        whole = json.dumps({**content, "crc32": crc32(text)}, indent=1).encode()
        aside = folder / f".{MANIFEST}.{os.getpid()}"
        with aside.open("wb") as file:
            file.write(whole)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(folder / MANIFEST)
        sync_folder(folder)
        sync_folder(folder.parent)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises ManifestError."""
        try:
            return cls._parse((folder / MANIFEST).read_bytes())
        except FileNotFoundError:
            raise ManifestError("never completed (no manifest)") from None
        except ManifestError as error:
            raise ManifestError(f"damaged manifest: {error}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ManifestError(f"damaged manifest: {type(error).__name__}: {error}") from None

    @classmethod
    def _parse(cls, text: bytes) -> Manifest:
        content = json.loads(text)
        checksum = content.pop("crc32")
        if content["format"] != FORMAT:
            raise ManifestError(f"format {content['format']}, this version reads {FORMAT}")
        if crc32(_canonical(content)) != checksum:
            raise ManifestError("its checksum does not fit")
        content["files"] = {name: FileMark(**mark) for name, mark in content["files"].items()}
        content["verification"] = Verification(content["verification"])
        return cls(**{each.name: content[each.name] for each in fields(cls)})

    def check_file(self, folder: Path, name: str) -> None:
        """Raises ManifestError where the file is missing or not as it was written."""
        said = self.files[name]
        if Path(name).name != name:
            raise ManifestError(f"damaged manifest: {name!r} is no file name")
        try:
            size = (folder / name).stat().st_size
            if size != said.bytes:
                raise ManifestError(f"damaged: {name} has {size} bytes, {said.bytes} were written")
            if FileMark.of(folder / name) != said:
                raise ManifestError(f"damaged: {name} has another checksum than was written")
        except FileNotFoundError:
            raise ManifestError(f"damaged: {name} is missing") from None
        except OSError as error:
            raise ManifestError(f"damaged: {name} cannot be read ({error.strerror})") from None


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` last through a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _canonical(content: dict[str, object]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()
