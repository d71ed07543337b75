from ryzen_protos.v1 import node_pb2 as _node_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HandlerUpdate(_message.Message):
    __slots__ = ("run_id", "torchrun_pid", "torchrun_start_ticks", "shape", "phase", "generation", "seen_generation", "taken_generation", "join_id", "store", "protocol", "version", "failed")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TORCHRUN_PID_FIELD_NUMBER: _ClassVar[int]
    TORCHRUN_START_TICKS_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SEEN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    TAKEN_GENERATION_FIELD_NUMBER: _ClassVar[int]
    JOIN_ID_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    torchrun_pid: int
    torchrun_start_ticks: int
    shape: _node_pb2.JobShape
    phase: _node_pb2.ObservedJob.Handler
    generation: int
    seen_generation: int
    taken_generation: int
    join_id: int
    store: _node_pb2.Endpoint
    protocol: int
    version: str
    failed: bool
    def __init__(self, run_id: _Optional[str] = ..., torchrun_pid: _Optional[int] = ..., torchrun_start_ticks: _Optional[int] = ..., shape: _Optional[_Union[_node_pb2.JobShape, _Mapping]] = ..., phase: _Optional[_Union[_node_pb2.ObservedJob.Handler, str]] = ..., generation: _Optional[int] = ..., seen_generation: _Optional[int] = ..., taken_generation: _Optional[int] = ..., join_id: _Optional[int] = ..., store: _Optional[_Union[_node_pb2.Endpoint, _Mapping]] = ..., protocol: _Optional[int] = ..., version: _Optional[str] = ..., failed: bool = ...) -> None: ...

class HandlerOrder(_message.Message):
    __slots__ = ("generation", "go", "world", "place", "exit_code", "reason", "address", "node")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    GO_FIELD_NUMBER: _ClassVar[int]
    WORLD_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    go: bool
    world: _node_pb2.World
    place: _node_pb2.DesiredJob.Place
    exit_code: int
    reason: str
    address: str
    node: str
    def __init__(self, generation: _Optional[int] = ..., go: bool = ..., world: _Optional[_Union[_node_pb2.World, _Mapping]] = ..., place: _Optional[_Union[_node_pb2.DesiredJob.Place, str]] = ..., exit_code: _Optional[int] = ..., reason: _Optional[str] = ..., address: _Optional[str] = ..., node: _Optional[str] = ...) -> None: ...

class LocalStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LocalStatus(_message.Message):
    __slots__ = ("identity", "coordinator", "connected", "last_error", "desired", "jobs", "spooled_events", "uptime_s", "degraded", "conditions")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    SPOOLED_EVENTS_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    identity: _node_pb2.NodeHello
    coordinator: str
    connected: bool
    last_error: str
    desired: _node_pb2.DesiredState
    jobs: _containers.RepeatedCompositeFieldContainer[_node_pb2.ObservedJob]
    spooled_events: int
    uptime_s: float
    degraded: _containers.RepeatedScalarFieldContainer[str]
    conditions: _containers.RepeatedCompositeFieldContainer[_node_pb2.HealthCondition]
    def __init__(self, identity: _Optional[_Union[_node_pb2.NodeHello, _Mapping]] = ..., coordinator: _Optional[str] = ..., connected: bool = ..., last_error: _Optional[str] = ..., desired: _Optional[_Union[_node_pb2.DesiredState, _Mapping]] = ..., jobs: _Optional[_Iterable[_Union[_node_pb2.ObservedJob, _Mapping]]] = ..., spooled_events: _Optional[int] = ..., uptime_s: _Optional[float] = ..., degraded: _Optional[_Iterable[str]] = ..., conditions: _Optional[_Iterable[_Union[_node_pb2.HealthCondition, _Mapping]]] = ...) -> None: ...
