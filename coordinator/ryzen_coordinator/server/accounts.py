"""The ledger as people and tools are shown it: GPU-seconds by state, and what they cost where every GPU has a price.

An incident's GPU-seconds are kept for the job as a whole, so they are priced at the mean of the job's GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping

from ryzen_coordinator.core import ledger
from ryzen_coordinator.core.state import Cluster, Incident, Job
from ryzen_protos.v1 import operator_pb2 as pb

Prices = Mapping[str, float]
"""What an hour of a GPU costs, by model; "*": of any other."""

_HOUR_S = 3600.0


def cluster_ledger(cluster: Cluster, prices: Prices, now_s: float, run_id: str = "") -> pb.Ledger:
    """Of every job, or of those of this run id."""
    chosen = [job for _, job in sorted(cluster.jobs.items()) if run_id in {"", job.run_id}]
    return pb.Ledger(jobs=[job_ledger(cluster, job, prices, now_s) for job in chosen])


def job_time(job: Job, now_s: float) -> pb.TimeSpent:
    """Of a whole job, without its price: for the status."""
    times = ledger.of_job(job, now_s)
    return pb.TimeSpent(gpu_s=_rounded(times.gpu_s), wall_s=times.wall_s, ettr=times.ettr)


def job_ledger(cluster: Cluster, job: Job, prices: Prices, now_s: float) -> pb.JobLedger:
    nodes = [_node(cluster, name, gpus, gpu_s, prices) for name, (gpus, gpu_s) in ledger.of_nodes(job, now_s).items()]
    time = job_time(job, now_s)
    spent_s = sum(time.gpu_s.values())
    if nodes and all(node.time.HasField("cost") for node in nodes):
        time.cost = sum(node.time.cost for node in nodes)
    hour = time.cost * _HOUR_S / spent_s if time.HasField("cost") and spent_s else None
    incidents = [
        _incident(incident, hour)
        for _, incident in sorted(cluster.incidents.items())
        if incident.key == job.key and incident.gpu_s and incident.opened_unix_s >= job.born_s + cluster.unix_offset_s
    ]
    held = ledger.of_job(job, now_s).gpus
    return pb.JobLedger(
        run_id=job.run_id,
        user=job.user,
        phase=job.phase,
        gpus=held,
        time=time,
        nodes=nodes,
        incidents=incidents,
    )


def _node(cluster: Cluster, name: str, gpus: int, gpu_s: dict[str, float], prices: Prices) -> pb.NodeLedger:
    node = cluster.nodes.get(name)
    model = node.hello.device_model if node is not None else ""
    hour = prices.get(model, prices.get("*"))
    return pb.NodeLedger(node=name, gpus=gpus, device_model=model, time=_time(gpu_s, hour))


def _incident(incident: Incident, hour: float | None) -> pb.IncidentLedger:
    verdict = incident.verdict
    return pb.IncidentLedger(
        id=incident.id,
        fault_class=verdict.fault_class if verdict is not None else "",
        action=verdict.action if verdict is not None else "",
        nodes=verdict.nodes if verdict is not None else (),
        opened_unix_s=incident.opened_unix_s,
        time=_time(incident.gpu_s, hour),
    )


def _time(gpu_s: dict[str, float], hour: float | None) -> pb.TimeSpent:
    cost = sum(gpu_s.values()) / _HOUR_S * hour if hour is not None else None
    return pb.TimeSpent(gpu_s=_rounded(gpu_s), cost=cost)


def _rounded(gpu_s: dict[str, float]) -> dict[str, float]:
    """To the millisecond: sums of floats would else show their last digits."""
    return {state: round(seconds, 3) for state, seconds in gpu_s.items()}
