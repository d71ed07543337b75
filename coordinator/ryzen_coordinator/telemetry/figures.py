"""The core's state as samples: sums over ranks, counts of nodes. 16,384 ranks are as many series as eight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from ryzen_coordinator.core import ledger, pace
from ryzen_coordinator.core.detectors.stall import silent_nodes
from ryzen_coordinator.core.phases import JOB_PHASES, NODE_PHASES, OVER, WORLD_UP
from ryzen_coordinator.core.state import Cluster, Job
from ryzen_telemetry.records import Sample, Value

Labels = tuple[tuple[str, Value], ...]
CheckpointAges = Mapping[tuple[str, str], float]
"""Of each job: since its newest checkpoint was first heard of."""


def of_cluster(cluster: Cluster, ages: CheckpointAges) -> Iterator[Sample]:
    """Everything but what is counted as it happens."""
    yield from of_nodes(cluster)
    for key, job in cluster.jobs.items():
        yield from of_job(cluster, job, ages.get(key))
    opened = sum(each.state != "closed" for each in cluster.incidents.values())
    yield Sample("ryzen.incident.open", float(opened))


def of_nodes(cluster: Cluster) -> Iterator[Sample]:
    phases = Counter(dict.fromkeys(NODE_PHASES, 0))
    standing: Counter[tuple[str, str]] = Counter()
    connected = silent = 0
    for node in cluster.nodes.values():
        phases[node.phase] += 1
        connected += node.connected
        silent += cluster.silent_node(node.name)
        standing.update({(each.name, each.severity) for each in node.health.conditions})
    for phase, count in phases.items():
        yield Sample("ryzen.node.count", float(count), (("ryzen.node.phase", phase),))
    for (name, severity), count in standing.items():
        labels = (("ryzen.condition", name), ("ryzen.severity", severity))
        yield Sample("ryzen.node.conditions", float(count), labels)
    yield Sample("ryzen.node.connected", float(connected))
    yield Sample("ryzen.node.silent", float(silent))


def of_job(cluster: Cluster, job: Job, checkpoint_age_s: float | None) -> Iterator[Sample]:
    labels: Labels = (("ryzen.job", job.run_id), ("ryzen.user", job.user))
    for phase in JOB_PHASES:
        yield Sample("ryzen.job.phase", float(phase == job.phase), (*labels, ("ryzen.job.phase", phase)))
    yield Sample("ryzen.job.restart", float(job.restarts), labels)
    times = ledger.of_job(job, cluster.now_s)
    if times.ettr is not None:
        yield Sample("ryzen.job.ettr", times.ettr, labels)
    for state, gpu_s in times.gpu_s.items():
        yield Sample("ryzen.job.gpu_time", gpu_s, (*labels, ("ryzen.time.state", state)))
    if job.phase in OVER:
        return
    yield Sample("ryzen.job.generation", float(job.generation), labels)
    if job.world is not None:
        yield Sample("ryzen.job.world.size", float(job.world.ranks), labels)
        yield Sample("ryzen.job.nodes", float(len(job.world.nodes)), labels)
    if (step := job.table.top_step()) is not None:
        yield Sample("ryzen.job.step", float(step), labels)
    if job.checkpoint_step is not None:
        yield Sample("ryzen.job.checkpoint.step", float(job.checkpoint_step), labels)
    if checkpoint_age_s is not None:
        yield Sample("ryzen.job.checkpoint.age", checkpoint_age_s, labels)
    if job.phase in WORLD_UP and job.sends_progress:
        sweep = job.table.sweep(job.gaps, silent_nodes(cluster, job), cluster.settings, cluster.now_s)
        yield Sample("ryzen.job.quiet", sweep.quiet_s, labels)
        yield Sample("ryzen.job.stall.limit", sweep.limit_s, labels)
    if job.replicas.agreed_step >= 0:
        yield Sample("ryzen.job.replica.agreed_step", float(job.replicas.agreed_step), labels)
        yield Sample("ryzen.job.replica.disagreement", float(job.replicas.difference is not None), labels)
    if (found := pace.of_job(job)) is not None:
        yield from of_pace(found, labels)


def of_pace(found: pace.JobPace, labels: Labels) -> Iterator[Sample]:
    yield Sample("ryzen.job.step.duration", found.step_s, labels)
    known = {
        "ryzen.job.throughput": found.tokens_per_s or None,
        "ryzen.job.samples": found.samples_per_s or None,
        "ryzen.job.flops": found.flops_per_s or None,
        "ryzen.job.mfu": found.mfu,
        "ryzen.job.hfu": found.hfu,
        "ryzen.job.learning_rate": found.learning_rate,
        "ryzen.job.communication.share": found.communication,
    }
    if found.communication is not None:
        known["ryzen.job.collective.duration.p50"] = found.all_reduce_p50_s
        known["ryzen.job.collective.duration.p99"] = found.all_reduce_p99_s
    if found.loss is not None:
        known["ryzen.job.loss.min"] = found.loss.least
        known["ryzen.job.loss.median"] = found.loss.median
        known["ryzen.job.loss.max"] = found.loss.most
        known["ryzen.job.loss.not_finite"] = float(len(found.loss.not_finite))
    for name, value in known.items():
        if value is not None:
            yield Sample(name, value, labels)
    for section, share in found.sections.items():
        yield Sample("ryzen.job.section.share", share, (*labels, ("ryzen.section", section)))
