"""What everything at its defaults costs a training step, together: sections, beats, guard, communication hook, first
batch, MFU, all four checks for silent corruption, and an agent with a coordinator that reads and reports.

The steps are taken by scripts/overhead.py, in pairs. What is periodic in them (a digest every 20 steps, a known answer
every 100, recomputations that come round in 80) comes at the same place of each block of 400, so: the median of the
differences at one place over all blocks, and the mean of these medians over the places. Thus no mean is taken over
a noisy machine, and nothing that is seldom is lost in a median. Only the replay comes once in 500 steps: what it adds
is the median over replayed pairs, divided by 500. Launches make the two sides in either order in turn, for where a
model's memory lies matters too.

torch's flight recorder is on by default and so on both sides. The agent's processor time is no rank's: it stands by
itself, and beside the ranks' in the sum.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from ryzen_lab.bench.document import conditions
from ryzen_lab.bench.standing import standing
from ryzen_lab.cluster import Layout
from ryzen_lab.errors import LabError
from ryzen_lab.record import cpu_s
from ryzen_lab.scripts import overhead

RANKS = 2
BLOCKS = 1
STEPS = 400
"""Of a block: after so many all checks but the replay come at the same places again."""
REPLAY_EVERY = 500
"""The default of StepReplay, once it has learnt."""
MODELS: dict[str, tuple[str, ...]] = {
    "demo": (),
    "larger": ("model.layers=4", "model.width=128", "model.sequence_length=128"),
}
"""What is set beside `configs/demo.yaml`: most of what Ryzen does in a step does not grow with the model, so the share
depends on it. The larger one is as large as two of its ranks on two cores can be measured in minutes."""
_CONFIG = Path(__file__).resolve().parents[3] / "configs" / "demo.yaml"
_LAUNCH_S_MAX = 600.0
_LOOK_S = 0.25
_NORMAL_95 = 1.96
PROCESSOR, CLOCK = 0, 1


Pair = tuple[tuple[float, float], tuple[float, float]]
"""A step with and without: seconds of the processor and of the clock."""


class Found(TypedDict):
    """What a rank wrote: scripts/overhead.py says what each is."""

    replays: list[Pair | None]
    blocks: list[list[Pair | None]]
    window: tuple[float, float]
    collectives: dict[str, list[int]]
    parameters: int


@dataclass
class Launch:
    """One job: what each rank wrote, and the agent's processor time, looked at from outside."""

    ranks: list[Found]
    agent: list[tuple[float, float]] = field(default_factory=list)
    """Moment on the monotonic clock, and seconds of the processor until then."""

    def agent_share(self) -> float:
        """Of a core, while steps were timed."""
        began, ended = self.ranks[0]["window"]
        within = [each for each in self.agent if began <= each[0] <= ended]
        if len(within) < 2:
            return 0.0
        return (within[-1][1] - within[0][1]) / (within[-1][0] - within[0][0])


@dataclass
class Share:
    """Of a plain step: what comes on top, with its 95 % interval: the standard error of a mean over the places, which
    is too wide by as much as they rightly differ."""

    extra: float
    low: float
    high: float


async def measure(
    launches: int, models: Iterable[str] = tuple(MODELS), blocks: int = BLOCKS, steps: int = STEPS
) -> dict[str, list[Launch]]:
    """By model. Raises LabError."""
    return {
        name: [await _launch(MODELS[name], blocks, steps, plain_first=bool(number % 2)) for number in range(launches)]
        for name in models
    }


async def _launch(sets: tuple[str, ...], blocks: int, steps: int, *, plain_first: bool) -> Launch:
    with TemporaryDirectory() as folder:
        script = [overhead.__file__, str(_CONFIG), folder, str(blocks), str(steps), str(int(plain_first)), *sets]
        # without the lab's hook: it would count, and tell of, the steps of one side only
        layout = Layout(1, RANKS, script, driver=True, gpu_interval_s=None, environment={"PYTHONPATH": ""})
        async with standing(layout) as (cluster, _):
            node = cluster.nodes[0]
            cluster.start_agent(node)
            cluster.start_torchrun(node)
            assert node.agent is not None  # noqa: S101 - it was started above
            assert node.torchrun is not None  # noqa: S101
            launch = Launch([])
            deadline_s = time.monotonic() + _LAUNCH_S_MAX
            while node.torchrun.died_ns is None and time.monotonic() < deadline_s:
                launch.agent.append((time.monotonic(), cpu_s(node.agent.pid)))
                await asyncio.sleep(_LOOK_S)
            notes = [Path(folder) / f"rank-{rank}.json" for rank in range(RANKS)]
            if not all(each.exists() for each in notes):
                raise LabError(f"nothing was measured\n{cluster.tails()}")
            launch.ranks = [json.loads(each.read_text()) for each in notes]
            return launch


def share(launches: list[Launch], kind: int) -> Share:
    """What a step costs more, ranks together, of a plain step's median. Raises LabError where a place has no pair."""
    places = list(zip(*(pairs for launch in launches for pairs in _blocks(launch, kind)), strict=True))
    differences = [[having - without for having, without in filter(None, each)] for each in places]
    plain = statistics.median(without for each in places for _, without in filter(None, each))
    if not all(differences):
        raise LabError("a step was replayed in every block at the same place")
    seldom = replay_share(launches, kind)

    medians = [statistics.median(each) for each in differences]
    extra = statistics.fmean(medians) / plain + seldom
    error = statistics.stdev(medians) / len(medians) ** 0.5 / plain
    return Share(extra, extra - _NORMAL_95 * error, extra + _NORMAL_95 * error)


def replay_share(launches: list[Launch], kind: int) -> float:
    """What replays add to a step on average, once they come as seldom as they do."""
    pairs = [pair for launch in launches for rank in launch.ranks for pair in rank["replays"] if pair]
    if not pairs:
        return 0.0
    return statistics.median(having[kind] / without[kind] - 1 for having, without in pairs) / REPLAY_EVERY


def _blocks(launch: Launch, kind: int) -> list[list[tuple[float, float] | None]]:
    """Seconds with and without at each place of each block, of all ranks together; None where one has no pair."""
    found = []
    for parts in zip(*(rank["blocks"] for rank in launch.ranks), strict=True):
        places = [[pair for pair in each if pair] for each in zip(*parts, strict=True)]
        found.append([_sum(each, kind) if len(each) == len(parts) else None for each in places])
    return found


def _sum(pairs: list[Pair], kind: int) -> tuple[float, float]:
    return sum(having[kind] for having, _ in pairs), sum(without[kind] for _, without in pairs)


def collectives(launches: list[Launch], side: str) -> list[int]:
    """The different numbers of collectives that a step of this side had, on any rank."""
    return sorted({each for launch in launches for rank in launch.ranks for each in rank["collectives"][side]})


def table(models: dict[str, list[Launch]], command: str) -> str:
    """The two sides, and what one has more, for each model."""
    launches = [launch for each in models.values() for launch in each]
    agent = statistics.median(each.agent_share() for each in launches)
    sizes = [f"{each[0].ranks[0]['parameters']:,} ({name})" for name, each in models.items()]
    blocks = sum(len(each.ranks[0]["blocks"]) for each in launches)
    replays = sum(len(each.ranks[0]["replays"]) for each in launches)
    pairs = sum(len(_pairs(each)) for each in models.values())
    sets = "; ".join(" ".join(each) for each in MODELS.values() if each)
    lines = [
        "## What everything at its defaults costs a step",
        "",
        f"{conditions(command)} `configs/demo.yaml` with activation",
        f"checkpointing, as it stands and larger ({sets}): {' and '.join(sizes)} parameters.",
        f"{RANKS} ranks, DDP on gloo; one node with an agent and a coordinator. Each step of the reference trainer",
        "beside the same step without Ryzen, in turn in the same processes:",
        f"{pairs // RANKS} of each in {blocks} blocks of {len(launches)} launches. A replay counts as one step in",
        f"{REPLAY_EVERY} ({replays} seen). Interval: 95 %.",
        "",
        "| model | a step's | plain, median ms | with Ryzen | on top | interval |",
        "|---|---|---|---|---|---|",
    ]
    for model, each in models.items():
        for name, kind in (("processor time, a rank", PROCESSOR), ("time", CLOCK)):
            found = share(each, kind)
            without, having = (1e3 * statistics.median(pair[side][kind] for pair in _pairs(each)) for side in (1, 0))
            lines.append(
                f"| {model} | {name} | {without:.2f} | {having:.2f} | {found.extra:.2%} "
                f"| {found.low:.2%} to {found.high:.2%} |"
            )
    lines += [
        "",
        f"The agent beside it, one a node: {agent:.2%} of a core. Collectives of a step, by the flight recorder:",
        f"{', '.join(_collectives_of(*each) for each in models.items())}.",
    ]
    return "\n".join(lines)


def _collectives_of(model: str, launches: list[Launch]) -> str:
    plain, having = (", ".join(map(str, collectives(launches, side))) for side in ("without", "with"))
    return f"{plain} plain and {having} with Ryzen ({model})"


def _pairs(launches: list[Launch]) -> list[Pair]:
    """All that there are, of all ranks."""
    return [pair for launch in launches for rank in launch.ranks for part in rank["blocks"] for pair in part if pair]
