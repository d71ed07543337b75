"""A training that is restored goes on bit for bit as if nothing had been."""

from __future__ import annotations

import os
import pickle
import random
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torchdata.stateful_dataloader import StatefulDataLoader

from ryzen_trainer.checkpoint import Checkpointer, Verification
from ryzen_trainer.checkpoint.manifest import MANIFEST, Manifest
from ryzen_trainer.checkpoint.reading import SafeReader, UnexpectedPickle, from_bytes, to_bytes
from ryzen_trainer.errors import CheckpointFolderError, CheckpointMismatchError
from ryzen_trainer.examples.gpt.data import Division, GlobalBatches, Windows, make_loader
from ryzen_trainer.guard import GradientGuard
from ryzen_trainer.norms import Limits


class Training:
    """A small training with everything that has a state."""

    def __init__(self, folder: Path, width: int = 8, keep_last: int = 3) -> None:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        self.model = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 100)
        self.loader: StatefulDataLoader = make_loader(
            Windows(bytes(range(256)), 4, seed=3), GlobalBatches(Division(4, 4, 1), 0)
        )
        self.told: list[int] = []
        self.checkpointer = Checkpointer(
            folder,
            self.model,
            self.optimizer,
            scheduler=self.scheduler,
            loader=self.loader,
            global_batch=4,
            keep_last=keep_last,
            committed=self.told.append,
        )
        self.batches: Iterator[Any] | None = None

    def step(self) -> None:
        if self.batches is None:
            self.batches = iter(self.loader)
        inputs, targets = next(self.batches)
        noise = random.random() + float(np.random.rand())
        loss = (self.model(inputs.float() / 256) - targets.float().mean() * noise).square().mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.scheduler.step()

    def state(self) -> dict[str, Any]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def trained(folder: Path, *saved_after: int) -> Training:
    training = Training(folder)
    for step in range(1, max(saved_after) + 1):
        training.step()
        if step in saved_after:
            training.checkpointer.save(step, step * 4)
    return training


def test_a_restored_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    undisturbed = trained(tmp_path, 3)
    for _ in range(4):
        undisturbed.step()
    again = Training(tmp_path)
    restored = again.checkpointer.restore()
    assert restored is not None
    assert (restored.step, restored.samples, restored.global_batch, restored.same_world) == (3, 12, 4, True)
    assert restored.verification is Verification.UNVERIFIED
    for _ in range(4):
        again.step()
    assert same(again.state(), undisturbed.state())
    assert again.scheduler.get_last_lr() == undisturbed.scheduler.get_last_lr()


def test_without_the_random_state_it_would_not(tmp_path: Path) -> None:
    undisturbed = trained(tmp_path, 3)
    undisturbed.step()
    again = Training(tmp_path)
    again.checkpointer.restore()
    torch.manual_seed(5)
    again.step()
    assert not same(again.state(), undisturbed.state())


def test_where_there_is_no_checkpoint_nothing_is_restored(tmp_path: Path) -> None:
    training = Training(tmp_path / "none")
    before = training.state()
    assert training.checkpointer.restore() is None
    assert same(training.state(), before)
    assert training.told == []


def test_each_commit_and_the_restored_one_are_told(tmp_path: Path) -> None:
    assert trained(tmp_path, 1, 3).told == [1, 3]
    again = Training(tmp_path)
    again.checkpointer.restore()
    assert again.told == [3]


damages = st.sampled_from(["delete", "empty", "flip", "cut"])


@given(which=st.floats(0, 1, exclude_max=True), place=st.floats(0, 1, exclude_max=True), damage=damages)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_damaged_anywhere_is_passed_over_with_a_warning(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture, which: float, place: float, damage: str
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    trained(folder, 1, 2)
    newest = max(folder.iterdir(), key=lambda each: each.name)
    files = sorted(newest.iterdir())
    victim = files[int(which * len(files))]
    content = bytearray(victim.read_bytes())
    at = int(place * len(content))
    if damage == "delete":
        victim.unlink()
    else:
        content[at] ^= 0x5A
        victim.write_bytes({"empty": b"", "flip": bytes(content), "cut": bytes(content[:at])}[damage])
    caplog.clear()
    restored = Training(folder).checkpointer.restore()
    assert restored is not None
    assert restored.step == 1
    assert f"passing over {newest}" in caplog.text


def test_an_incomplete_one_is_passed_over_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path, 1, 2)
    newest = max(tmp_path.iterdir(), key=lambda each: each.name)
    (newest / MANIFEST).unlink()
    restored = Training(tmp_path).checkpointer.restore()
    assert restored is not None
    assert restored.step == 1
    assert f"passing over {newest}: never completed (no manifest)" in caplog.text


def test_after_falling_back_the_new_commits_are_the_newest(tmp_path: Path) -> None:
    trained(tmp_path, 1, 2, 3)
    for each in tmp_path.iterdir():
        if "00000001" not in each.name:
            (each / ".metadata").write_bytes(b"")
    again = Training(tmp_path, keep_last=1)
    restored = again.checkpointer.restore()
    assert restored is not None
    assert restored.step == 1
    again.step()
    again.checkpointer.save(2, 8)
    restored = Training(tmp_path).checkpointer.restore()
    assert restored is not None
    assert restored.step == 2


def test_a_tainted_one_is_passed_over_and_a_clean_one_outlives_retention(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(tmp_path, keep_last=2)
    for step in range(1, 6):
        training.step()
        training.checkpointer.save(step, step * 4)
        if step == 1:
            training.checkpointer.mark(1, Verification.CLEAN)
    training.checkpointer.mark(5, Verification.TAINTED)
    assert sorted(each.name[:13] for each in tmp_path.iterdir()) == ["step-00000001", "step-00000004", "step-00000005"]
    restored = Training(tmp_path).checkpointer.restore()
    assert restored is not None
    assert restored.step == 4
    assert "a check found wrong values in it" in caplog.text
    training.checkpointer.mark(4, Verification.TAINTED)
    restored = Training(tmp_path).checkpointer.restore()
    assert restored is not None
    assert (restored.step, restored.verification) == (1, Verification.CLEAN)


def test_one_of_another_model_is_not_passed_over_but_refused(tmp_path: Path) -> None:
    trained(tmp_path, 1)
    with pytest.raises(CheckpointMismatchError, match="does not fit this training") as caught:
        Training(tmp_path, width=16).checkpointer.restore()
    assert "\n" not in str(caught.value)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of root's and a process that is not root; where the test runs as a user, a read-only folder."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder
        if os.getuid() == 0:
            os.seteuid(0)
        (folder / "checkpoints").chmod(0o755)


def test_a_read_only_folder_is_one_line_and_what_is_in_it_can_be_restored(unprivileged: Path) -> None:
    folder = unprivileged / "checkpoints"
    training = trained(folder, 1)
    folder.chmod(0o555)
    if os.getuid() == 0:
        os.seteuid(65534)
    line = f"checkpoint folder {folder} cannot be written .*: make it writable or name another folder"
    with pytest.raises(CheckpointFolderError, match=line) as caught:
        training.checkpointer.save(2, 8)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointFolderError, match=line):
        training.checkpointer.check_writable()
    assert training.told == [1]
    restored = Training(folder).checkpointer.restore()
    assert restored is not None
    assert restored.step == 1


@pytest.mark.parametrize("room_bytes", [100, 4000])
def test_a_full_folder_is_one_line_and_leaves_the_checkpoint_before_it(tmp_path: Path, room_bytes: int) -> None:
    training = trained(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
    try:
        with pytest.raises(
            CheckpointFolderError, match=f"checkpoint folder {tmp_path} is full .*: free space"
        ) as caught:
            training.checkpointer.save(2, 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert [each.name[:13] for each in tmp_path.iterdir()] == ["step-00000001"], "the half-written one is gone"
    training.checkpointer.save(2, 8)
    restored = Training(tmp_path).checkpointer.restore()
    assert restored is not None
    assert restored.step == 2


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/ryzen-was-here",)


def test_metadata_that_would_run_code_is_not_run(tmp_path: Path) -> None:
    trained(tmp_path, 1)
    (path,) = tmp_path.iterdir()
    (path / ".metadata").write_bytes(pickle.dumps(Evil()))
    reader = SafeReader(path, Manifest.read(path).files)
    with pytest.raises(UnexpectedPickle, match=r"checkpoint metadata names (posix|os)\.system"):
        reader.read_metadata()


def test_metadata_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, 1)
    (path,) = tmp_path.iterdir()
    with pytest.raises(UnexpectedPickle, match=r"names '__0_0.distcp', the manifest does not"):
        SafeReader(path, {".metadata"}).read_metadata()


def test_an_object_that_would_run_code_is_not_run() -> None:
    with pytest.raises(pickle.UnpicklingError):
        from_bytes(to_bytes(Evil()))


def test_plain_values_come_back_as_they_were() -> None:
    plain = {"a": [1, 2.5, None, True, "text", b"bytes"], "t": (1, (2, 3)), "tensor": torch.arange(3)}
    back = from_bytes(to_bytes(plain))
    assert torch.equal(back.pop("tensor"), plain.pop("tensor"))  # type: ignore[arg-type]
    assert back == plain


def test_after_a_rollback_later_ones_are_tainted_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(tmp_path, keep_last=9)
    for step in range(1, 6):
        training.step()
        training.checkpointer.save(step, step * 4)
    monkeypatch.setenv("RYZEN_RESUME_AT_MOST", "3")
    again = Training(tmp_path)
    restored = again.checkpointer.restore()
    assert restored is not None
    assert restored.step == 3, "the one of the limit itself is sound"
    assert again.told == [3]
    assert "rolled back to step 3" in caplog.text
    monkeypatch.delenv("RYZEN_RESUME_AT_MOST")
    restored = Training(tmp_path).checkpointer.restore()
    assert restored is not None
    assert restored.step == 3, "nobody has to name the limit a second time"


def test_a_limit_below_every_checkpoint_starts_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(tmp_path)
    training.step()
    training.checkpointer.save(1, 4)
    monkeypatch.setenv("RYZEN_RESUME_AT_MOST", "0")
    assert Training(tmp_path).checkpointer.restore() is None


def test_a_limit_that_is_no_number_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(tmp_path)
    training.step()
    training.checkpointer.save(1, 4)
    monkeypatch.setenv("RYZEN_RESUME_AT_MOST", "-1; rm")
    assert Training(tmp_path).checkpointer.restore() is not None


def guarded(training: Training) -> GradientGuard:
    guard = GradientGuard(training.model, training.optimizer, limits=Limits(warmup=2))
    training.checkpointer.guard = guard
    return guard


def test_what_the_guard_has_learned_comes_back_and_one_saved_without_a_guard_is_restored_too(tmp_path: Path) -> None:
    first = Training(tmp_path)
    first.checkpointer.save(1, 4)
    guard = guarded(first)
    before = guard.state_dict()
    for _ in range(3):
        guard.clip(2.0)
    first.checkpointer.save(2, 8)
    other = Training(tmp_path)
    restored = guarded(other)
    assert other.checkpointer.restore() is not None
    assert restored.state_dict() == guard.state_dict() != before
    first.checkpointer.mark(2, Verification.TAINTED)
    older = Training(tmp_path)
    fresh = guarded(older)
    found = older.checkpointer.restore()
    assert found is not None
    assert found.step == 1
    assert fresh.state_dict() == before
