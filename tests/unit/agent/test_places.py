"""An agent of root serves every user's private folder, and trusts none of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ryzen_agent.places import EveryUsers, Own, make_shared, open_place
from ryzen_protos import run_dir

root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can make folders of other users")


def folder(path: Path, mode: int = 0o700, uid: int | None = None) -> Path:
    path.mkdir()
    path.chmod(mode)
    if uid is not None:
        os.chown(path, uid, -1)
    return path


def test_a_users_own_private_folder_is_served(tmp_path: Path) -> None:
    place = open_place(folder(tmp_path / str(os.getuid())))
    assert place is not None
    assert place.uid == os.getuid()
    assert place.inner.samefile(place.path)
    place.close()


@root_only
def test_folders_of_several_users_are_found(tmp_path: Path) -> None:
    make_shared(tmp_path / "shared")
    folder(tmp_path / "shared" / "1234", uid=1234)
    folder(tmp_path / "shared" / "0")
    found = EveryUsers(tmp_path / "shared").find()
    assert sorted(place.uid for place in found) == [0, 1234]
    for place in found:
        place.close()


@root_only
def test_a_folder_that_pretends_to_be_another_users_is_left_out(tmp_path: Path) -> None:
    assert open_place(folder(tmp_path / "1234", uid=4321)) is None


def test_a_folder_open_to_others_is_left_out(tmp_path: Path) -> None:
    assert open_place(folder(tmp_path / str(os.getuid()), mode=0o755)) is None


def test_a_link_to_a_folder_is_left_out(tmp_path: Path) -> None:
    (tmp_path / str(os.getuid())).symlink_to(folder(tmp_path / "real"))
    assert open_place(tmp_path / str(os.getuid())) is None


def test_names_that_are_no_user_are_left_out(tmp_path: Path) -> None:
    assert open_place(folder(tmp_path / "someone")) is None


def test_the_shared_folder_is_sticky(tmp_path: Path) -> None:
    make_shared(tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o7777 == 0o1777


def test_a_removed_folder_is_noticed_and_made_again(tmp_path: Path) -> None:
    own = Own(run_dir.make(tmp_path / "run"))
    place = own.find()[0]
    assert place.still_there()
    place.path.rmdir()
    assert not place.still_there()
    assert own.find()[0].still_there()
