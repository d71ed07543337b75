"""The GPU collectors in a process of their own, which loads whatever `libnvidia-ml.so.1` stands in LD_LIBRARY_PATH.

Run as a program it reads commands, one JSON object a line: {"id": 1, "collector": "gpu", "looks": 2}; each collector
has a thread of its own, as in the agent, so that one that hangs does not keep the others from answering.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.model import Condition, Event, Reading, Sample
from ryzen_agent.health.settings import HealthSettings

SEEN_S = 0.01
"""The mock looks for a new state once a millisecond."""

ANSWER_S = 60.0
"""Bound of an answer that does come, on a machine that is busy with something else."""


class Looker:
    """The other process, as a test sees it."""

    def __init__(self, folder: Path, settings: dict[str, Any], environment: dict[str, str]) -> None:
        self._answers: dict[int, Queue[dict[str, Any]]] = {}
        self._asked = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(settings, default=str)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "LD_LIBRARY_PATH": str(folder), "NVIDIA_VISIBLE_DEVICES": "", **environment},
        )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    def ask(self, collector: str, looks: int = 1) -> int:
        """Let it look; `answer` has what came of it."""
        self._asked += 1
        self._answers[self._asked] = Queue()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._asked, "collector": collector, "looks": looks}) + "\n")
        self._process.stdin.flush()
        return self._asked

    def answer(self, asked: int, wait_s: float = ANSWER_S) -> Reading:
        """The last look's reading. Raises TimeoutError, NothingHereError, or RuntimeError for a look that failed."""
        try:
            said = self._answers[asked].get(timeout=wait_s)
        except Empty:
            raise TimeoutError("no answer") from None
        if "nothing" in said:
            raise NothingHereError(said["nothing"])
        if "error" in said:
            raise RuntimeError(said["error"])
        return Reading(
            tuple(Condition(**each) for each in said["conditions"]),
            tuple(Event(**each) for each in said["events"]),
            tuple(Sample(name, value, tuple(map(tuple, more))) for name, value, more in said["samples"]),
            tuple(map(tuple, said["devices"])),
            tuple(map(tuple, said["processes"])),
        )

    def look(self, collector: str = "gpu", looks: int = 1) -> Reading:
        """So many looks; what the last one has seen."""
        return self.answer(self.ask(collector, looks))

    def end(self) -> None:
        """The collectors are closed as the agent does it at its end."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(ANSWER_S)
        finally:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Without a word, as in a hung driver or by the kernel."""
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._answers[said["id"]].put(said)


@contextlib.contextmanager
def looking(folder: Path, environment: dict[str, str] | None = None, **settings: Any) -> Iterator[Looker]:
    """A process that looks at the driver in `folder`. `settings`: of `HealthSettings`; sysfs is an empty folder."""
    looker = Looker(folder, {"sys": folder / "sys", **settings}, environment or {})
    try:
        yield looker
    finally:
        looker.kill()


def of(reading: Reading, name: str) -> Condition:
    found = [each for each in reading.conditions if each.name == name]
    assert len(found) == 1, reading.conditions
    return found[0]


def sample(reading: Reading, name: str, uuid: str, **more: str) -> float:
    wanted = {("hw.id", uuid), *((key.replace("_", ".", 1), value) for key, value in more.items())}
    found = [each.value for each in reading.samples if each.name == name and wanted <= set(each.attributes)]
    assert len(found) == 1, (name, found)
    return found[0]


def reasons(reading: Reading, uuid: str) -> dict[object, float]:
    """Why its clocks are held back: 1; were held back: 0."""
    ours = [each for each in reading.samples if each.name == "ryzen.gpu.clock.event_reason"]
    told = [(dict(each.attributes), each.value) for each in ours]
    return {given["ryzen.reason"]: value for given, value in told if given["hw.id"] == uuid}


# ---------------------------------------------------------------- the other process


class _Worker:
    """One collector with its thread."""

    def __init__(self, collector: Any, tell: Any) -> None:
        self.collector = collector
        self.commands: Queue[dict[str, Any] | None] = Queue()
        self._tell = tell
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (command := self.commands.get()) is not None:
            said: dict[str, Any] = {}
            try:
                for _ in range(command["looks"]):
                    said = dataclasses.asdict(self.collector.collect())
            except NothingHereError as error:
                said = {"nothing": str(error)}
            except Exception as error:  # noqa: BLE001 - told to the test
                said = {"error": repr(error)}
            self._tell({"id": command["id"], **said})
        self.collector.close()


def main() -> None:
    from ryzen_agent.health.collectors import COLLECTORS

    given = json.loads(sys.argv[1])
    for name in ("sys", "state_folder"):
        if given.get(name) is not None:
            given[name] = Path(given[name])
    settings = HealthSettings(**given)
    lock = threading.Lock()

    def tell(said: dict[str, Any]) -> None:
        with lock:
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()

    made = [maker(settings) for maker in COLLECTORS]
    workers = {each.name: _Worker(each, tell) for each in made if each.name.startswith(("gpu", "amd"))}
    for line in sys.stdin:
        command = json.loads(line)
        workers[command["collector"]].commands.put(command)
    for worker in workers.values():
        worker.commands.put(None)
    for worker in workers.values():
        worker.thread.join(5.0)


if __name__ == "__main__":
    main()
