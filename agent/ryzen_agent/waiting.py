"""PURE: whether a main thread that stands still waits for other ranks, told by its stack and the flight recorder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from ryzen_agent.stacks import Frame

_COLLECTIVE = re.compile(
    r"(all_reduce|reduce|reduce_scatter|all_gather|gather|scatter|broadcast|all_to_all|barrier|monitored_barrier"
    r"|send|recv|isend|irecv|batch_isend_irecv|wait|synchronize|store_based_barrier|new_group|new_subgroups|split_group"
    r"|init_process_group|destroy_process_group|rendezvous|sync_params_and_buffers|sync_module_states"
    r"|verify_param_shape_across_processes|ddp_init_helper|get_all|wait_tensor|unshard|foreach_reduce)"
    r"(_\w+|s)?"
)
"""Functions of torch in which a rank waits for others: collectives and their kin (`all_gather_object`, `recvs`)."""

_GLUE = re.compile(r"(contextlib|functools|threading|selectors|queue|socket)\.py$")
_BACKWARD = "_engine_run_backward"
_DATA = "torch/utils/data/"
_LOADER = "_try_get_data"


def in_collective(frames: Sequence[Frame], pending: bool) -> bool:
    """`pending`: the recorder has an operation that this rank has begun and that is not done.

    Only torch's frames at the inner end count: code of the user further in (a gradient hook within `backward`)
    is what the rank really does. DDP's reducer and the engine show no Python frame of their own, so a pending
    operation under torch's frames is taken for what is waited for.
    """
    own = list(takewhile(_is_torchs, frames))
    if any(_names_collective(each) for each in own):
        return True
    return pending and bool(own) and own[0].file.startswith("torch/") and not own[0].file.startswith(_DATA)


def polls(frames: Sequence[Frame]) -> bool:
    """Whether the thread is in a loop that wakes by itself and finds nothing: a data loader waiting for its workers."""
    return any(_LOADER in each.function and each.file.startswith(_DATA) for each in frames)


def _is_torchs(frame: Frame) -> bool:
    return frame.file.startswith("torch/") or _GLUE.fullmatch(frame.file) is not None


def _names_collective(frame: Frame) -> bool:
    if not frame.file.startswith(("torch/distributed/", "torch/nn/parallel/distributed")):
        return False
    name = frame.function.rpartition(".")[2].lstrip("_")  # py-spy may give the qualified name
    return _COLLECTIVE.fullmatch(name) is not None
