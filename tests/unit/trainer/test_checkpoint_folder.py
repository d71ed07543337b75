"""What counts as a checkpoint, and what may be deleted."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzen_trainer.checkpoint.folder import CheckpointFolder, attempt_name
from ryzen_trainer.checkpoint.manifest import MANIFEST, FileMark, Manifest, ManifestError, Verification
from ryzen_trainer.errors import CheckpointFolderError


def commit(
    folder: CheckpointFolder, step: int, sequence: int, verification: Verification = Verification.UNVERIFIED
) -> Path:
    path = folder.make(attempt_name(step))
    (path / "shard").write_bytes(b"content")
    files = {"shard": FileMark.of(path / "shard")}
    folder.commit(path, Manifest(step, sequence, step * 16, 16, 4, "2.13.0", files, verification))
    return path


def steps(folder: CheckpointFolder) -> list[int]:
    return [each.manifest.step for each in folder.survey()[0]]


def test_a_folder_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "none").survey() == ([], [])


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    path = commit(folder, 40, 7, Verification.CLEAN)
    (found,), passed = folder.survey()
    assert found.path == path
    assert found.manifest == Manifest.read(path)
    assert (found.manifest.step, found.manifest.sequence, found.manifest.samples) == (40, 7, 640)
    assert found.manifest.verification is Verification.CLEAN
    assert passed == []


def test_an_attempt_without_a_manifest_is_passed_over(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    commit(folder, 10, 1)
    attempt = folder.make(attempt_name(20))
    (attempt / "shard").write_bytes(b"half")
    committed, (passed,) = folder.survey()
    assert [each.manifest.step for each in committed] == [10]
    assert (passed.path, passed.reason) == (attempt, "never completed (no manifest)")


def test_commits_are_ordered_by_when_they_were_made_not_by_step(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    commit(folder, 50, 1)
    commit(folder, 20, 2)
    assert steps(folder) == [20, 50]


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_a_manifest_with_any_byte_changed_is_none(
    tmp_path_factory: pytest.TempPathFactory, place: float, value: int
) -> None:
    folder = CheckpointFolder(tmp_path_factory.mktemp("folder"))
    path = commit(folder, 10, 1) / MANIFEST
    content = bytearray(path.read_bytes())
    whole = json.loads(content)
    content[int(place * len(content))] = value
    path.write_bytes(content)
    committed, passed = folder.survey()
    if committed:  # a change of white space changes nothing
        assert json.loads(content) == whole
    else:
        assert "damaged manifest" in passed[0].reason


@pytest.mark.parametrize("content", ["", "null", "[]", "5", "{}", '{"crc32": 0, "format": 1}', "[" * 100_000, "\xff"])
def test_a_manifest_of_any_other_content_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_bytes(content.encode("latin-1"))
    with pytest.raises(ManifestError, match="damaged manifest"):
        Manifest.read(tmp_path)


def test_a_manifest_of_a_newer_format_names_both(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"crc32": 0, "format": 9}')
    with pytest.raises(ManifestError, match="format 9, this version reads 1"):
        Manifest.read(tmp_path)


def test_a_file_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    folder = tmp_path / "inside"
    folder.mkdir()
    manifest = Manifest(1, 1, 1, 1, 1, "", {"../outside": FileMark.of(tmp_path / "outside")})
    with pytest.raises(ManifestError, match="is no file name"):
        manifest.check_file(folder, "../outside")


def test_a_file_that_is_missing_shorter_or_other_is_found(tmp_path: Path) -> None:
    path = commit(CheckpointFolder(tmp_path), 1, 1)
    manifest = Manifest.read(path)
    manifest.check_file(path, "shard")
    (path / "shard").write_bytes(b"cOntent")
    with pytest.raises(ManifestError, match="shard has another checksum"):
        manifest.check_file(path, "shard")
    (path / "shard").write_bytes(b"conten")
    with pytest.raises(ManifestError, match="shard has 6 bytes, 7 were written"):
        manifest.check_file(path, "shard")
    (path / "shard").unlink()
    with pytest.raises(ManifestError, match="shard is missing"):
        manifest.check_file(path, "shard")


kinds = st.sampled_from(list(Verification))


@given(made=st.lists(kinds, min_size=1, max_size=8), keep_last=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_retention_keeps_the_newest_and_the_newest_clean_one(
    tmp_path_factory: pytest.TempPathFactory, made: list[Verification], keep_last: int
) -> None:
    folder = CheckpointFolder(tmp_path_factory.mktemp("folder"))
    for number, verification in enumerate(made):
        commit(folder, number, number, verification)
        folder.retain(keep_last)
    kept = steps(folder)
    sound = [number for number in reversed(range(len(made))) if made[number] is not Verification.TAINTED]
    assert kept[0] == len(made) - 1
    assert set(sound[:keep_last]) <= set(kept), "tainted ones do not push out what can be resumed from"
    clean = [number for number, verification in enumerate(made) if verification is Verification.CLEAN]
    assert not clean or clean[-1] in kept
    assert set(kept) <= {len(made) - 1, *sound[:keep_last], *clean[-1:]}


def test_retention_deletes_attempts_that_never_completed_and_nothing_else(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    commit(folder, 10, 1)
    folder.make(attempt_name(5))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-of-mine").mkdir()
    folder.retain(1)
    assert {each.name.split("-")[0] for each in tmp_path.iterdir()} == {"step", "notes.txt"}
    assert (tmp_path / "step-of-mine").is_dir()
    assert folder.survey()[1] == []


def test_a_checkpoint_stops_being_one_before_its_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    path = commit(folder, 10, 1)
    monkeypatch.setattr("shutil.rmtree", lambda *_a, **_k: None)  # killed in between
    folder.discard(path)
    assert (path / "shard").exists()
    assert steps(folder) == []


def test_marking_a_checkpoint_changes_only_its_verification(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    path = commit(folder, 10, 1)
    before = Manifest.read(path)
    assert folder.mark(10, Verification.TAINTED) == 1
    assert Manifest.read(path) == before.verified(Verification.TAINTED)
    assert folder.mark(11, Verification.CLEAN) == 0


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "is full (No space left on device): free space there or keep fewer checkpoints"),
        (errno.EDQUOT, "is full (Disk quota exceeded): free space"),
        (errno.EROFS, "cannot be written (Read-only file system): make it writable or name another folder"),
        (errno.EACCES, "cannot be written (Permission denied): make it writable"),
        (errno.ENOTDIR, "cannot be used (Not a directory): name a folder that all ranks can write"),
    ],
)
def test_each_trouble_is_one_line_that_names_the_folder_and_what_to_do(tmp_path: Path, number: int, words: str) -> None:
    error = CheckpointFolder(tmp_path).explain(OSError(number, os.strerror(number)))
    assert isinstance(error, CheckpointFolderError)
    assert str(error).startswith(f"checkpoint folder {tmp_path} {words}")
    assert "\n" not in str(error)


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (CheckpointFolder(tmp_path / "file"), CheckpointFolder(tmp_path / "file" / "below")):
        with pytest.raises(CheckpointFolderError, match=r"checkpoint folder .*file"):
            folder.check_writable()


def test_looking_whether_it_is_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    CheckpointFolder(tmp_path / "new").check_writable()
    assert list((tmp_path / "new").iterdir()) == []
