"""Reads the log of inputs: which files, whether they are whole and follow each other, what each begins with.

Reads only, and works beside a coordinator that writes: the end of the newest segment may be half written at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ryzen_coordinator.core import snapshot
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.durable import DurableError
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.snapshot import SnapshotError
from ryzen_coordinator.errors import ReplayError
from ryzen_coordinator.inputs import entries, frames
from ryzen_coordinator.inputs.entries import Recorded
from ryzen_coordinator.inputs.frames import MAGIC, DamageError, Frame
from ryzen_coordinator.inputs.writer import FORMAT, segments


@dataclass(slots=True)
class Segment:
    """One file. `ended`: how it ends; None if its writer was killed, or is at work. `torn_at`: offset of a torn end."""

    path: Path
    header: dict[str, Any]
    frames: tuple[Frame, ...]
    torn_at: int | None
    ended: entries.End | None = None

    @property
    def session(self) -> str:
        return str(self.header["session"])

    @property
    def index(self) -> int:
        """Which of its session's segments it is, from 0."""
        return int(self.header["index"])

    @property
    def continues(self) -> bool:
        return bool(self.header["continues"])

    def core(self) -> Core:
        """The core as it was when this segment began. Raises ReplayError."""
        start = self.header["start"]
        try:
            if "state" in start:
                return snapshot.restored(snapshot.decode(start["state"]))
            written = self.header["settings"]
            lists = {name: tuple(value) for name, value in written.items() if isinstance(value, list)}
            settings = CoreSettings(**{**written, **lists})
            records = [(kind, key, body) for kind, key, body in start["records"]]
            return Core(settings, records, start["now_s"], start["unix_offset_s"])
        except (SnapshotError, DurableError) as error:
            raise ReplayError(f"{self.path}: {error}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ReplayError(f"{self.path}: its header cannot be read: {error!r}") from None

    def calls(self) -> Iterator[tuple[int, int, Recorded]]:
        """(offset of the frame, number in it, call). Sets `ended` at the end. Raises DamageError."""
        for frame in self.frames[1:]:
            try:
                for number, entry in enumerate(entries.read(frame.payload)):
                    if isinstance(entry, str):
                        self.ended = entry
                    else:
                        yield frame.offset, number, entry
            except ValueError as error:
                raise DamageError(f"{self.path}: damaged at offset {frame.offset}: {error}") from None


def find(journal: Path) -> list[Path]:
    """The segment files of a journal, of a folder of segments, or just one. Raises ReplayError."""
    try:
        if journal.is_dir():
            return _some(journal)
        folder = folder_of(journal)
        if folder.is_dir():
            return _some(folder)
        with journal.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return [journal]
    except OSError as error:
        raise ReplayError(f"{journal}: {error.strerror}: give the path of a journal") from None
    raise ReplayError(f"{journal}: has no log of inputs ({folder} is not there): was replay_bytes 0?")


def folder_of(journal: Path) -> Path:
    """Where the log of inputs of a journal lies."""
    return journal.with_name(f"{journal.name}.inputs")


def read(path: Path) -> Segment | None:
    """One segment; None if not even its header has been written whole. Raises ReplayError, DamageError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from None
    seen = frames.scan(data, str(path))
    if not seen.frames:
        return None
    header = _header(path, seen.frames[0])
    return Segment(path, header, seen.frames, seen.end if seen.torn else None)


def _header(path: Path, frame: Frame) -> dict[str, Any]:
    try:
        header = json.loads(frame.payload)
        written = header["format"]
        if written == FORMAT:
            snapshot.check_schema(header["schema"])
            for name in ("session", "index", "continues", "unix_s", "settings", "start", "ryzen"):
                header[name]
    except SnapshotError as error:
        raise ReplayError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ReplayError(f"{path}: its header cannot be read: {error!r}") from None
    if written != FORMAT:
        raise ReplayError(f"{path}: written by another version of ryzen (format {written!r}, here {FORMAT})")
    assert isinstance(header, dict)  # noqa: S101 - its keys were just read
    return header


def _some(folder: Path) -> list[Path]:
    found = segments(folder)
    if not found:
        raise ReplayError(f"{folder}: has no segments of a log of inputs")
    return found
