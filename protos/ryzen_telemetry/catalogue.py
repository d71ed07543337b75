"""Every metric, event, span and attribute that leaves a process of Ryzen, in one place.

docs/telemetry.md is made of it (scripts/telemetry_docs.py), and so are the instruments; a test holds what is really
emitted against it. Names are those of OpenTelemetry's semantic conventions (1.44) where there is one, else `ryzen.*`.

Cardinality, planned for 16,384 ranks: what there is of each rank or device leaves from its node's agent (8 ranks and 8
GPUs: some 700 series), the coordinator hands out sums over ranks and counts of nodes. A back end's usual limit is 2,000
attribute sets an instrument, which is also the SDK's.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["gauge", "updown", "counter", "histogram"]
"""`updown`: a level that may be added up over nodes (OpenTelemetry's UpDownCounter)."""
Service: TypeAlias = Literal["agent", "coordinator"]

BOTH: Final[tuple[Service, ...]] = ("agent", "coordinator")


class Metric(NamedTuple):
    """`unit`: UCUM, as OpenTelemetry wants it; `buckets`: upper bounds of a histogram, in its unit."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    by: tuple[Service, ...] = ("agent",)
    buckets: tuple[float, ...] = ()


class Group(NamedTuple):
    title: str
    metrics: tuple[Metric, ...]


class Event(NamedTuple):
    """A log record with an event name. `stream`: which of the JSON-lines files it goes to."""

    name: str
    stream: Literal["faults", "communication", "performance"]
    description: str
    attributes: tuple[str, ...]
    by: tuple[Service, ...] = ("agent",)


class Span(NamedTuple):
    name: str
    description: str
    by: tuple[Service, ...] = ("coordinator",)


_JOB = ("ryzen.job", "ryzen.user")
_RANK = (*_JOB, "ryzen.rank")
_HW, _GPU = ("hw.id", "hw.type", "hw.name"), ("hw.id", "hw.name")
_INCIDENT = (*_JOB, "ryzen.incident", "ryzen.incident.kind", "ryzen.generation", "ryzen.fault.class", "ryzen.action",
             "ryzen.ranks", "ryzen.nodes", "ryzen.confidence")  # fmt: skip
_C: Final[tuple[Service, ...]] = ("coordinator",)
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_STEPS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)

TRAINING = (
    Metric("ryzen.rank.step", "gauge", "{step}", "Step that the rank is in", _RANK),
    Metric("ryzen.rank.loss", "gauge", "1", "Newest loss that the rank reported", _RANK),
    Metric("ryzen.rank.gradient.norm", "gauge", "1", "Newest norm of the gradients", _RANK),
    Metric("ryzen.rank.learning_rate", "gauge", "1", "Newest learning rate", _RANK),
    Metric("ryzen.rank.tokens", "counter", "{token}", "Tokens trained on in this generation", _RANK),
    Metric("ryzen.rank.throughput", "gauge", "{token}/s", "Tokens a second over the newest steps", _RANK),
    Metric("ryzen.rank.mfu", "gauge", "1", "Model FLOPs utilisation over the newest steps", _RANK),
    Metric("ryzen.rank.step.duration", "gauge", "s", "Mean of the newest steps", _RANK),
    Metric("ryzen.rank.section.duration", "gauge", "s", "Mean time of a step in a section", (*_RANK, "ryzen.section")),
    Metric("ryzen.rank.step.skipped", "counter", "{step}", "Steps that the gradient guard has not done", _RANK),
    Metric("ryzen.job.step", "gauge", "{step}", "Highest step of any rank", _JOB, _C),
    Metric("ryzen.job.step.duration", "gauge", "s", "Mean of the newest steps, over ranks", _JOB, _C),
    Metric("ryzen.job.throughput", "gauge", "{token}/s", "Tokens a second of all ranks", _JOB, _C),
    Metric("ryzen.job.samples", "gauge", "{sample}/s", "Samples a second of all ranks", _JOB, _C),
    Metric("ryzen.job.flops", "gauge", "{FLOP}/s", "FLOPs a second by the model, of all ranks", _JOB, _C),
    Metric("ryzen.job.mfu", "gauge", "1", "Model FLOPs utilisation", _JOB, _C),
    Metric("ryzen.job.hfu", "gauge", "1", "Hardware FLOPs utilisation: what is computed twice counts twice", _JOB, _C),
    Metric("ryzen.job.section.share", "gauge", "1", "Share of a step in a section", (*_JOB, "ryzen.section"), _C),
    Metric("ryzen.job.loss.min", "gauge", "1", "Least loss of any rank", _JOB, _C),
    Metric("ryzen.job.loss.median", "gauge", "1", "Median of the ranks' losses", _JOB, _C),
    Metric("ryzen.job.loss.max", "gauge", "1", "Greatest loss of any rank", _JOB, _C),
    Metric("ryzen.job.loss.not_finite", "gauge", "{rank}", "Ranks whose loss is no finite number, up to 16", _JOB, _C),
    Metric("ryzen.job.learning_rate", "gauge", "1", "Newest learning rate", _JOB, _C),
)  # fmt: skip

COMMUNICATION = (
    Metric("ryzen.node.collective.duration.p50", "gauge", "s", "Median gradient sum of this node's ranks", _JOB),
    Metric("ryzen.node.collective.duration.p99", "gauge", "s", "99th percentile of the gradient sums here", _JOB),
    Metric("ryzen.node.communication.share", "gauge", "1", "Share of a step with a gradient sum under way", _JOB),
    Metric("ryzen.job.collective.duration.p50", "gauge", "s", "Median of the nodes' median gradient sum", _JOB, _C),
    Metric("ryzen.job.collective.duration.p99", "gauge", "s", "Longest of the nodes' 99th percentiles", _JOB, _C),
    Metric("ryzen.job.communication.share", "gauge", "1", "Share of a step with a gradient sum under way", _JOB, _C),
    Metric("ryzen.job.replica.agreed_step", "gauge", "{step}", "Newest step after which the replicas agreed", _JOB, _C),
    Metric("ryzen.job.replica.disagreement", "gauge", "1", "1 while the replicas' parameters differ", _JOB, _C),
)  # fmt: skip

HARDWARE = (
    Metric("ryzen.gpu.info", "gauge", "1", "Always 1: what the GPU is, to be joined by hw.id",
           (*_GPU, "hw.model", "hw.vendor", "ryzen.gpu.pci")),
    Metric("hw.gpu.utilization", "gauge", "1", "Share of time in which the GPU was busy", _HW),
    Metric("hw.gpu.memory.usage", "updown", "By", "Memory in use", _HW),
    Metric("hw.gpu.memory.limit", "updown", "By", "Memory there is", _HW),
    Metric("hw.power", "gauge", "W", "Power drawn", _HW),
    Metric("hw.energy", "counter", "J", "Energy used since the driver was loaded", _HW),
    Metric("hw.temperature", "gauge", "Cel", "Temperature", (*_HW, "hw.sensor_location")),
    Metric("hw.temperature.limit", "gauge", "Cel", "Limits that the maker set",
           (*_HW, "hw.sensor_location", "hw.limit_type")),
    Metric("hw.errors", "counter", "{error}", "Errors that a device counted since its driver was loaded",
           (*_HW, "error.type")),
    Metric("hw.status", "updown", "1", "1 for the state that the device is in", (*_HW, "hw.state")),
    Metric("hw.network.up", "updown", "1", "1 where the port or card has a link", ("hw.id", "hw.type")),
    Metric("hw.network.io", "counter", "By", "Traffic", ("hw.id", "hw.type", "network.io.direction")),
    Metric("hw.network.bandwidth.limit", "updown", "By/s", "Rate of the link", ("hw.id", "hw.type")),
    Metric("ryzen.gpu.xid", "counter", "{event}", "Xids in the kernel log since the agent's start",
           ("hw.id", "ryzen.xid", "ryzen.fault.class")),
    Metric("ryzen.gpu.clock.event_reason", "gauge", "1", "1 while the clocks are held back for this reason, 0 after",
           (*_GPU, "ryzen.reason")),
    Metric("ryzen.gpu.power.limit", "gauge", "W", "Power limit in force", _GPU),
    Metric("ryzen.gpu.temperature.margin", "gauge", "Cel", "Degrees left before the GPU slows down", _GPU),
    Metric("ryzen.gpu.ecc.lifetime", "counter", "{error}", "Memory errors of all its life", (*_GPU, "error.type")),
    Metric("ryzen.gpu.rows.remapped", "gauge", "{row}", "Rows of memory that are remapped", (*_GPU, "error.type")),
    Metric("ryzen.gpu.rows.pending", "gauge", "1", "1 where a remapping waits for a reset", _GPU),
    Metric("ryzen.gpu.rows.failed", "gauge", "1", "1 where there is no row left to remap to", _GPU),
    Metric("ryzen.gpu.retired_pages", "gauge", "{page}", "Pages of memory that are retired", _GPU),
    Metric("ryzen.gpu.sram.threshold_exceeded", "gauge", "1", "1 where SRAM errors passed the maker's threshold", _GPU),
    Metric("ryzen.gpu.nvlink.active", "gauge", "{link}", "NVLinks that are up", _GPU),
    Metric("ryzen.gpu.fabric.state", "gauge", "1", "State of the NVLink fabric (3: complete)", _GPU),
    Metric("ryzen.gpu.pcie.width", "gauge", "{lane}", "PCIe lanes in use", _GPU),
    Metric("ryzen.gpu.pcie.generation", "gauge", "1", "PCIe generation in use", _GPU),
    Metric("ryzen.gpu.pcie.replays", "counter", "{error}", "PCIe packets sent again", _GPU),
    Metric("ryzen.gpu.recovery_action", "gauge", "1", "Driver asks: 0 none, 1 reset, 2 reboot, 3 drain", _GPU),
    Metric("ryzen.gpu.mig", "gauge", "1", "1 where the GPU is partitioned", _GPU),
    Metric("ryzen.gpu.persistence", "gauge", "1", "1 where the driver stays loaded", _GPU),
    Metric("ryzen.gpu.processes", "gauge", "{process}", "Processes that compute on the GPU", _GPU),
    Metric("ryzen.network.tcp.retransmits", "counter", "{segment}", "TCP segments sent again"),
)  # fmt: skip

HEALTH = (
    Metric("ryzen.rank.state", "updown", "1", "1 for the state that the rank is in", (*_RANK, "ryzen.rank.state")),
    Metric("ryzen.rank.beat.age", "gauge", "s", "Since the rank's page last changed", _RANK),
    Metric("ryzen.agent.connected", "gauge", "1", "1 while the agent has a stream to the coordinator (0: partition)"),
    Metric("ryzen.agent.spool", "gauge", "{event}", "Events that wait for the coordinator"),
    Metric("ryzen.condition", "gauge", "1", "1 while something is wrong with the node or a device",
           ("ryzen.condition", "ryzen.device", "ryzen.severity")),
    Metric("ryzen.health.event", "counter", "{event}", "What kernel log and drivers said since the agent's start",
           ("ryzen.event.kind",)),
    Metric("ryzen.collector.success", "gauge", "1", "1 where its newest look came back", ("ryzen.collector",)),
    Metric("ryzen.collector.duration", "gauge", "s", "Of its newest look, or so far", ("ryzen.collector",)),
    Metric("ryzen.pressure", "gauge", "1", "Share of the last 10 s in which tasks waited (PSI)",
           ("ryzen.resource", "ryzen.pressure.kind")),
    Metric("system.memory.limit", "updown", "By", "Memory of the node"),
    Metric("system.memory.linux.available", "updown", "By", "Memory that can be had without swapping"),
    Metric("system.cpu.load_average.1m", "gauge", "{thread}", "Load of the last minute"),
    Metric("system.filesystem.utilization", "gauge", "1", "Share of a watched file system in use", ("ryzen.folder",)),
    Metric("ryzen.storage.probe.duration", "gauge", "s", "A durable write of 4 KiB", ("ryzen.folder",)),
    Metric("ryzen.kernel_log.findings", "counter", "{line}", "Lines of the kernel log that meant something"),
    Metric("ryzen.kernel_log.lost", "counter", "{line}", "Lines that the kernel overwrote before they were read"),
    Metric("ryzen.clock.offset", "gauge", "s", "Of the node's clock, by its time service"),
    Metric("ryzen.clock.error.estimated", "gauge", "s", "Estimated error of the clock"),
    Metric("ryzen.clock.error.limit", "gauge", "s", "Greatest error that the clock may have"),
    Metric("ryzen.clock.synchronised", "gauge", "1", "1 where somebody keeps the clock"),
    Metric("ryzen.node.count", "updown", "{node}", "Nodes in each phase", ("ryzen.node.phase",), _C),
    Metric("ryzen.node.connected", "updown", "{node}", "Nodes whose agent has a stream", (), _C),
    Metric("ryzen.node.silent", "updown", "{node}", "Nodes not heard of for longer than the lease", (), _C),
    Metric("ryzen.node.conditions", "updown", "{node}", "Nodes on which a condition stands",
           ("ryzen.condition", "ryzen.severity"), _C),
    Metric("ryzen.job.phase", "updown", "1", "1 for the phase that the job is in", (*_JOB, "ryzen.job.phase"), _C),
    Metric("ryzen.job.world.size", "gauge", "{rank}", "Ranks of the world", _JOB, _C),
    Metric("ryzen.job.nodes", "gauge", "{node}", "Nodes of the world", _JOB, _C),
    Metric("ryzen.job.generation", "gauge", "1", "Generation of the newest world", _JOB, _C),
    Metric("ryzen.job.quiet", "gauge", "s", "Since any rank last advanced", _JOB, _C),
    Metric("ryzen.job.stall.limit", "gauge", "s", "Quiet for longer than this, the job counts as stalled", _JOB, _C),
)  # fmt: skip

RECOVERY = (
    Metric("ryzen.rank.exit", "counter", "{process}", "Ends of ranks since the agent's start",
           ("ryzen.job", "ryzen.user", "ryzen.reason")),
    Metric("ryzen.rank.kill", "counter", "{process}", "Ranks that this agent has killed", _JOB),
    Metric("ryzen.job.restart", "counter", "{restart}", "Restarts of the job's world for a fault", _JOB, _C),
    Metric("ryzen.job.checkpoint.step", "gauge", "{step}", "Newest committed checkpoint", _JOB, _C),
    Metric("ryzen.job.checkpoint.age", "gauge", "s", "Since the coordinator first heard of that checkpoint", _JOB, _C),
    Metric("ryzen.rank.checkpoint.duration", "gauge", "s", "Newest step's time in the section `checkpoint`", _RANK),
    Metric("ryzen.incident.open", "updown", "{incident}", "Incidents that are not closed", (), _C),
    Metric("ryzen.incident.detection", "counter", "{incident}", "Incidents opened since the coordinator's start",
           ("ryzen.incident.kind",), _C),
    Metric("ryzen.incident.verdict", "counter", "{verdict}", "Verdicts since the coordinator's start",
           ("ryzen.fault.class", "ryzen.action"), _C),
    Metric("ryzen.eviction", "counter", "{node}", "Nodes that a verdict or a person took out", (), _C),
    Metric("ryzen.incident.stage.duration", "histogram", "s", "Stages of the incidents that were recovered from",
           ("ryzen.stage", "ryzen.fault.class"), _C, _SECONDS),
    Metric("ryzen.incident.recovery.duration", "histogram", "s", "From the fault to the first new step",
           ("ryzen.fault.class",), _C, _SECONDS),
    Metric("ryzen.incident.steps.lost", "histogram", "{step}", "Steps done twice", ("ryzen.fault.class",), _C, _STEPS),
)  # fmt: skip

EFFECTIVE_TIME = (
    Metric("ryzen.job.ettr", "gauge", "1", "Effective training time ratio: productive over all", _JOB, _C),
    Metric("ryzen.job.gpu_time", "updown", "s", "GPU-seconds of the job by what they were spent on",
           (*_JOB, "ryzen.time.state"), _C),
)  # fmt: skip

OURSELVES = (
    Metric("process.cpu.time", "counter", "s", "CPU time of this process", ("cpu.mode",), BOTH),
    Metric("process.memory.usage", "updown", "By", "Resident memory of this process", (), BOTH),
    Metric("process.thread.count", "updown", "{thread}", "Threads of this process", (), BOTH),
    Metric("process.unix.file_descriptor.count", "updown", "{file_descriptor}", "Open files of this process", (), BOTH),
    Metric("process.uptime", "gauge", "s", "Since the process began", (), BOTH),
    Metric("ryzen.telemetry.export", "counter", "{export}", "Exports that the back end took", ("ryzen.signal",), BOTH),
    Metric("ryzen.telemetry.export.failed", "counter", "{export}", "Exports that failed, counted by ourselves",
           ("ryzen.signal",), BOTH),
    Metric("ryzen.telemetry.lost", "counter", "{item}", "Spans and log records that were never delivered",
           ("ryzen.signal",), BOTH),
    Metric("ryzen.coordinator.reports", "counter", "{message}", "Messages of agents since the start", (), _C),
)  # fmt: skip

GROUPS: Final = (
    Group("Training", TRAINING),
    Group("Communication", COMMUNICATION),
    Group("Hardware", HARDWARE),
    Group("System health", HEALTH),
    Group("Recovery", RECOVERY),
    Group("Effective time", EFFECTIVE_TIME),
    Group("Ryzen itself", OURSELVES),
)
METRICS: Final = {metric.name: metric for group in GROUPS for metric in group.metrics}

EVENTS: Final = {
    event.name: event
    for event in (
        Event("ryzen.incident.opened", "faults", "A suspicion became an incident", _INCIDENT[:5], _C),
        Event("ryzen.incident.verdict", "faults", "What happened, to whom, and what is done", _INCIDENT, _C),
        Event("ryzen.incident.closed", "faults", "Its end",
              (*_INCIDENT, "ryzen.steps.lost", "ryzen.recovery.duration"), _C),
        Event("ryzen.node.phase", "faults", "A node has changed its phase",
              ("ryzen.node", "ryzen.node.phase", "ryzen.reason"), _C),
        Event("ryzen.rank.exit", "faults", "A rank has ended",
              (*_RANK, "ryzen.generation", "process.pid", "process.exit.code", "error.type", "ryzen.reason")),
        Event("ryzen.rank.kill", "faults", "This agent has killed a rank",
              (*_JOB, "ryzen.rank", "process.pid", "ryzen.reason")),
        Event("ryzen.torchrun.exit", "faults", "torchrun has ended", (*_JOB, "process.pid", "process.exit.code")),
        Event("ryzen.gpu.xid", "faults", "An Xid or SXid in the kernel log",
              ("ryzen.job", "hw.id", "ryzen.xid", "ryzen.event.kind", "ryzen.fault.class", "ryzen.action",
               "ryzen.ranks", "ryzen.gpu.pci", "process.pid")),
        Event("ryzen.health.event", "faults", "Anything else that kernel log or a driver said",
              ("ryzen.job", "ryzen.device", "ryzen.event.kind", "ryzen.fault.class", "ryzen.action", "ryzen.ranks",
               "process.pid")),
        Event("ryzen.condition.begin", "faults", "Something is wrong with the node or a device from now on",
              ("ryzen.condition", "ryzen.device", "ryzen.severity", "ryzen.action")),
        Event("ryzen.condition.end", "faults", "It is not any more", ("ryzen.condition", "ryzen.device")),
        Event("ryzen.coordinator.connection", "communication", "The stream to the coordinator came or went",
              ("ryzen.connected",)),
        Event("ryzen.collective.pending", "communication", "A collective that a rank of a stalled job waits in",
              (*_RANK, "ryzen.collective.group", "ryzen.collective.sequence", "ryzen.collective.operation",
               "ryzen.collective.shape")),
        Event("ryzen.communication.pace", "communication", "Gradient sums of this node's newest steps, once a minute",
              (*_JOB, "ryzen.communication.share", "ryzen.collective.duration.p50", "ryzen.collective.duration.p99")),
        Event("ryzen.rank.performance", "performance", "How fast a rank trains, once a minute",
              (*_RANK, "ryzen.generation", "ryzen.step", "ryzen.step.duration", "ryzen.throughput", "ryzen.mfu",
               "ryzen.loss", "ryzen.gradient.norm", "ryzen.learning_rate", "ryzen.section.duration")),
    )
}  # fmt: skip

SPANS: Final = {
    span.name: span
    for span in (
        Span("ryzen.incident", "Root of the trace: from the fault to the first new step. Evidence and timeline are its "
             "events; it links to the generation that was struck and to the new one"),
        Span("ryzen.incident.detect", "From the last sign of life, or the exit, to the suspicion"),
        Span("ryzen.incident.blame", "... to the verdict"),
        Span("ryzen.incident.stop", "From the announcement of a new generation until no old rank lives"),
        Span("ryzen.incident.rendezvous", "... until the new world is formed"),
        Span("ryzen.incident.start", "... until all of its ranks live"),
        Span("ryzen.incident.restore", "... until the first step begins: imports, process groups, checkpoint"),
        Span("ryzen.incident.first_step", "... until the first step is done"),
        Span("ryzen.generation", "A world at work: a trace of its own, from its forming to its end"),
        Span("ryzen.agent.evidence", "The agent samples stacks, vital signs and flight recorders", ("agent",)),
        Span("ryzen.agent.stop", "From hearing of the new generation until no old rank lives here", ("agent",)),
        Span("ryzen.agent.start", "From the world's forming until all ranks of this node live", ("agent",)),
        Span("ryzen.trainer.restore", "As the beat pages of this node's ranks say: until the first step begins",
             ("agent",)),
        Span("ryzen.trainer.first_step", "As the beat pages say: until the last rank here has done its first step",
             ("agent",)),
    )
}  # fmt: skip

STAGES: Final = ("detect", "blame", "stop", "rendezvous", "start", "restore", "first_step")

ATTRIBUTES: Final[dict[str, str]] = {
    "ryzen.job": "Rendezvous id of the job (--rdzv-id)",
    "ryzen.user": "Whose job it is",
    "ryzen.rank": "Global rank",
    "ryzen.ranks": "Global ranks, with commas between",
    "ryzen.node": "Name of a node",
    "ryzen.nodes": "Names of nodes, with commas between",
    "ryzen.generation": "Number of the world: grows with each restart",
    "ryzen.section": "Section of the step that the script names; empty between them",
    "ryzen.reason": "Why",
    "ryzen.stage": ", ".join(STAGES),
    "ryzen.incident": "Number of the incident",
    "ryzen.incident.kind": "What was suspected first",
    "ryzen.fault.class": "exit, oom, hang, desync, node_lost, network, hardware, thermal, divergence, corruption ...",
    "ryzen.action": "none, advise, restart, rollback, evict, stop; of a health event: what the maker asks for",
    "ryzen.confidence": "certain, likely, unknown",
    "ryzen.steps.lost": "Steps done twice",
    "ryzen.recovery.duration": "Seconds from the fault to the first new step",
    "ryzen.rank.state": "running, stopped, failing, exited",
    "ryzen.job.phase": "Phase of the job (ARCHITECTURE.md)",
    "ryzen.node.phase": "Phase of the node (ARCHITECTURE.md)",
    "ryzen.time.state": "productive, checkpoint, lost_steps, detection, recovery, waiting, idle",
    "ryzen.condition": "Name of the condition (docs/health.md)",
    "ryzen.severity": "info, warning, critical",
    "ryzen.device": "UUID of a GPU, name of a port or folder; empty for the node itself",
    "ryzen.event.kind": "xid, sxid, nvlink, oom, mce, aer, ... (docs/health.md)",
    "ryzen.xid": "Number of the Xid",
    "ryzen.gpu.pci": "PCI address of the GPU",
    "ryzen.collector": "Which collector",
    "ryzen.resource": "cpu, io, memory",
    "ryzen.pressure.kind": "some (a task waited) or full (all did)",
    "ryzen.folder": "A folder whose file system is watched",
    "ryzen.signal": "metrics, traces, logs, files",
    "ryzen.connected": "Whether there is a stream to the coordinator",
    "ryzen.collective.group": "Process group",
    "ryzen.collective.sequence": "Sequence number in its group",
    "ryzen.collective.operation": "all_reduce and the like",
    "ryzen.collective.shape": "Type and sizes of the input",
    "ryzen.collective.duration.p50": "Median gradient sum, in seconds",
    "ryzen.collective.duration.p99": "99th percentile, in seconds",
    "ryzen.communication.share": "Share of a step with a gradient sum under way",
    "ryzen.step": "Step",
    "ryzen.step.duration": "Mean of the newest steps, in seconds",
    "ryzen.throughput": "Tokens a second",
    "ryzen.mfu": "Model FLOPs utilisation",
    "ryzen.loss": "Newest loss",
    "ryzen.gradient.norm": "Newest gradient norm",
    "ryzen.learning_rate": "Newest learning rate",
    "ryzen.section.duration": "Mean seconds of a step by section, as one JSON object",
    "hw.id": "UUID of a GPU as DCGM says it, name of a port or card",
    "hw.type": "gpu, network, memory",
    "hw.name": "Name for people",
    "hw.model": "Model",
    "hw.vendor": "Vendor",
    "hw.state": "ok, degraded, failed",
    "hw.sensor_location": "gpu or memory",
    "hw.limit_type": "high.critical, high.slowdown, high.degraded",
    "network.io.direction": "receive or transmit",
    "error.type": "corrected, uncorrected, nvlink.*, a port's counter, an exception",
    "cpu.mode": "user or system",
    "process.pid": "Process",
    "process.exit.code": "Exit code, negative for a signal",
}

RESOURCE: Final[dict[str, str]] = {
    "service.name": "ryzen-agent or ryzen-coordinator (OTEL_SERVICE_NAME)",
    "service.version": "Version of Ryzen",
    "service.instance.id": "Name of the node, or of the coordinator's host and process",
    "host.name": "Host name",
    "host.id": "/etc/machine-id, where there is one",
    "process.pid": "Process",
    "ryzen.node": "Name of the node (agent)",
    "k8s.pod.name": "K8S_POD_NAME, else POD_NAME",
    "k8s.namespace.name": "K8S_NAMESPACE_NAME, else POD_NAMESPACE",
    "k8s.node.name": "K8S_NODE_NAME, else NODE_NAME",
    "k8s.container.name": "K8S_CONTAINER_NAME",
    "k8s.cluster.name": "K8S_CLUSTER_NAME",
    "ryzen.slurm.job.id": "SLURM_JOB_ID",
    "ryzen.slurm.job.name": "SLURM_JOB_NAME",
    "ryzen.slurm.partition": "SLURM_JOB_PARTITION",
    "ryzen.slurm.cluster": "SLURM_CLUSTER_NAME",
}

DCGM: Final[dict[str, tuple[str, float]]] = {
    "DCGM_FI_DEV_GPU_TEMP": ("hw.temperature", 1.0),
    "DCGM_FI_DEV_POWER_USAGE": ("hw.power", 1.0),
    "DCGM_FI_DEV_GPU_UTIL": ("hw.gpu.utilization", 100.0),
    "DCGM_FI_DEV_FB_USED": ("hw.gpu.memory.usage", 1.0 / (1 << 20)),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("hw.energy", 1000.0),
}
"""dcgm-exporter's names, from which of ours they are made, and by what factor. Only with `dcgm_names`."""

_UNITS = {"s": "seconds", "By": "bytes", "Cel": "celsius", "W": "watts", "J": "joules", "1": ""}
_NOT_A_NAME = re.compile(r"[^a-zA-Z0-9:]+")


def prometheus_name(metric: Metric) -> str:
    """As a Prometheus scrape has it (without a histogram's `_bucket`, `_sum`, `_count`).

    A collector or a store that takes OTLP may add `_ratio` to gauges of unit 1.
    """
    whole, slash, per = re.sub(r"\{.*?\}", "", metric.unit).partition("/")
    suffix = _UNITS.get(whole, whole) + ("_per_second" if slash and per == "s" else "")
    name = _NOT_A_NAME.sub("_", metric.name)
    suffix = suffix.strip("_")
    if suffix and not name.endswith(f"_{suffix}"):
        name = f"{name}_{suffix}"
    return f"{name}_total" if metric.kind == "counter" else name
