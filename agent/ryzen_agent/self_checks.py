"""What the ranks' checks of their own arithmetic say, as the coordinator's messages: when it has changed, or again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from ryzen_agent.job import Job
from ryzen_protos.beat_self_checks import SelfCheck
from ryzen_protos.v1 import node_pb2

AGAIN_EVERY_S = 10.0
"""They are told again after so long though nothing has changed: a coordinator may have come back meanwhile."""

Standing: TypeAlias = dict[SelfCheck, list[int]]
"""Places in the job's newest ranks, by how a check of theirs stands: mostly all of them alike."""


class SelfCheckNews:
    """Which of them one stream has been told of."""

    def __init__(self) -> None:
        self._told: dict[Job, tuple[float, Standing]] = {}

    def take(self, jobs: Iterable[Job], now_s: float) -> dict[Job, list[node_pb2.SelfChecks]]:
        """Those that are due."""
        due = {}
        told = {}
        for job in jobs:
            standing = _standing(job)
            at_s, known = self._told.get(job, (-AGAIN_EVERY_S, {}))
            if standing and (standing != known or now_s - at_s >= AGAIN_EVERY_S):
                due[job] = [_message(found, places) for found, places in standing.items()]
                at_s = now_s
            told[job] = (at_s, standing)
        self._told = told
        return due


def _standing(job: Job) -> Standing:
    standing: Standing = {}
    for place, rank in enumerate(job.newest()):
        for found in rank.page.self_checks.values() if rank.page is not None else ():
            standing.setdefault(found, []).append(place)
    return standing


def _message(found: SelfCheck, places: list[int]) -> node_pb2.SelfChecks:
    return node_pb2.SelfChecks(
        rows=places, kind=found.kind, agreed=found.agreed, differed=found.differed,
        clean_step=found.clean, step=found.step, digest=found.digest, key=found.key,
    )  # fmt: skip
