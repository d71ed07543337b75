"""The commands of a scenario file that say what the ranks of a node do, and what is found out about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from ryzen_coordinator.core.events import CheckKind, Collective, Probe, ProgressSeen, RankSeen, Standing


def replace_rank(rank: RankSeen, **changes: Any) -> RankSeen:
    return rank._replace(**changes)


def _collective(word: str, done: bool) -> Collective:
    group, number, operation, *shape = word.split(":")
    return Collective(group, int(number), operation, shape[0] if shape else "", done)


class RankCommands:
    """Part of a Scenario, which has the nodes and carries their reports."""

    nodes: dict[str, Any]
    now_s: float

    def _change(self, node: Any, **changes: Any) -> None:
        raise NotImplementedError

    def _ranks(self, node: Any, change: Any) -> None:
        raise NotImplementedError

    def _report(self, node: Any) -> None:
        raise NotImplementedError

    def do_step(self, *names: str, step: str = "1", done: str = "1", section: str = "") -> None:
        """All ranks of the nodes are in `step` now, having done `done` of this generation."""
        for name in names:
            node = self.nodes[name]
            node.began_s = self.now_s
            record = ProgressSeen(int(step), section, 0.0, 0.0, int(done))
            node.rows = {rank.rank: record for rank in node.job.ranks}
            self._report(node)

    def do_exit(self, name: str, rank: str, code: str = "1", error: str = "", ago: str = "0") -> None:
        """A rank of the node exits; code=? could not be read; error=Type:message."""
        kind, _, message = error.partition(":")
        changes: dict[str, Any] = {
            "life": "exited",
            "exit_code": None if code == "?" else int(code),
            "ended_ago_s": float(ago),
            "error_type": kind,
            "error_message": message,
        }
        chosen = {int(number) for number in rank.split(",")}
        self._ranks(self.nodes[name], lambda seen: replace_rank(seen, **changes) if seen.rank in chosen else seen)

    def do_raise(self, name: str, rank: str, error: str) -> None:
        """An exception is stamped in a rank's page."""
        kind, _, message = error.partition(":")
        self._ranks(
            self.nodes[name],
            lambda seen: (
                replace_rank(seen, life="failing", error_type=kind, error_message=message)
                if seen.rank == int(rank)
                else seen
            ),
        )

    def do_freeze(self, name: str, rank: str, state: str = "T") -> None:
        self._ranks(
            self.nodes[name],
            lambda seen: replace_rank(seen, process_state=state) if seen.rank == int(rank) else seen,
        )

    def do_oom(self, name: str, rank: str) -> None:
        """The kernel kills a rank for want of memory."""
        self._ranks(
            self.nodes[name],
            lambda seen: (
                replace_rank(seen, life="exited", exit_code=-9, oom_killed=True) if seen.rank == int(rank) else seen
            ),
        )

    def do_section(self, node: str, rank: str, name: str) -> None:
        """One rank enters a section."""
        rows = self.nodes[node].rows
        rows[int(rank)] = rows[int(rank)]._replace(section=name)
        self._report(self.nodes[node])

    def do_ahead(self, name: str, rank: str, step: str, done: str) -> None:
        """One rank alone is elsewhere."""
        self.nodes[name].rows[int(rank)] = ProgressSeen(int(step), "", 0.0, 0.0, int(done))
        self._report(self.nodes[name])

    def do_probe(
        self, name: str, rank: str, frozen: str = "0", at: str = "", entered: str = "", done: str = "", busy: str = "no"
    ) -> None:
        """What the agent finds of some ranks: entered=GROUP:NUMBER:OPERATION[:SHAPE] waits there, at=PLACE does not."""
        node = self.nodes[name]
        entries = [_collective(word, False) for word in entered.split() if word]
        entries += [_collective(word, True) for word in done.split() if word]
        place = at or "all_reduce (torch/distributed/distributed_c10d.py:3252)"
        stack = sum(map(ord, place))
        probe = Probe(
            1, 0.0, stack, float(frozen), busy == "yes", not at, recorder=bool(entries), collectives=tuple(entries)
        )
        chosen = {int(number) for number in rank.split(",")}
        assert node.job is not None
        node.job = replace(node.job, stacks=tuple(dict([*node.job.stacks, (stack, place)]).items()))
        self._ranks(node, lambda seen: replace_rank(seen, probe=probe) if seen.rank in chosen else seen)

    def do_groups(self, name: str, **named: str) -> None:
        """Members of the process groups."""
        groups = tuple((group, tuple(int(rank) for rank in ranks.split(","))) for group, ranks in named.items())
        self._change(self.nodes[name], groups=groups)

    def do_skip(self, name: str, step: str, back_to: str = "", why: str = "spike") -> None:
        """The gradient guard has not done these steps; back_to=STEP: it wants to resume from there."""
        node = self.nodes[name]
        skipped = tuple((int(each), why != "spike") for each in step.split(","))
        self._change(node, skipped=skipped, rollback_wanted=int(back_to) if back_to else None)

    def do_digests(self, name: str, step: str, are: str) -> None:
        """What the replica check of each rank of the node found after the step."""
        node = self.nodes[name]
        checks = tuple(((place,), 0, ((int(step), int(each)),)) for place, each in enumerate(are.split(",")))
        self._change(node, checks=checks)

    def do_stands(self, name: str, kind: str, rank: str, agreed: str = "0", differed: str = "0",
                  clean: str = "0", step: str = "0", answer: str = "0") -> None:  # fmt: skip
        """How checks of their own arithmetic of ranks of the node stand."""
        node = self.nodes[name]
        assert node.job is not None
        kinds: dict[str, CheckKind] = {"answer": "known answer", "recompute": "recomputation"}
        standing = Standing(
            kinds.get(kind, cast(CheckKind, kind)),
            int(agreed),
            int(differed),
            int(clean),
            int(step),
            int(answer),
            key=1,
        )
        chosen = {int(number) for number in rank.split(",")}
        places = tuple(place for place, seen in enumerate(node.job.ranks) if seen.rank in chosen)
        self._change(node, self_checks=((places, standing),))
        self._change(node, self_checks=())

    def do_marks(self, name: str, step: str, counts: str) -> None:
        """Collectives that each rank of the node had begun when the step began."""
        node = self.nodes[name]
        each = dict(enumerate(int(count) for count in counts.split(",")))
        node.marks = {rank.rank: ((int(step), each[rank.local_rank]),) for rank in node.job.ranks}
        self._report(node)
