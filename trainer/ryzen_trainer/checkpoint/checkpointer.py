"""A checkpoint that resumes exactly: what is in it, when it counts, which one is taken.

In it: parameters and optimizer (as torch.distributed.checkpoint shards them, so that the number of ranks may
change), scheduler, gradient guard, and of every rank its random generators and its data loader's position; in the
manifest the step, the samples consumed by the whole job, the global batch and whether the values were verified.

It counts from the moment its manifest stands, which rank 0 writes once it knows from every rank that its shards
are on disk, and their checksums. Everything before that is an attempt: what a crash leaves behind is passed over
and later deleted.

`restore()` takes the newest one whose files are as the manifest says. Rank 0 chooses, the ranks check the files
between them, and all go on to the next older one together.

Generators are restored last: making a data loader's iterator draws from torch's global one.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.optim import Optimizer

from ryzen_trainer.checkpoint.agreement import Ranks
from ryzen_trainer.checkpoint.folder import CheckpointFolder, Committed, attempt_name, probe_name
from ryzen_trainer.checkpoint.manifest import FileMark, Manifest, ManifestError, Verification
from ryzen_trainer.checkpoint.random_state import RandomState, reseed
from ryzen_trainer.checkpoint.reading import SafeLoadPlanner, SafeReader, from_bytes, to_bytes
from ryzen_trainer.errors import CheckpointError, CheckpointFolderError, CheckpointMismatchError
from ryzen_trainer.run import RESUME_AT_MOST, resume_at_most

log = logging.getLogger(__name__)

_METADATA = ".metadata"


class Stateful(Protocol):
    """A scheduler or a torchdata StatefulDataLoader. Its state must be plain: numbers, texts, containers, tensors."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None: ...


@dataclass(frozen=True)
class Restored:
    """What training goes on from. `same_world`: the data loader stands where it stood; else it is for the script
    to move it to `samples`, counted over all ranks."""

    step: int
    samples: int
    global_batch: int
    world_size: int
    same_world: bool
    verification: Verification
    path: Path


class Checkpointer:
    """Saves and restores one training job. All methods are collective: every rank calls them in the same order."""

    def __init__(
        self,
        folder: str | Path,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        global_batch: int,
        scheduler: Stateful | None = None,
        loader: Stateful | None = None,
        guard: Stateful | None = None,
        keep_last: int = 3,
        committed: Callable[[int], None] | None = None,
    ) -> None:
        """`folder` must be the same storage for all ranks. `committed(step)` is told of each checkpoint that
        counts and of the one restored (`Run.checkpoint_committed` fits)."""
        self.folder = CheckpointFolder(Path(folder))
        self.model, self.optimizer, self.scheduler, self.loader = model, optimizer, scheduler, loader
        self.guard = guard
        self.global_batch = global_batch
        self.keep_last = keep_last
        self._committed = committed
        self._ranks = Ranks()

    def check_writable(self) -> None:
        """Before the first step: every rank can write, and all see the same folder. Raises CheckpointFolderError
        on every rank if it fails on one."""
        name = self._from_first(self._left_probe)
        try:
            self._together(lambda: self._check_seen(name))
        finally:
            if self._ranks.first:
                self.folder.remove(name)

    def _left_probe(self) -> str:
        name = probe_name()
        self.folder.leave(name)
        return name

    def _made(self, name: str) -> str:
        self.folder.make(name)
        return name

    def _check_seen(self, name: str) -> None:
        self.folder.check_writable()
        self.folder.check_seen(name)

    def save(self, step: int, samples: int) -> Path:
        """Write and commit the checkpoint of `step`, the number of steps done; `samples` over all ranks.

        Raises CheckpointError on every rank if it failed on any; the checkpoints before it are untouched.
        """
        name: str = self._from_first(lambda: self._made(attempt_name(step)))
        path = self.folder.path / name
        try:
            self._write_shards(path)
            self._together(lambda: self._commit(path, step, samples))
        except CheckpointError:
            if self._ranks.first:
                self.folder.discard(path)
            raise
        if self._committed is not None:
            self._committed(step)
        if self._ranks.first:
            try:
                self.folder.retain(self.keep_last)
            except CheckpointError as error:  # this checkpoint counts all the same
                log.warning("old checkpoints stay: %s", error)
        return path

    def restore(self) -> Restored | None:
        """Load the newest sound checkpoint into model, optimizer, scheduler, loader and generators. After a rollback
        (`Run.resume_at_most`) later ones are marked as tainted, which is for good, and passed over.

        None where there is none. Raises CheckpointMismatchError if it is of another model.
        """
        for path, manifest in self._candidates():
            if not self._is_sound(path, manifest):
                continue
            self._load(path, manifest)
            if self._committed is not None:
                self._committed(manifest.step)
            return Restored(
                manifest.step, manifest.samples, manifest.global_batch, manifest.world_size,
                manifest.world_size == self._ranks.size, manifest.verification, path,
            )  # fmt: skip
        return None

    def mark(self, step: int, verification: Verification) -> None:
        """Record what a check of the checkpoint of `step` found."""
        self._on_first(lambda: self.folder.mark(step, verification))

    # ------------------------------------------------------------------ writing

    def _write_shards(self, path: Path) -> None:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        state = {"model": model, "optimizer": optimizer, **self._plain_state()}
        writer = dcp.FileSystemWriter(path, overwrite=False)
        self._torch_call(lambda: dcp.save(state, storage_writer=writer, process_group=self._ranks.group))

    def _plain_state(self) -> dict[str, Any]:
        """What is no tensor of the model: opaque values, one of the job and one of each rank."""
        of_rank = {
            "random": RandomState.capture().as_plain(),
            "loader": self.loader.state_dict() if self.loader is not None else None,
        }
        of_job = {
            name: each.state_dict() if each is not None else None
            for name, each in (("scheduler", self.scheduler), ("guard", self.guard))
        }
        return {"job": to_bytes(of_job), "ranks": {str(self._ranks.rank): to_bytes(of_rank)}}

    def _commit(self, path: Path, step: int, samples: int) -> None:
        shard = _mark(path / f"__{self._ranks.rank}_0.distcp")
        rows = self._ranks.gathered([shard.bytes, shard.crc32])
        if not self._ranks.first:
            return
        files = {f"__{rank}_0.distcp": FileMark(*row) for rank, row in enumerate(rows)}
        files[_METADATA] = _mark(path / _METADATA)
        for name, mark in files.items():
            self.folder.check_size(path / name, mark.bytes)
        others = self.folder.survey()[0]
        sequence = 1 + max((each.manifest.sequence for each in others), default=0)
        manifest = Manifest(step, sequence, samples, self.global_batch, self._ranks.size, torch.__version__, files)
        self.folder.commit(path, manifest)

    # ------------------------------------------------------------------ reading

    def _candidates(self) -> list[tuple[Path, Manifest]]:
        """Rank 0's list, newest first, on every rank."""
        found: list[tuple[Path, Manifest]] = []

        def read_same() -> None:
            for name in names:
                path = self.folder.path / name
                try:
                    found.append((path, Manifest.read(path)))
                except ManifestError as error:
                    raise self.folder.not_shared(f"{name}: {error}") from error

        names = self._from_first(self._listed)
        self._together(read_same)
        return found

    def _listed(self) -> list[str]:
        committed, passed = self.folder.survey()
        for each in passed:
            log.warning("passing over %s: %s", each.path, each.reason)
        limit = resume_at_most(os.environ.get(RESUME_AT_MOST, ""))
        return [each.path.name for each in committed if not self._is_tainted(each) and not self._is_late(each, limit)]

    def _is_late(self, each: Committed, limit: int | None) -> bool:
        """Whether it is of a step after the fault that the job was rolled back for; then it is marked for good."""
        if limit is None or each.manifest.step <= limit:
            return False
        log.warning("passing over %s: the job was rolled back to step %d, it is of a later one", each.path, limit)
        try:
            self.folder.commit(each.path, each.manifest.verified(Verification.TAINTED))
        except CheckpointError as error:  # the handler names the limit again at the next start
            log.warning("%s is not marked as tainted: %s", each.path, error)
        return True

    def _is_tainted(self, each: Committed) -> bool:
        tainted = each.manifest.verification is Verification.TAINTED
        if tainted:
            log.warning("passing over %s: a check found wrong values in it", each.path)
        return tainted

    def _is_sound(self, path: Path, manifest: Manifest) -> bool:
        """Every file is as it was written; each rank reads its share of them."""
        sound = True
        for name in sorted(manifest.files)[self._ranks.rank :: self._ranks.size]:
            try:
                manifest.check_file(path, name)
            except ManifestError as error:
                log.warning("passing over %s: %s", path, error)
                sound = False
        return self._ranks.all_true(sound)

    def _load(self, path: Path, manifest: Manifest) -> None:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        rank = str(self._ranks.rank)
        known = self._ranks.rank < manifest.world_size
        state: dict[str, Any] = {"model": model, "optimizer": optimizer, "job": b""}
        if known:
            state["ranks"] = {rank: b""}
        reader = SafeReader(path, manifest.files)
        try:
            # Each rank's plan follows from its own tensors and the metadata: there is nothing to negotiate.
            self._together(
                lambda: self._torch_call(
                    lambda: dcp.load(state, storage_reader=reader, planner=SafeLoadPlanner(), no_dist=True)
                )
            )
        except CheckpointError as error:
            mismatch = CheckpointMismatchError(f"checkpoint {path} does not fit this training: {error}")
            mismatch.rank = error.rank
            raise mismatch from error
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        of_job = from_bytes(state["job"])
        if self.scheduler is not None and of_job["scheduler"] is not None:
            self.scheduler.load_state_dict(of_job["scheduler"])
        if self.guard is not None and of_job.get("guard") is not None:  # older checkpoints have none
            self.guard.load_state_dict(of_job["guard"])
        self._restore_rank(from_bytes(state["ranks"][rank]) if known else None, manifest)

    def _restore_rank(self, saved: dict[str, Any] | None, manifest: Manifest) -> None:
        same_world = manifest.world_size == self._ranks.size
        if saved is not None and same_world and self.loader is not None and saved["loader"] is not None:
            self.loader.load_state_dict(saved["loader"])
        if saved is None:
            reseed(manifest.step)
        else:
            RandomState(**saved["random"]).restore()

    # ------------------------------------------------------------------ together

    def _together(self, act: Callable[[], object]) -> None:
        """Run on every rank; if it raises on one, all raise."""
        failure: CheckpointError | None = None
        try:
            act()
        except CheckpointError as error:
            failure = error
        failed = [rank for rank, (flag,) in enumerate(self._ranks.gathered([int(failure is not None)])) if flag]
        if failed:
            failure = failure or self._says_why(failed[0])
            failure.rank = failed[0]
            raise failure

    def _from_first(self, act: Callable[[], Any]) -> Any:
        """What `act` gives on rank 0, on every rank; if it raises there, all raise. It gives anything but None."""
        value, failure = None, None
        if self._ranks.first:
            try:
                value = act()
            except CheckpointError as error:
                failure = error
        value = self._ranks.from_first(value)
        if value is None:
            raise failure or self._says_why(0)
        return value

    def _says_why(self, rank: int) -> CheckpointError:
        return CheckpointFolderError(f"checkpoint folder {self.folder.path}: rank {rank} failed and says why")

    def _on_first(self, act: Callable[[], object]) -> None:
        """Run on rank 0; if it raises there, all raise."""
        self._together(act if self._ranks.first else lambda: None)

    def _torch_call(self, act: Callable[[], object]) -> None:
        """DCP raises its exception, no subclass of Exception, on all ranks alike."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process is fine
                act()
        except CheckpointException as error:
            causes = [pair[0] for pair in error.failures.values()]
            telling = next((each for each in causes if isinstance(each, OSError)), causes[0])
            raise self.folder.explain(telling) from error


def _mark(path: Path) -> FileMark:
    """Of size -1 where the file is not there: every rank has to come to the gathering."""
    try:
        return FileMark.of(path)
    except OSError:
        return FileMark(-1, 0)
