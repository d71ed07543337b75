from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ClusterStatus(_message.Message):
    __slots__ = ("version", "uptime_s", "jobs", "nodes", "open_incidents")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    OPEN_INCIDENTS_FIELD_NUMBER: _ClassVar[int]
    version: str
    uptime_s: float
    jobs: _containers.RepeatedCompositeFieldContainer[JobStatus]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    open_incidents: int
    def __init__(self, version: _Optional[str] = ..., uptime_s: _Optional[float] = ..., jobs: _Optional[_Iterable[_Union[JobStatus, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., open_incidents: _Optional[int] = ...) -> None: ...

class JobStatus(_message.Message):
    __slots__ = ("run_id", "user", "phase", "generation", "world", "parked", "min_nodes", "max_nodes", "world_size", "step", "quiet_s", "stall_after_s", "restarts", "restart_budget", "checkpoint_step", "sends_progress", "note", "exit_code", "pace", "time")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    WORLD_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    MIN_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    WORLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    QUIET_S_FIELD_NUMBER: _ClassVar[int]
    STALL_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    RESTART_BUDGET_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEP_FIELD_NUMBER: _ClassVar[int]
    SENDS_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    user: str
    phase: str
    generation: int
    world: _containers.RepeatedScalarFieldContainer[str]
    parked: _containers.RepeatedScalarFieldContainer[str]
    min_nodes: int
    max_nodes: int
    world_size: int
    step: int
    quiet_s: float
    stall_after_s: float
    restarts: int
    restart_budget: int
    checkpoint_step: int
    sends_progress: bool
    note: str
    exit_code: int
    pace: JobPace
    time: TimeSpent
    def __init__(self, run_id: _Optional[str] = ..., user: _Optional[str] = ..., phase: _Optional[str] = ..., generation: _Optional[int] = ..., world: _Optional[_Iterable[str]] = ..., parked: _Optional[_Iterable[str]] = ..., min_nodes: _Optional[int] = ..., max_nodes: _Optional[int] = ..., world_size: _Optional[int] = ..., step: _Optional[int] = ..., quiet_s: _Optional[float] = ..., stall_after_s: _Optional[float] = ..., restarts: _Optional[int] = ..., restart_budget: _Optional[int] = ..., checkpoint_step: _Optional[int] = ..., sends_progress: bool = ..., note: _Optional[str] = ..., exit_code: _Optional[int] = ..., pace: _Optional[_Union[JobPace, _Mapping]] = ..., time: _Optional[_Union[TimeSpent, _Mapping]] = ...) -> None: ...

class TimeSpent(_message.Message):
    __slots__ = ("gpu_s", "wall_s", "ettr", "cost")
    class GpuSEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    GPU_S_FIELD_NUMBER: _ClassVar[int]
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    ETTR_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    gpu_s: _containers.ScalarMap[str, float]
    wall_s: float
    ettr: float
    cost: float
    def __init__(self, gpu_s: _Optional[_Mapping[str, float]] = ..., wall_s: _Optional[float] = ..., ettr: _Optional[float] = ..., cost: _Optional[float] = ...) -> None: ...

class JobPace(_message.Message):
    __slots__ = ("ranks", "step_s", "tokens_per_s", "samples_per_s", "mfu", "hfu", "flops_per_s", "section_share", "communication_share", "all_reduce_p50_s", "all_reduce_p99_s", "loss", "learning_rate", "data_advice")
    class SectionShareEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RANKS_FIELD_NUMBER: _ClassVar[int]
    STEP_S_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_PER_S_FIELD_NUMBER: _ClassVar[int]
    MFU_FIELD_NUMBER: _ClassVar[int]
    HFU_FIELD_NUMBER: _ClassVar[int]
    FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    SECTION_SHARE_FIELD_NUMBER: _ClassVar[int]
    COMMUNICATION_SHARE_FIELD_NUMBER: _ClassVar[int]
    ALL_REDUCE_P50_S_FIELD_NUMBER: _ClassVar[int]
    ALL_REDUCE_P99_S_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    DATA_ADVICE_FIELD_NUMBER: _ClassVar[int]
    ranks: int
    step_s: float
    tokens_per_s: float
    samples_per_s: float
    mfu: float
    hfu: float
    flops_per_s: float
    section_share: _containers.ScalarMap[str, float]
    communication_share: float
    all_reduce_p50_s: float
    all_reduce_p99_s: float
    loss: Spread
    learning_rate: float
    data_advice: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ranks: _Optional[int] = ..., step_s: _Optional[float] = ..., tokens_per_s: _Optional[float] = ..., samples_per_s: _Optional[float] = ..., mfu: _Optional[float] = ..., hfu: _Optional[float] = ..., flops_per_s: _Optional[float] = ..., section_share: _Optional[_Mapping[str, float]] = ..., communication_share: _Optional[float] = ..., all_reduce_p50_s: _Optional[float] = ..., all_reduce_p99_s: _Optional[float] = ..., loss: _Optional[_Union[Spread, _Mapping]] = ..., learning_rate: _Optional[float] = ..., data_advice: _Optional[_Iterable[str]] = ...) -> None: ...

class Spread(_message.Message):
    __slots__ = ("least", "median", "most", "least_rank", "most_rank", "not_finite")
    LEAST_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    LEAST_RANK_FIELD_NUMBER: _ClassVar[int]
    MOST_RANK_FIELD_NUMBER: _ClassVar[int]
    NOT_FINITE_FIELD_NUMBER: _ClassVar[int]
    least: float
    median: float
    most: float
    least_rank: int
    most_rank: int
    not_finite: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, least: _Optional[float] = ..., median: _Optional[float] = ..., most: _Optional[float] = ..., least_rank: _Optional[int] = ..., most_rank: _Optional[int] = ..., not_finite: _Optional[_Iterable[int]] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node", "phase", "connected", "silent_s", "reason", "host", "address", "version", "jobs", "clock_offset_s", "labels", "conditions", "faults")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    SILENT_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_S_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    node: str
    phase: str
    connected: bool
    silent_s: float
    reason: str
    host: str
    address: str
    version: str
    jobs: _containers.RepeatedScalarFieldContainer[str]
    clock_offset_s: float
    labels: _containers.ScalarMap[str, str]
    conditions: _containers.RepeatedCompositeFieldContainer[NodeCondition]
    faults: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., phase: _Optional[str] = ..., connected: bool = ..., silent_s: _Optional[float] = ..., reason: _Optional[str] = ..., host: _Optional[str] = ..., address: _Optional[str] = ..., version: _Optional[str] = ..., jobs: _Optional[_Iterable[str]] = ..., clock_offset_s: _Optional[float] = ..., labels: _Optional[_Mapping[str, str]] = ..., conditions: _Optional[_Iterable[_Union[NodeCondition, _Mapping]]] = ..., faults: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeCondition(_message.Message):
    __slots__ = ("name", "device", "severity", "message", "age_s", "pardoned")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    PARDONED_FIELD_NUMBER: _ClassVar[int]
    name: str
    device: str
    severity: str
    message: str
    age_s: float
    pardoned: bool
    def __init__(self, name: _Optional[str] = ..., device: _Optional[str] = ..., severity: _Optional[str] = ..., message: _Optional[str] = ..., age_s: _Optional[float] = ..., pardoned: bool = ...) -> None: ...

class IncidentsRequest(_message.Message):
    __slots__ = ("id", "run_id", "limit")
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    id: int
    run_id: str
    limit: int
    def __init__(self, id: _Optional[int] = ..., run_id: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class IncidentList(_message.Message):
    __slots__ = ("incidents",)
    INCIDENTS_FIELD_NUMBER: _ClassVar[int]
    incidents: _containers.RepeatedCompositeFieldContainer[Incident]
    def __init__(self, incidents: _Optional[_Iterable[_Union[Incident, _Mapping]]] = ...) -> None: ...

class Incident(_message.Message):
    __slots__ = ("id", "run_id", "state", "opened_unix_s", "generation", "new_generation", "verdict", "stages_s", "timeline", "evidence", "step", "resumed_step", "considered", "stacks", "ranks", "resume_at_most", "gpu_s")
    class StagesSEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class GpuSEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OPENED_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    NEW_GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    STAGES_S_FIELD_NUMBER: _ClassVar[int]
    TIMELINE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RESUMED_STEP_FIELD_NUMBER: _ClassVar[int]
    CONSIDERED_FIELD_NUMBER: _ClassVar[int]
    STACKS_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    RESUME_AT_MOST_FIELD_NUMBER: _ClassVar[int]
    GPU_S_FIELD_NUMBER: _ClassVar[int]
    id: int
    run_id: str
    state: str
    opened_unix_s: float
    generation: int
    new_generation: int
    verdict: Verdict
    stages_s: _containers.ScalarMap[str, float]
    timeline: _containers.RepeatedScalarFieldContainer[str]
    evidence: _containers.RepeatedScalarFieldContainer[str]
    step: int
    resumed_step: int
    considered: _containers.RepeatedScalarFieldContainer[str]
    stacks: _containers.RepeatedCompositeFieldContainer[StackGroup]
    ranks: _containers.RepeatedCompositeFieldContainer[RankMoment]
    resume_at_most: int
    gpu_s: _containers.ScalarMap[str, float]
    def __init__(self, id: _Optional[int] = ..., run_id: _Optional[str] = ..., state: _Optional[str] = ..., opened_unix_s: _Optional[float] = ..., generation: _Optional[int] = ..., new_generation: _Optional[int] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., stages_s: _Optional[_Mapping[str, float]] = ..., timeline: _Optional[_Iterable[str]] = ..., evidence: _Optional[_Iterable[str]] = ..., step: _Optional[int] = ..., resumed_step: _Optional[int] = ..., considered: _Optional[_Iterable[str]] = ..., stacks: _Optional[_Iterable[_Union[StackGroup, _Mapping]]] = ..., ranks: _Optional[_Iterable[_Union[RankMoment, _Mapping]]] = ..., resume_at_most: _Optional[int] = ..., gpu_s: _Optional[_Mapping[str, float]] = ...) -> None: ...

class StackGroup(_message.Message):
    __slots__ = ("text", "ranks")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    text: str
    ranks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, text: _Optional[str] = ..., ranks: _Optional[_Iterable[int]] = ...) -> None: ...

class RankMoment(_message.Message):
    __slots__ = ("rank", "node", "step", "section", "quiet_s", "state", "collective")
    RANK_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SECTION_FIELD_NUMBER: _ClassVar[int]
    QUIET_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COLLECTIVE_FIELD_NUMBER: _ClassVar[int]
    rank: int
    node: str
    step: int
    section: str
    quiet_s: float
    state: str
    collective: str
    def __init__(self, rank: _Optional[int] = ..., node: _Optional[str] = ..., step: _Optional[int] = ..., section: _Optional[str] = ..., quiet_s: _Optional[float] = ..., state: _Optional[str] = ..., collective: _Optional[str] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("fault_class", "ranks", "nodes", "action", "reason", "confidence", "advice")
    FAULT_CLASS_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    fault_class: str
    ranks: _containers.RepeatedScalarFieldContainer[int]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    action: str
    reason: str
    confidence: str
    advice: str
    def __init__(self, fault_class: _Optional[str] = ..., ranks: _Optional[_Iterable[int]] = ..., nodes: _Optional[_Iterable[str]] = ..., action: _Optional[str] = ..., reason: _Optional[str] = ..., confidence: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...

class LedgerRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class Ledger(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobLedger]
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobLedger, _Mapping]]] = ...) -> None: ...

class JobLedger(_message.Message):
    __slots__ = ("run_id", "user", "phase", "gpus", "time", "nodes", "incidents")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    INCIDENTS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    user: str
    phase: str
    gpus: int
    time: TimeSpent
    nodes: _containers.RepeatedCompositeFieldContainer[NodeLedger]
    incidents: _containers.RepeatedCompositeFieldContainer[IncidentLedger]
    def __init__(self, run_id: _Optional[str] = ..., user: _Optional[str] = ..., phase: _Optional[str] = ..., gpus: _Optional[int] = ..., time: _Optional[_Union[TimeSpent, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[NodeLedger, _Mapping]]] = ..., incidents: _Optional[_Iterable[_Union[IncidentLedger, _Mapping]]] = ...) -> None: ...

class NodeLedger(_message.Message):
    __slots__ = ("node", "gpus", "device_model", "time")
    NODE_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MODEL_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    node: str
    gpus: int
    device_model: str
    time: TimeSpent
    def __init__(self, node: _Optional[str] = ..., gpus: _Optional[int] = ..., device_model: _Optional[str] = ..., time: _Optional[_Union[TimeSpent, _Mapping]] = ...) -> None: ...

class IncidentLedger(_message.Message):
    __slots__ = ("id", "fault_class", "action", "nodes", "opened_unix_s", "time")
    ID_FIELD_NUMBER: _ClassVar[int]
    FAULT_CLASS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    OPENED_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    id: int
    fault_class: str
    action: str
    nodes: _containers.RepeatedScalarFieldContainer[str]
    opened_unix_s: float
    time: TimeSpent
    def __init__(self, id: _Optional[int] = ..., fault_class: _Optional[str] = ..., action: _Optional[str] = ..., nodes: _Optional[_Iterable[str]] = ..., opened_unix_s: _Optional[float] = ..., time: _Optional[_Union[TimeSpent, _Mapping]] = ...) -> None: ...

class EvictRequest(_message.Message):
    __slots__ = ("node", "reason")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node: str
    reason: str
    def __init__(self, node: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReadmitRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class OperatorReply(_message.Message):
    __slots__ = ("ok", "message")
    OK_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ok: bool
    message: str
    def __init__(self, ok: bool = ..., message: _Optional[str] = ...) -> None: ...
