"""Of torchrun's own command line: whether its ranks are forked, and by which command each is started."""

from __future__ import annotations

import sys

import pytest
from torch.distributed.elastic.rendezvous import RendezvousParameters

from ryzen_trainer.rendezvous import arguments

PARAMETERS = RendezvousParameters(backend="ryzen", endpoint="", run_id="job", min_nodes=1, max_nodes=2)


@pytest.mark.parametrize(
    ("words", "worker"),
    [
        ("--no-python ryzen-worker train.py --lr 1", "ryzen-worker train.py --lr 1"),
        ("--no-python /env/bin/ryzen-worker -m pkg.train", "/env/bin/ryzen-worker -m pkg.train"),
        ("--no-python ryzen-worker ${local_rank}/train.py", "ryzen-worker 0/train.py"),
        ("--no-python ./start.sh train.py", ""),
        ("--no-python ./start.sh ryzen-worker train.py", ""),
        ("ryzen-worker train.py", ""),
        ("train.py", ""),
        ("-m pkg.train", ""),
    ],
)
def test_the_command_of_a_rank_is_known_where_it_is_the_worker_and_only_there(
    monkeypatch: pytest.MonkeyPatch, words: str, worker: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["/env/bin/torchrun", "--rdzv-backend=ryzen", *words.split()])
    assert " ".join(arguments.read(PARAMETERS).worker) == worker


def test_a_launcher_that_is_no_torchrun_founds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mine.py", "--no-python", "ryzen-worker", "train.py"])
    assert arguments.read(PARAMETERS).worker == ()
