"""Reading a torch.distributed checkpoint without unrestricted pickle.

DCP's `.metadata` is a pickle, and its default planner unpickles every object with `weights_only=False`: whoever
can write a checkpoint could run code in the training that loads it. Here the metadata may only name the few
classes that a checkpoint is described with, files must be ones that the manifest lists, and objects are read
with `weights_only=True`.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
import pickle
from collections.abc import Container
from dataclasses import replace
from typing import IO, Any

import torch
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader, Metadata
from torch.distributed.checkpoint._nested_dict import set_element
from torch.distributed.checkpoint.metadata import StorageMeta
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from ryzen_trainer.checkpoint.tensors import SMALL_BYTES, TensorReader

_ALLOWED: dict[str, frozenset[str]] = {
    "torch.distributed.checkpoint.metadata": frozenset(
        {
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        }
    ),
    "torch.distributed.checkpoint.filesystem": frozenset({"_StorageInfo"}),
    "torch.serialization": frozenset({"_get_layout"}),
    "torch": frozenset({"Size"}),
    "pathlib": frozenset({"PosixPath", "Path"}),
    "collections": frozenset({"OrderedDict"}),
    "builtins": frozenset({"set", "frozenset"}),
}


class UnexpectedPickle(pickle.UnpicklingError):
    """The metadata names something that describes no checkpoint."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        if name not in _ALLOWED.get(module, ()):
            raise UnexpectedPickle(f"checkpoint metadata names {module}.{name}, which no checkpoint needs")
        return super().find_class(module, name)


class SafeReader(FileSystemReader):
    """Reads shards of one folder; `files` are those its manifest lists."""

    def __init__(self, path: pathlib.Path, files: Container[str]) -> None:
        super().__init__(path)
        self._folder = path
        self._files = files

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Metadata:
        with (self._folder / ".metadata").open("rb") as file:
            metadata = _Unpickler(file).load()
        if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
            raise UnexpectedPickle("checkpoint metadata describes no checkpoint")
        for info in metadata.storage_data.values():
            if info.relative_path not in self._files:
                raise UnexpectedPickle(f"checkpoint metadata names {info.relative_path!r}, the manifest does not")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Small tensors by our own reader, all else by DCP's."""
        tensors = TensorReader()
        left: list[ReadItem] = []
        files: dict[str, IO[bytes]] = {}
        with contextlib.ExitStack() as opened:
            for item in plan.items:
                stored = self.storage_data[item.storage_index]
                is_tensor = item.type is LoadItemType.TENSOR
                if not is_tensor or stored.length > SMALL_BYTES or stored.transform_descriptors:
                    left.append(item)
                    continue
                name = stored.relative_path
                if name not in files:
                    files[name] = opened.enter_context((self._folder / name).open("rb"))
                files[name].seek(stored.offset)
                source = tensors.read(files[name].read(stored.length))
                for dimension, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                    source = source.narrow(dimension, start, length)
                target = planner.resolve_tensor(item).detach()
                if target.size() != source.size():
                    raise ValueError(f"{item.storage_index.fqn} has size {tuple(source.size())}, not {target.size()}")
                target.copy_(source)
                planner.commit_tensor(item, target)
        return super().read_data(replace(plan, items=left), planner)


class SafeLoadPlanner(DefaultLoadPlanner):
    """DCP's planner, with objects read by the restricted unpickler of torch."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        loaded = torch.load(value, weights_only=True, map_location="cpu")
        set_element(self.original_state_dict, self.mappings[read_item.dest_index.fqn], loaded)


def to_bytes(plain: Any) -> bytes:
    """Numbers, texts, containers and tensors as one opaque value of a checkpoint."""
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    return buffer.getvalue()


def from_bytes(value: bytes) -> Any:
    """Raises pickle.UnpicklingError for anything but what `to_bytes` is for."""
    return torch.load(io.BytesIO(value), weights_only=True, map_location="cpu")
