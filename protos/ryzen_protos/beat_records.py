"""What a beat page says, as values. The file that carries them is `beat_page`."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

_CRC = struct.Struct("<I")


class BeatPageError(ValueError):
    """The file is not a beat page, or not one that may be trusted; the text says which and where."""


GIVEN_LOSS, GIVEN_GRAD_NORM, GIVEN_LEARNING_RATE, GIVEN_FLOPS = 1, 2, 4, 8
"""Bits of what a progress record has."""


class Event(IntEnum):
    """Kinds in the ring of rare events."""

    CHECKPOINT = 1
    STEP_SKIPPED = 2
    """The guard has not done the step; `detail` is a `Skip`."""
    ROLLBACK_WANTED = 3
    """The guard asks to go back to a checkpoint from before this step."""


class Skip(IntEnum):
    """Why the gradient guard has skipped a step."""

    SPIKE = 1
    NONFINITE = 2


@dataclass(frozen=True, slots=True)
class Header:
    """Who writes the page. `start_ticks` is field 22 of /proc/PID/stat: with the pid it names one process."""

    run_id: str
    generation: int
    rank: int
    local_rank: int
    world_size: int
    pid: int
    start_ticks: int
    pid_namespace: int
    device: str = ""
    role: str = ""


class Progress(NamedTuple):  # a tuple is made in a tenth of the time, and the agent makes many
    """Where a rank is. `section` is "" between named sections; `loss` and the like are None until reported.

    `sequence`: how many stores the page has had (`beat_now.stores_between`). `entered_ns`: in whole 1,024 ns.
    `collectives`: how many the rank had begun on the default process group when this step began.
    """

    sequence: int
    step: int
    steps_done: int
    section: str
    entered_ns: int
    step_started_ns: int
    tokens: int
    samples: int
    collectives: int
    loss: float | None
    grad_norm: float | None
    learning_rate: float | None
    flops: float | None


class Measures(NamedTuple):
    """What the script says of its work and its device; 0 for what it does not say.

    `flops_per_token`, `flops_per_step`: of this rank, by the model (MFU); a step is worth its tokens' and its own.
    `hardware_factor`: FLOPs computed for each of the model's (HFU); more than 1 where activations are recomputed.
    `peak_flops`: a second, of this rank's device.
    """

    flops_per_token: float = 0.0
    flops_per_step: float = 0.0
    hardware_factor: float = 1.0
    peak_flops: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """An uncaught exception, stamped before the interpreter finalises (which takes a torch process a second)."""

    at_ns: int
    type: str
    message: str


@dataclass(frozen=True, slots=True)
class RareEvent:
    sequence: int
    at_ns: int
    step: int
    kind: int
    detail: int = 0


class StepMark(NamedTuple):
    """How many collectives a rank had begun on the default process group when a step began.

    Counted from a common start they are equal on all ranks at equal steps, or one of them has skipped a collective.
    """

    step: int
    collectives: int


class StepRecord(NamedTuple):
    """One finished step: durations in seconds, `sections` by index of `BeatReader.section_names()`."""

    step: int
    started_ns: int
    duration_ns: int
    tokens: int
    collectives: int
    squared_lengths: float
    sections: tuple[float, ...]


def process_start_ticks(pid: int) -> int:
    """Field 22 of /proc/PID/stat. Raises ProcessLookupError where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"no process {pid}") from error
    return int(text.rpartition(")")[2].split()[19])


def checked(layout: struct.Struct, raw: bytes, at: int = 0) -> tuple[Any, ...] | None:
    """Unpack a record followed by its CRC; None where it is torn, damaged or was never written."""
    if _CRC.unpack_from(raw, at + layout.size)[0] != crc32(raw[at : at + layout.size]):
        return None
    return layout.unpack_from(raw, at)


def printable(raw: bytes) -> str:
    """Untrusted bytes as one printable line."""
    text = raw.decode(errors="replace")
    return "".join(each if each.isprintable() else " " for each in text).strip()


def finite_or_none(value: float | None) -> float | None:
    """For messages and JSON, which have no NaN."""
    return value if value is not None and math.isfinite(value) else None


def given_bits(loss: float | None, grad_norm: float | None, learning_rate: float | None, flops: float | None) -> int:
    """Which of the optional figures of a record are there."""
    return (
        (loss is not None and GIVEN_LOSS)
        | (grad_norm is not None and GIVEN_GRAD_NORM)
        | (learning_rate is not None and GIVEN_LEARNING_RATE)
        | (flops is not None and GIVEN_FLOPS)
    )
