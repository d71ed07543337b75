"""Who speaks: attributes of host, Kubernetes and Slurm that stand on everything a process exports."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import ryzen_protos
from ryzen_telemetry.catalogue import Service

FROM_ENVIRONMENT = {
    "k8s.pod.name": ("K8S_POD_NAME", "POD_NAME"),
    "k8s.namespace.name": ("K8S_NAMESPACE_NAME", "POD_NAMESPACE"),
    "k8s.node.name": ("K8S_NODE_NAME", "NODE_NAME"),
    "k8s.container.name": ("K8S_CONTAINER_NAME",),
    "k8s.cluster.name": ("K8S_CLUSTER_NAME",),
    "ryzen.slurm.job.id": ("SLURM_JOB_ID",),
    "ryzen.slurm.job.name": ("SLURM_JOB_NAME",),
    "ryzen.slurm.partition": ("SLURM_JOB_PARTITION",),
    "ryzen.slurm.cluster": ("SLURM_CLUSTER_NAME",),
}
"""Kubernetes tells a container nothing by itself: these are what its downward API is mostly given as."""


def attributes(
    service: Service,
    node: str = "",
    environ: Mapping[str, str] = os.environ,
    machine_id: Path = Path("/etc/machine-id"),
) -> dict[str, str | int]:
    """`node`: the agent's. What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say wins (the SDK reads them)."""
    host = socket.gethostname()
    found: dict[str, str | int] = {
        "service.version": ryzen_protos.__version__,
        "service.instance.id": node or f"{host}:{os.getpid()}",
        "host.name": host,
        "process.pid": os.getpid(),
    }
    if not environ.get("OTEL_SERVICE_NAME"):
        found["service.name"] = f"ryzen-{service}"
    if node:
        found["ryzen.node"] = node
    try:
        found["host.id"] = machine_id.read_text().strip()
    except OSError:
        found.pop("host.id", None)
    for name, variables in FROM_ENVIRONMENT.items():
        given = next((environ[each] for each in variables if environ.get(each)), "")
        if given:
            found[name] = given
    return found
