"""Whether the final bits of a script can be compared after a restart at all.

The reference trainer resumes bit for bit, by design. Of any other script that is not known: many resume right, yet
with other bits (DDP sums its first gradients in other buckets than the later ones, for one). So before the trial
the script is run undisturbed with one planned restart in the middle, and once without, by stock torchrun alone on
one node with as many ranks; the digests compare if those two are the same.

The runs must not see each other's checkpoints. Each has a working directory of its own; and what a run makes at a
path that its arguments name, and that was not there or an empty folder before, is removed after it.
"""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from ryzen_lab import measure
from ryzen_lab.cluster import Cluster, Layout
from ryzen_lab.errors import LabError
from ryzen_lab.observer import Observer
from ryzen_lab.place import Place
from ryzen_lab.settings import TrialSettings, script_command

_MIDDLE = 0.5


@dataclass(frozen=True)
class Comparison:
    """Digests of the script's final parameters without a restart and with a planned one."""

    undisturbed: str | None
    restarted: str | None

    @property
    def comparable(self) -> bool:
        return self.undisturbed is not None and self.undisturbed == self.restarted


async def compare(settings: TrialSettings) -> Comparison:
    """Run the script twice. Raises LabError where it does not get through even undisturbed."""
    return Comparison(await _digest(settings, restart=False), await _digest(settings, restart=True))


class ScriptPaths:
    """Absolute paths in the arguments of a script that were free before its run, to be freed again after it."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        values = [each.rpartition("=")[2] for each in arguments]
        self._paths = [Path(each) for each in values if each.startswith("/") and _is_free(Path(each))]

    def free(self) -> None:
        """Remove what has been made there since; an empty folder stays one."""
        for path in self._paths:
            if path.is_dir() and not path.is_symlink():
                for entry in path.iterdir():
                    _remove(entry)
            elif path.exists():
                path.unlink()


def _is_free(path: Path) -> bool:
    try:
        return not path.exists() or (path.is_dir() and not any(path.iterdir()))
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


async def _digest(settings: TrialSettings, *, restart: bool) -> str | None:
    paths = ScriptPaths(settings.arguments)
    ranks = settings.nodes * settings.ranks_per_node
    layout = Layout(nodes=1, ranks_per_node=ranks, script=script_command(settings), rdzv="c10d", bare=True)
    with Place() as place:
        observer = Observer(place.folder / "lab.sock")
        await observer.start()
        cluster = Cluster(layout, place.folder, place.lab_id, observer)
        try:
            cluster.start_torchrun(cluster.nodes[0])
            if restart:
                await _planned_restart(cluster, int(settings.steps * _MIDDLE), settings.timeout_s)
            await observer.until("the end of the undisturbed run", lambda: _ended(cluster), settings.timeout_s)
            if _exit_code(cluster) != 0:
                raise LabError(f"the script fails undisturbed, exit code {_exit_code(cluster)}\n{cluster.tails()}")
            return measure.state_digest(observer.record)[0]
        finally:
            await cluster.stop()
            await observer.stop()
            paths.free()


async def _planned_restart(cluster: Cluster, at_step: int, timeout_s: float) -> None:
    observer = cluster.observer
    what = f"step {at_step} of the run with a planned restart"
    await observer.until(what, lambda: observer.record.step() >= at_step or _ended(cluster), timeout_s)
    torchrun = cluster.nodes[0].torchrun
    if torchrun is None or torchrun.died_ns is not None:
        raise LabError(f"the script ended before step {at_step}: is --steps right for it?\n{cluster.tails()}")
    os.kill(torchrun.pid, signal.SIGTERM)
    await observer.until("torchrun to stop", lambda: _ended(cluster), timeout_s)
    await observer.until("its ranks to stop", lambda: not observer.record.alive(), timeout_s)
    cluster.start_torchrun(cluster.nodes[0])


def _ended(cluster: Cluster) -> bool:
    torchrun = cluster.nodes[0].torchrun
    return torchrun is not None and torchrun.died_ns is not None


def _exit_code(cluster: Cluster) -> int | None:
    torchrun = cluster.nodes[0].torchrun
    return torchrun.exit_code if torchrun is not None else None
