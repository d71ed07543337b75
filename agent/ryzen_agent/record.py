"""What a restarted agent must know of the ranks that its predecessor has seen.

/proc tells nothing of a rank that died while no agent ran, and nothing tells which process was the torchrun
of a rank whose torchrun has died. One small JSON file a job, written anew whenever the set of ranks changes.
It is a hint: every process named in it is checked (pid and start time) before it is believed alive.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from ryzen_agent.ranks import FoundRank, RankIdentity
from ryzen_protos import run_dir

FOLDER = "agent"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordedRank:
    rank: int
    local_rank: int
    generation: int
    pid: int
    start_ticks: int
    exited: bool
    exit_code: int | None
    killed: bool

    def found(self, run_id: str) -> FoundRank:
        identity = RankIdentity(run_id, self.generation, self.rank, self.local_rank)
        return FoundRank(identity, self.pid, self.start_ticks)


@dataclass(frozen=True, slots=True)
class JobRecord:
    run_id: str
    user: str
    uid: int
    folder: str
    torchrun_pid: int
    torchrun_start_ticks: int
    ranks: tuple[RecordedRank, ...]


def save(folder: Path, record: JobRecord) -> None:
    """Written aside and renamed. A full disk is logged; the agent can do without."""
    path = folder / FOLDER / _name(record.uid, record.run_id)
    aside = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        aside.write_text(json.dumps(asdict(record)))
        aside.replace(path)
    except OSError as error:
        log.warning("%s: %s: a restarted agent will know less", path, error.strerror)


def remove(folder: Path, uid: int, run_id: str) -> None:
    with contextlib.suppress(OSError):
        (folder / FOLDER / _name(uid, run_id)).unlink(missing_ok=True)


def load_all(folder: Path) -> list[JobRecord]:
    """Records of all jobs; damaged ones are removed."""
    records = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            records.append(_parse(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: damaged (%s), removed", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
    return records


def _name(uid: int, run_id: str) -> str:
    return f"{uid}-{run_id}.json"


def _parse(text: str) -> JobRecord:
    values = json.loads(text)
    run_dir.check_name("run id", values["run_id"])
    ranks = tuple(RecordedRank(**each) for each in values.pop("ranks"))
    return JobRecord(ranks=ranks, **values)
