"""Whom to blame when ranks exit: cause first, clock last.

After one rank dies the others die of it within 3-23 ms (measured), with exit code 1 or SIGABRT and an error of
the collective that lost its peer. So failures are sorted by what can only be a cause and what is likely a
consequence; the time of death decides among equals alone, because clocks and messages of two nodes never
compare to the millisecond. Where nothing separates, "unknown" is a verdict and names nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, TypeAlias

FaultClass: TypeAlias = Literal[
    "exit",
    "oom",
    "hang",
    "desync",
    "node_lost",
    "network",
    "hardware",
    "thermal",
    "divergence",
    "corruption",
    "unknown",
]
Action: TypeAlias = Literal["none", "advise", "restart", "rollback", "evict", "stop"]
Confidence: TypeAlias = Literal["certain", "likely", "unknown"]


@dataclass(frozen=True, slots=True)
class Failure:
    """How one rank ended. `ended_s`: core time of the exit or of the exception's stamp."""

    rank: int
    node: str
    exit_code: int | None
    ended_s: float
    error_type: str = ""
    error_message: str = ""
    killed_by_agent: bool = False
    step: int | None = None
    oom_killed: bool = False

    def words(self) -> str:
        if self.error_type:
            told = f"{self.error_type}: {essence(self.error_message)}".rstrip(": ")
            return f"rank {self.rank} ({self.node}): " + (
                f"a collective has lost its peer ({told})" if is_collective(self) else told
            )
        if self.oom_killed:
            return f"rank {self.rank} ({self.node}): killed by the kernel, which was out of memory"
        if self.killed_by_agent:
            return f"rank {self.rank} ({self.node}): killed by its agent"
        if self.exit_code is None:
            return f"rank {self.rank} ({self.node}): ended, exit code not known"
        return f"rank {self.rank} ({self.node}): {ending_words(self.exit_code)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happened, to whom, how sure we are, and what is done about it."""

    fault_class: FaultClass
    ranks: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    action: Action = "none"
    reason: str = ""
    confidence: Confidence = "certain"
    advice: str = ""


class Weight(IntEnum):
    """How much a failure is a cause: the lowest weight present is to blame."""

    CAUSE = 0  # a signal from outside or from the CPU, or an exception of the script's own
    ABORT = 1  # SIGABRT: a failed check, or a watchdog that gave up on a dead peer
    STATUS = 2  # sys.exit(3), a signal of another kind, an exit code that could not be read
    SILENT = 3  # exit code 1 without a word: an exception of a script that sends no progress
    CONSEQUENCE = 4  # a collective that lost its peer; torchrun's SIGTERM to the siblings
    OURS = 5  # killed by the agent


_SIGNALS = {
    2: "SIGINT",
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    15: "SIGTERM",
}
_CAUSE_SIGNALS = frozenset({4, 7, 8, 9, 11})
_SIGABRT, _SIGKILL, _SIGTERM = 6, 9, 15

# RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:31270
# torch.distributed.DistBackendError: NCCL error ... ncclRemoteError: A call failed possibly due to a network error
# torch.distributed.DistNetworkError: Failed to recv, got 0 bytes. Connection was likely closed.
# RuntimeError: Gloo connectFullMesh failed with ... Connection refused
_COLLECTIVE = re.compile(
    r"closed by peer|connection (was likely )?closed|connection reset|connection refused|connectfullmesh"
    r"|ncclremoteerror|ncclsystemerror|broken pipe|socket .*closed|read error|failed to recv|gloo.*timed? ?out"
    r"|nccl communicator was aborted|timed out waiting \d+ms for (recv|send)",
    re.IGNORECASE,
)
_COLLECTIVE_TYPES = frozenset({"DistBackendError", "DistNetworkError", "DistStoreError"})

# torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)
_OUT_OF_MEMORY_TYPES = frozenset({"MemoryError", "OutOfMemoryError"})

# RuntimeError: [enforce fail at .../gloo/transport/tcp/pair.cc:454] op.preamble.length <= op.nbytes. 8192 vs 4
# RuntimeError: Detected mismatch between collectives on ranks. Rank 0 is running collective: ...
_MISMATCH = re.compile(r"op\.preamble\.length|mismatch between collectives|collective.* mismatch", re.IGNORECASE)

_SAME_MOMENT_S = 0.005


# [/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:741.
# This is typically caused by a remote worker crashing. Check the logs ...
# Got the following error when running the callback: RuntimeError: [/__w/.../pair.cc:537] Read error ...
_CALLBACK = re.compile(r"^Got the following error when running the callback: \w+: ")
_SOURCE_LINE = re.compile(r"^\[[^\]]*\.\w+:\d+\]\s*")


def essence(message: str) -> str:
    """An error's message without the place in torch's source and the advice behind it."""
    return _SOURCE_LINE.sub("", _CALLBACK.sub("", message)).partition(" This is typically")[0].rstrip(".")


def signal_name(number: int) -> str:
    return _SIGNALS.get(number, f"signal {number}")


def ending_words(exit_code: int) -> str:
    return f"killed by {signal_name(-exit_code)}" if exit_code < 0 else f"exit code {exit_code}"


def weigh(failure: Failure) -> Weight:
    """Cause or consequence. An exception's stamp counts even if the agent killed the rank after it."""
    if failure.oom_killed:
        return Weight.CAUSE
    if failure.error_type or failure.error_message:
        return Weight.CONSEQUENCE if is_collective(failure) or is_mismatch(failure) else Weight.CAUSE
    if failure.killed_by_agent:
        return Weight.OURS
    code = failure.exit_code
    if code is None:
        return Weight.STATUS
    if code == 1:
        return Weight.SILENT
    if code == -_SIGTERM:
        return Weight.CONSEQUENCE
    if code == -_SIGABRT:
        return Weight.ABORT
    return Weight.CAUSE if -code in _CAUSE_SIGNALS else Weight.STATUS


def is_collective(failure: Failure) -> bool:
    """The error is that of a collective whose peer went away."""
    return _last_name(failure.error_type) in _COLLECTIVE_TYPES or bool(_COLLECTIVE.search(failure.error_message))


def is_mismatch(failure: Failure) -> bool:
    """The error of a collective that another rank entered with another operation or size."""
    return bool(failure.error_type and _MISMATCH.search(failure.error_message))


def memory_advice(failure: Failure) -> str:
    """What a person may do about a rank that ran out of memory."""
    on_device = "CUDA" in failure.error_message or "HIP" in failure.error_message
    if on_device:
        return (
            "device memory: a smaller micro-batch or sequence, activation checkpointing, or "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True against fragmentation; a restart alone ends the same way"
        )
    return (
        "host memory: fewer or leaner data loader workers, a smaller prefetch, a checkpoint that is staged in parts, "
        "or a higher memory limit of the container"
    )


def is_out_of_memory(failure: Failure) -> bool:
    if failure.oom_killed:
        return True
    in_type = _last_name(failure.error_type) in _OUT_OF_MEMORY_TYPES
    return in_type or bool(failure.error_type and _OUT_OF_MEMORY.search(failure.error_message))


def may_follow(failure: Failure) -> bool:
    """It is blamed only for want of a better one: a script without a page ends so, too, when its peer has died."""
    return weigh(failure) in {Weight.ABORT, Weight.SILENT}


def only_consequences(failures: list[Failure]) -> bool:
    """No failure here can be the cause: it must be looked for elsewhere."""
    return all(weigh(failure) >= Weight.CONSEQUENCE for failure in failures)


def culprits(failures: list[Failure]) -> list[Failure]:
    """Those to blame, earliest first; empty if nothing separates.

    Among equals the earliest; and every rank that was killed from outside (SIGKILL, not by us) or that failed in
    the same moment, because neither can be a consequence of the other.
    """
    if not failures or only_consequences(failures):
        return []
    best = min(weigh(failure) for failure in failures)
    equals = sorted((f for f in failures if weigh(f) == best), key=lambda f: (f.ended_s, f.rank))
    if best is not Weight.CAUSE:
        return equals[:1]
    first = equals[0].ended_s
    return [f for f in equals if (f.exit_code == -_SIGKILL and not f.error_type) or f.ended_s - first <= _SAME_MOMENT_S]


def judge_exit(failures: list[Failure]) -> Verdict:
    """The verdict on a set of failed ranks; the action is the policy's to fill in."""
    guilty = culprits(failures)
    if not guilty:
        return Verdict("unknown", confidence="unknown", reason=_why_unknown(failures))
    fault: FaultClass = "oom" if any(is_out_of_memory(f) for f in guilty) else "exit"
    sure: Confidence = "certain" if weigh(guilty[0]) is Weight.CAUSE else "likely"
    return Verdict(
        fault,
        ranks=tuple(sorted(f.rank for f in guilty)),
        nodes=tuple(sorted({f.node for f in guilty})),
        reason="; ".join(f.words() for f in guilty),
        confidence=sure,
        advice=next((memory_advice(f) for f in guilty if is_out_of_memory(f)), ""),
    )


def shared_exception(failures: list[Failure]) -> str | None:
    """The exception that ranks of at least two nodes raised by themselves at the same step: the job's own fault.

    Figures in the message are not compared (addresses, sizes, ranks differ).
    """
    seen: dict[tuple[str, str, int | None], set[str]] = {}
    for failure in failures:
        if failure.error_type and not is_collective(failure):
            text = re.sub(r"\d+", "#", failure.error_message)
            seen.setdefault((failure.error_type, text, failure.step), set()).add(failure.node)
    for (kind, text, step), nodes in seen.items():
        if len(nodes) > 1:
            where = f" at step {step}" if step is not None else ""
            return f"{kind}: {text}{where} on {', '.join(sorted(nodes))}"
    return None


def _why_unknown(failures: list[Failure]) -> str:
    if not failures:
        return "torchrun came back to the rendezvous; no rank's end was seen"
    return f"{len(failures)} ranks ended, each as a consequence of another"


def _last_name(error_type: str) -> str:
    return error_type.rpartition(".")[2]
