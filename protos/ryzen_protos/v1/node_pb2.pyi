from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeUpdate(_message.Message):
    __slots__ = ("seq", "hello", "jobs", "events", "answered_inquiry", "goodbye", "sent_unix_ns", "applied_version", "conditions")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_INQUIRY_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    SENT_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    seq: int
    hello: NodeHello
    jobs: _containers.RepeatedCompositeFieldContainer[ObservedJob]
    events: _containers.RepeatedCompositeFieldContainer[NodeEvent]
    answered_inquiry: int
    goodbye: Goodbye
    sent_unix_ns: int
    applied_version: int
    conditions: Conditions
    def __init__(self, seq: _Optional[int] = ..., hello: _Optional[_Union[NodeHello, _Mapping]] = ..., jobs: _Optional[_Iterable[_Union[ObservedJob, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[NodeEvent, _Mapping]]] = ..., answered_inquiry: _Optional[int] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., sent_unix_ns: _Optional[int] = ..., applied_version: _Optional[int] = ..., conditions: _Optional[_Union[Conditions, _Mapping]] = ...) -> None: ...

class NodeHello(_message.Message):
    __slots__ = ("node", "session", "boot_id", "host", "address", "node_rank", "protocol", "version", "labels", "device_model")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NODE_RANK_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MODEL_FIELD_NUMBER: _ClassVar[int]
    node: str
    session: str
    boot_id: str
    host: str
    address: str
    node_rank: int
    protocol: int
    version: str
    labels: _containers.ScalarMap[str, str]
    device_model: str
    def __init__(self, node: _Optional[str] = ..., session: _Optional[str] = ..., boot_id: _Optional[str] = ..., host: _Optional[str] = ..., address: _Optional[str] = ..., node_rank: _Optional[int] = ..., protocol: _Optional[int] = ..., version: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., device_model: _Optional[str] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ObservedJob(_message.Message):
    __slots__ = ("run_id", "user", "handler", "generation", "seen_generation", "join_id", "store", "shape", "ranks", "old_ranks_alive", "gaps", "checkpoint_step", "checkpoint_known", "torchrun_pid", "torchrun_exit_code", "stacks", "groups", "beats", "skipped", "checks", "self_checks", "rollback_wanted", "pace", "first_batches", "as_of")
    class Handler(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        HANDLER_UNSPECIFIED: _ClassVar[ObservedJob.Handler]
        ABSENT: _ClassVar[ObservedJob.Handler]
        JOINING: _ClassVar[ObservedJob.Handler]
        RUNNING: _ClassVar[ObservedJob.Handler]
        CLOSED: _ClassVar[ObservedJob.Handler]
    HANDLER_UNSPECIFIED: ObservedJob.Handler
    ABSENT: ObservedJob.Handler
    JOINING: ObservedJob.Handler
    RUNNING: ObservedJob.Handler
    CLOSED: ObservedJob.Handler
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SEEN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    JOIN_ID_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    OLD_RANKS_ALIVE_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STEP_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_KNOWN_FIELD_NUMBER: _ClassVar[int]
    TORCHRUN_PID_FIELD_NUMBER: _ClassVar[int]
    TORCHRUN_EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    STACKS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    BEATS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    SELF_CHECKS_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_WANTED_FIELD_NUMBER: _ClassVar[int]
    PACE_FIELD_NUMBER: _ClassVar[int]
    FIRST_BATCHES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    user: str
    handler: ObservedJob.Handler
    generation: int
    seen_generation: int
    join_id: int
    store: Endpoint
    shape: JobShape
    ranks: _containers.RepeatedCompositeFieldContainer[ObservedRank]
    old_ranks_alive: int
    gaps: _containers.RepeatedCompositeFieldContainer[SectionGap]
    checkpoint_step: int
    checkpoint_known: bool
    torchrun_pid: int
    torchrun_exit_code: int
    stacks: _containers.RepeatedCompositeFieldContainer[StackText]
    groups: _containers.RepeatedCompositeFieldContainer[Group]
    beats: Beats
    skipped: _containers.RepeatedCompositeFieldContainer[SkippedStep]
    checks: _containers.RepeatedCompositeFieldContainer[Checks]
    self_checks: _containers.RepeatedCompositeFieldContainer[SelfChecks]
    rollback_wanted: int
    pace: Pace
    first_batches: FirstBatches
    as_of: int
    def __init__(self, run_id: _Optional[str] = ..., user: _Optional[str] = ..., handler: _Optional[_Union[ObservedJob.Handler, str]] = ..., generation: _Optional[int] = ..., seen_generation: _Optional[int] = ..., join_id: _Optional[int] = ..., store: _Optional[_Union[Endpoint, _Mapping]] = ..., shape: _Optional[_Union[JobShape, _Mapping]] = ..., ranks: _Optional[_Iterable[_Union[ObservedRank, _Mapping]]] = ..., old_ranks_alive: _Optional[int] = ..., gaps: _Optional[_Iterable[_Union[SectionGap, _Mapping]]] = ..., checkpoint_step: _Optional[int] = ..., checkpoint_known: bool = ..., torchrun_pid: _Optional[int] = ..., torchrun_exit_code: _Optional[int] = ..., stacks: _Optional[_Iterable[_Union[StackText, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[Group, _Mapping]]] = ..., beats: _Optional[_Union[Beats, _Mapping]] = ..., skipped: _Optional[_Iterable[_Union[SkippedStep, _Mapping]]] = ..., checks: _Optional[_Iterable[_Union[Checks, _Mapping]]] = ..., self_checks: _Optional[_Iterable[_Union[SelfChecks, _Mapping]]] = ..., rollback_wanted: _Optional[int] = ..., pace: _Optional[_Union[Pace, _Mapping]] = ..., first_batches: _Optional[_Union[FirstBatches, _Mapping]] = ..., as_of: _Optional[int] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("host", "port")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    host: str
    port: int
    def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class JobShape(_message.Message):
    __slots__ = ("min_nodes", "max_nodes", "ranks_per_node", "max_restarts", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MIN_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    RANKS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    MAX_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    min_nodes: int
    max_nodes: int
    ranks_per_node: int
    max_restarts: int
    options: _containers.ScalarMap[str, str]
    def __init__(self, min_nodes: _Optional[int] = ..., max_nodes: _Optional[int] = ..., ranks_per_node: _Optional[int] = ..., max_restarts: _Optional[int] = ..., options: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ObservedRank(_message.Message):
    __slots__ = ("rank", "local_rank", "pid", "generation", "life", "process_state", "process_state_s", "exit_code", "killed_by_agent", "ended_ago_s", "error_type", "error_message", "attached", "oom_killed", "probe")
    class Life(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LIFE_UNSPECIFIED: _ClassVar[ObservedRank.Life]
        ALIVE: _ClassVar[ObservedRank.Life]
        FAILING: _ClassVar[ObservedRank.Life]
        EXITED: _ClassVar[ObservedRank.Life]
    LIFE_UNSPECIFIED: ObservedRank.Life
    ALIVE: ObservedRank.Life
    FAILING: ObservedRank.Life
    EXITED: ObservedRank.Life
    RANK_FIELD_NUMBER: _ClassVar[int]
    LOCAL_RANK_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    LIFE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_STATE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_STATE_S_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    KILLED_BY_AGENT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AGO_S_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    OOM_KILLED_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    rank: int
    local_rank: int
    pid: int
    generation: int
    life: ObservedRank.Life
    process_state: str
    process_state_s: float
    exit_code: int
    killed_by_agent: bool
    ended_ago_s: float
    error_type: str
    error_message: str
    attached: bool
    oom_killed: bool
    probe: Probe
    def __init__(self, rank: _Optional[int] = ..., local_rank: _Optional[int] = ..., pid: _Optional[int] = ..., generation: _Optional[int] = ..., life: _Optional[_Union[ObservedRank.Life, str]] = ..., process_state: _Optional[str] = ..., process_state_s: _Optional[float] = ..., exit_code: _Optional[int] = ..., killed_by_agent: bool = ..., ended_ago_s: _Optional[float] = ..., error_type: _Optional[str] = ..., error_message: _Optional[str] = ..., attached: bool = ..., oom_killed: bool = ..., probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("samples", "age_s", "stack", "frozen_s", "busy", "in_collective", "wait_channel", "recorder", "collectives")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    FROZEN_S_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    IN_COLLECTIVE_FIELD_NUMBER: _ClassVar[int]
    WAIT_CHANNEL_FIELD_NUMBER: _ClassVar[int]
    RECORDER_FIELD_NUMBER: _ClassVar[int]
    COLLECTIVES_FIELD_NUMBER: _ClassVar[int]
    samples: int
    age_s: float
    stack: int
    frozen_s: float
    busy: bool
    in_collective: bool
    wait_channel: str
    recorder: bool
    collectives: _containers.RepeatedCompositeFieldContainer[Collective]
    def __init__(self, samples: _Optional[int] = ..., age_s: _Optional[float] = ..., stack: _Optional[int] = ..., frozen_s: _Optional[float] = ..., busy: bool = ..., in_collective: bool = ..., wait_channel: _Optional[str] = ..., recorder: bool = ..., collectives: _Optional[_Iterable[_Union[Collective, _Mapping]]] = ...) -> None: ...

class Collective(_message.Message):
    __slots__ = ("group", "sequence", "operation", "shape", "done")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    group: str
    sequence: int
    operation: str
    shape: str
    done: bool
    def __init__(self, group: _Optional[str] = ..., sequence: _Optional[int] = ..., operation: _Optional[str] = ..., shape: _Optional[str] = ..., done: bool = ...) -> None: ...

class StackText(_message.Message):
    __slots__ = ("id", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: int
    text: str
    def __init__(self, id: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("name", "ranks")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    name: str
    ranks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., ranks: _Optional[_Iterable[int]] = ...) -> None: ...

class Beats(_message.Message):
    __slots__ = ("sections", "section", "step", "steps_done", "quiet_s", "step_age_s", "tokens", "loss", "grad_norm", "marks")
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    SECTION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_DONE_FIELD_NUMBER: _ClassVar[int]
    QUIET_S_FIELD_NUMBER: _ClassVar[int]
    STEP_AGE_S_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    GRAD_NORM_FIELD_NUMBER: _ClassVar[int]
    MARKS_FIELD_NUMBER: _ClassVar[int]
    sections: _containers.RepeatedScalarFieldContainer[str]
    section: _containers.RepeatedScalarFieldContainer[int]
    step: _containers.RepeatedScalarFieldContainer[int]
    steps_done: _containers.RepeatedScalarFieldContainer[int]
    quiet_s: _containers.RepeatedScalarFieldContainer[float]
    step_age_s: _containers.RepeatedScalarFieldContainer[float]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    loss: _containers.RepeatedScalarFieldContainer[float]
    grad_norm: _containers.RepeatedScalarFieldContainer[float]
    marks: _containers.RepeatedCompositeFieldContainer[Marks]
    def __init__(self, sections: _Optional[_Iterable[str]] = ..., section: _Optional[_Iterable[int]] = ..., step: _Optional[_Iterable[int]] = ..., steps_done: _Optional[_Iterable[int]] = ..., quiet_s: _Optional[_Iterable[float]] = ..., step_age_s: _Optional[_Iterable[float]] = ..., tokens: _Optional[_Iterable[int]] = ..., loss: _Optional[_Iterable[float]] = ..., grad_norm: _Optional[_Iterable[float]] = ..., marks: _Optional[_Iterable[_Union[Marks, _Mapping]]] = ...) -> None: ...

class Marks(_message.Message):
    __slots__ = ("rows", "counts")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedScalarFieldContainer[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rows: _Optional[_Iterable[int]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class Checks(_message.Message):
    __slots__ = ("rows", "group", "steps", "digests")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedScalarFieldContainer[int]
    group: int
    steps: _containers.RepeatedScalarFieldContainer[int]
    digests: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rows: _Optional[_Iterable[int]] = ..., group: _Optional[int] = ..., steps: _Optional[_Iterable[int]] = ..., digests: _Optional[_Iterable[int]] = ...) -> None: ...

class SelfChecks(_message.Message):
    __slots__ = ("rows", "kind", "agreed", "differed", "clean_step", "step", "digest", "key")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    DIFFERED_FIELD_NUMBER: _ClassVar[int]
    CLEAN_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedScalarFieldContainer[int]
    kind: int
    agreed: int
    differed: int
    clean_step: int
    step: int
    digest: int
    key: int
    def __init__(self, rows: _Optional[_Iterable[int]] = ..., kind: _Optional[int] = ..., agreed: _Optional[int] = ..., differed: _Optional[int] = ..., clean_step: _Optional[int] = ..., step: _Optional[int] = ..., digest: _Optional[int] = ..., key: _Optional[int] = ...) -> None: ...

class SkippedStep(_message.Message):
    __slots__ = ("step", "nonfinite")
    STEP_FIELD_NUMBER: _ClassVar[int]
    NONFINITE_FIELD_NUMBER: _ClassVar[int]
    step: int
    nonfinite: bool
    def __init__(self, step: _Optional[int] = ..., nonfinite: bool = ...) -> None: ...

class Pace(_message.Message):
    __slots__ = ("generation", "ranks", "steps", "step_s", "tokens_per_s", "samples_per_s", "flops_per_s", "hardware_flops_per_s", "peak_flops", "sections", "section_s", "communication_s", "all_reduce_p50_s", "all_reduce_p99_s", "loss", "learning_rate", "step_work")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_S_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_PER_S_FIELD_NUMBER: _ClassVar[int]
    FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    PEAK_FLOPS_FIELD_NUMBER: _ClassVar[int]
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    SECTION_S_FIELD_NUMBER: _ClassVar[int]
    COMMUNICATION_S_FIELD_NUMBER: _ClassVar[int]
    ALL_REDUCE_P50_S_FIELD_NUMBER: _ClassVar[int]
    ALL_REDUCE_P99_S_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    STEP_WORK_FIELD_NUMBER: _ClassVar[int]
    generation: int
    ranks: _containers.RepeatedScalarFieldContainer[int]
    steps: int
    step_s: float
    tokens_per_s: float
    samples_per_s: float
    flops_per_s: float
    hardware_flops_per_s: float
    peak_flops: float
    sections: _containers.RepeatedScalarFieldContainer[str]
    section_s: _containers.RepeatedScalarFieldContainer[float]
    communication_s: float
    all_reduce_p50_s: float
    all_reduce_p99_s: float
    loss: _containers.RepeatedScalarFieldContainer[float]
    learning_rate: float
    step_work: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, generation: _Optional[int] = ..., ranks: _Optional[_Iterable[int]] = ..., steps: _Optional[int] = ..., step_s: _Optional[float] = ..., tokens_per_s: _Optional[float] = ..., samples_per_s: _Optional[float] = ..., flops_per_s: _Optional[float] = ..., hardware_flops_per_s: _Optional[float] = ..., peak_flops: _Optional[float] = ..., sections: _Optional[_Iterable[str]] = ..., section_s: _Optional[_Iterable[float]] = ..., communication_s: _Optional[float] = ..., all_reduce_p50_s: _Optional[float] = ..., all_reduce_p99_s: _Optional[float] = ..., loss: _Optional[_Iterable[float]] = ..., learning_rate: _Optional[float] = ..., step_work: _Optional[_Iterable[float]] = ...) -> None: ...

class FirstBatches(_message.Message):
    __slots__ = ("generation", "ranks", "digests", "places")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    generation: int
    ranks: _containers.RepeatedScalarFieldContainer[int]
    digests: _containers.RepeatedScalarFieldContainer[int]
    places: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, generation: _Optional[int] = ..., ranks: _Optional[_Iterable[int]] = ..., digests: _Optional[_Iterable[int]] = ..., places: _Optional[_Iterable[int]] = ...) -> None: ...

class SectionGap(_message.Message):
    __slots__ = ("section", "longest_s")
    SECTION_FIELD_NUMBER: _ClassVar[int]
    LONGEST_S_FIELD_NUMBER: _ClassVar[int]
    section: str
    longest_s: float
    def __init__(self, section: _Optional[str] = ..., longest_s: _Optional[float] = ...) -> None: ...

class NodeEvent(_message.Message):
    __slots__ = ("id", "unix_ns", "kind", "run_id", "fields", "health")
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    id: int
    unix_ns: int
    kind: str
    run_id: str
    fields: _containers.ScalarMap[str, str]
    health: HealthEvent
    def __init__(self, id: _Optional[int] = ..., unix_ns: _Optional[int] = ..., kind: _Optional[str] = ..., run_id: _Optional[str] = ..., fields: _Optional[_Mapping[str, str]] = ..., health: _Optional[_Union[HealthEvent, _Mapping]] = ...) -> None: ...

class HealthEvent(_message.Message):
    __slots__ = ("kind", "code", "device", "pci", "unit", "fault_class", "action", "message", "pid", "process", "count", "ranks", "foreign", "ours")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PCI_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    FAULT_CLASS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_FIELD_NUMBER: _ClassVar[int]
    OURS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    code: int
    device: str
    pci: str
    unit: str
    fault_class: str
    action: str
    message: str
    pid: int
    process: str
    count: int
    ranks: _containers.RepeatedScalarFieldContainer[int]
    foreign: bool
    ours: bool
    def __init__(self, kind: _Optional[str] = ..., code: _Optional[int] = ..., device: _Optional[str] = ..., pci: _Optional[str] = ..., unit: _Optional[str] = ..., fault_class: _Optional[str] = ..., action: _Optional[str] = ..., message: _Optional[str] = ..., pid: _Optional[int] = ..., process: _Optional[str] = ..., count: _Optional[int] = ..., ranks: _Optional[_Iterable[int]] = ..., foreign: bool = ..., ours: bool = ...) -> None: ...

class Conditions(_message.Message):
    __slots__ = ("all",)
    ALL_FIELD_NUMBER: _ClassVar[int]
    all: _containers.RepeatedCompositeFieldContainer[HealthCondition]
    def __init__(self, all: _Optional[_Iterable[_Union[HealthCondition, _Mapping]]] = ...) -> None: ...

class HealthCondition(_message.Message):
    __slots__ = ("name", "device", "severity", "action", "message", "age_s", "value", "limit", "ranks", "foreign", "run_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    device: str
    severity: str
    action: str
    message: str
    age_s: float
    value: float
    limit: float
    ranks: _containers.RepeatedScalarFieldContainer[int]
    foreign: bool
    run_id: str
    def __init__(self, name: _Optional[str] = ..., device: _Optional[str] = ..., severity: _Optional[str] = ..., action: _Optional[str] = ..., message: _Optional[str] = ..., age_s: _Optional[float] = ..., value: _Optional[float] = ..., limit: _Optional[float] = ..., ranks: _Optional[_Iterable[int]] = ..., foreign: bool = ..., run_id: _Optional[str] = ...) -> None: ...

class DesiredState(_message.Message):
    __slots__ = ("version", "coordinator_session", "node_phase", "reason", "jobs", "acked_event_id")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_SESSION_FIELD_NUMBER: _ClassVar[int]
    NODE_PHASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    ACKED_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    version: int
    coordinator_session: str
    node_phase: str
    reason: str
    jobs: _containers.RepeatedCompositeFieldContainer[DesiredJob]
    acked_event_id: int
    def __init__(self, version: _Optional[int] = ..., coordinator_session: _Optional[str] = ..., node_phase: _Optional[str] = ..., reason: _Optional[str] = ..., jobs: _Optional[_Iterable[_Union[DesiredJob, _Mapping]]] = ..., acked_event_id: _Optional[int] = ...) -> None: ...

class DesiredJob(_message.Message):
    __slots__ = ("run_id", "user", "generation", "go", "place", "world", "inquiry", "stop_pids", "exit_code", "reason", "torchrun_pid", "evidence", "traceparent")
    class Place(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PLACE_UNSPECIFIED: _ClassVar[DesiredJob.Place]
        MEMBER: _ClassVar[DesiredJob.Place]
        PARKED: _ClassVar[DesiredJob.Place]
        DISMISSED: _ClassVar[DesiredJob.Place]
    PLACE_UNSPECIFIED: DesiredJob.Place
    MEMBER: DesiredJob.Place
    PARKED: DesiredJob.Place
    DISMISSED: DesiredJob.Place
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    GO_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    WORLD_FIELD_NUMBER: _ClassVar[int]
    INQUIRY_FIELD_NUMBER: _ClassVar[int]
    STOP_PIDS_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TORCHRUN_PID_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    user: str
    generation: int
    go: bool
    place: DesiredJob.Place
    world: World
    inquiry: int
    stop_pids: _containers.RepeatedScalarFieldContainer[int]
    exit_code: int
    reason: str
    torchrun_pid: int
    evidence: bool
    traceparent: str
    def __init__(self, run_id: _Optional[str] = ..., user: _Optional[str] = ..., generation: _Optional[int] = ..., go: bool = ..., place: _Optional[_Union[DesiredJob.Place, str]] = ..., world: _Optional[_Union[World, _Mapping]] = ..., inquiry: _Optional[int] = ..., stop_pids: _Optional[_Iterable[int]] = ..., exit_code: _Optional[int] = ..., reason: _Optional[str] = ..., torchrun_pid: _Optional[int] = ..., evidence: bool = ..., traceparent: _Optional[str] = ...) -> None: ...

class World(_message.Message):
    __slots__ = ("generation", "size", "group_rank", "store", "uniform", "join_id", "resume_at_most")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    GROUP_RANK_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    UNIFORM_FIELD_NUMBER: _ClassVar[int]
    JOIN_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_AT_MOST_FIELD_NUMBER: _ClassVar[int]
    generation: int
    size: int
    group_rank: int
    store: Endpoint
    uniform: bool
    join_id: int
    resume_at_most: int
    def __init__(self, generation: _Optional[int] = ..., size: _Optional[int] = ..., group_rank: _Optional[int] = ..., store: _Optional[_Union[Endpoint, _Mapping]] = ..., uniform: bool = ..., join_id: _Optional[int] = ..., resume_at_most: _Optional[int] = ...) -> None: ...
