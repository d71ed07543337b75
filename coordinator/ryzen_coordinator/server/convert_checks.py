"""What ranks say of their checks of their own arithmetic, from the wire into the core's types and bounds."""

from __future__ import annotations

from ryzen_coordinator.core.events import CheckKind, SelfCheckSeen, Standing
from ryzen_protos import beat_self_checks
from ryzen_protos.v1 import node_pb2 as pb

KINDS: dict[int, CheckKind] = {
    beat_self_checks.KNOWN_ANSWER: "known answer",
    beat_self_checks.RECOMPUTE: "recomputation",
    beat_self_checks.REPLAY: "replay",
    beat_self_checks.NEIGHBOURS: "neighbours",
}
_STEP_MAX = 1 << 62


def self_checks(message: pb.ObservedJob, ranks: int) -> tuple[SelfCheckSeen, ...]:
    """What is of no kind known here, or of a place that has no rank, is left out."""
    found = (_one(each, ranks) for each in message.self_checks[: len(KINDS) * ranks])
    return tuple(each for each in found if each is not None)


def _one(each: pb.SelfChecks, ranks: int) -> SelfCheckSeen | None:
    places = tuple(each.rows)
    if each.kind not in KINDS or not places or len(places) > ranks or max(places) >= ranks:
        return None
    clean_step, step = min(each.clean_step, _STEP_MAX), min(each.step, _STEP_MAX)
    kind = KINDS[each.kind]
    return places, Standing(kind, each.agreed, each.differed, clean_step, step, each.digest, each.key)
