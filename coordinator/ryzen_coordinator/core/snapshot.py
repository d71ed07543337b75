"""The core's whole state, its events and its effects as plain JSON, and back: exactly, and without pickle.

Which classes there are is found from the core's own modules, their fields from the classes themselves: a field that
is added to a state class needs no word here. Every value that JSON has no word for is a list with a tag:

    ["t", ...] tuple   ["l", ...] list   ["s", ...] set   ["z", ...] frozenset   ["d", key, value, ...] dict
    ["f", "inf"] a float that JSON cannot write   ["a", dtype, shape, base64] array   ["n", dtype, value] its scalar
    ["Job", field, field, ...] a class of the core   ["r", 3] the long tuple that was written as number 3

Fields go by their place, so a reader must know the writer's `schema()`; `check_schema` refuses another one in words. A
tuple that is shared, as the names of a world's 2,048 nodes are by all that is told to them, is written once.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import math
import pkgutil
from enum import Enum
from functools import cache
from typing import Any

import numpy as np

from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.settings import CoreSettings

_PACKAGE = __name__.rpartition(".")[0]
_PLAIN = frozenset({type(None), bool, int, str})
_ARRAYS = "biuf"
"""Kinds of dtype: flags and numbers. Not objects, whose bytes would be pointers."""
_SHARED_LEAST = 8
"""Tuples from this length on are worth a look whether they have been written before."""


class SnapshotError(ValueError):
    """A value that no version of the core makes, or that another version has written; one line."""


# ---------------------------------------------------------------- the core as a whole


def take(core: Core) -> dict[str, Any]:
    """The state of the core now, cut loose from it: what changes is copied, what cannot change is shared.

    It costs a few microseconds a node, so it can be done between two calls of the core; `encode` it elsewhere.
    """
    return {name: detached(value) for name, value in vars(core).items()}


def restored(state: Any) -> Core:
    """A core that goes on from there. `state`: what `take` gave. Raises SnapshotError."""
    known = set(vars(Core(CoreSettings())))
    if not isinstance(state, dict) or set(state) != known:
        raise SnapshotError("written by another version of ryzen: the core's own attributes differ")
    core = Core.__new__(Core)
    vars(core).update(state)
    return core


def detached(value: Any) -> Any:
    """A copy of everything in `value` that can change."""
    kind = type(value)
    if kind is dict:
        return {key: detached(each) for key, each in value.items()}
    if kind is list:
        return [detached(each) for each in value]
    if kind is set:
        return set(value)
    if kind is np.ndarray:
        return value.copy()
    if kind in _mutable():
        copied = object.__new__(kind)
        for name in classes()[kind]:
            setattr(copied, name, detached(getattr(value, name)))
        return copied
    return value


# ---------------------------------------------------------------- classes


@cache
def classes() -> dict[type, tuple[str, ...]]:
    """Every dataclass, named tuple and enumeration of the core, with its fields (or members).

    All of the core's modules are loaded for it: what a process happens to have imported is no version of ryzen.
    """
    found: dict[type, tuple[str, ...]] = {}
    package = importlib.import_module(_PACKAGE)
    for name in sorted(each.name for each in pkgutil.walk_packages(package.__path__, f"{_PACKAGE}.")):
        for each in vars(importlib.import_module(name)).values():
            if isinstance(each, type) and each.__module__ == name and (fields := _fields(each)) is not None:
                found[each] = fields
    names = [each.__name__ for each in found]
    if len(set(names)) != len(names):
        raise SnapshotError(f"two classes of the core have one name: {sorted(names)}")
    return found


def schema() -> dict[str, list[str]]:
    """Class name -> its fields in the order of writing."""
    return {each.__name__: list(fields) for each, fields in classes().items()}


def check_schema(written: Any) -> None:
    """Raises SnapshotError if what was written with that schema cannot be read here."""
    ours = schema()
    if not isinstance(written, dict):
        raise SnapshotError("written by another version of ryzen: it has no schema")
    for name, fields in written.items():
        if name not in ours:
            raise SnapshotError(f"written by another version of ryzen: it has a class {name}, this one has not")
        for field in sorted(set(fields) ^ set(ours[name])):
            here, not_here = ("it", "this one") if field in fields else ("this one", "it")
            raise SnapshotError(f"written by another version of ryzen: {here} has {name}.{field}, {not_here} has not")
        if fields != ours[name]:
            raise SnapshotError(f"written by another version of ryzen: the fields of {name} have another order")


def _fields(kind: type) -> tuple[str, ...] | None:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return tuple(kind._fields)
    if issubclass(kind, Enum):
        return tuple(kind.__members__)
    return None


@cache
def _by_name() -> dict[str, type]:
    return {each.__name__: each for each in classes()}


@cache
def _mutable() -> frozenset[type]:
    return frozenset(
        each
        for each in classes()
        if dataclasses.is_dataclass(each) and not each.__dataclass_params__.frozen  # type: ignore[attr-defined]
    )


# ---------------------------------------------------------------- writing


def encode(value: Any, *, share: bool = True) -> Any:
    """`value` as what `json.dumps` takes. Equal values give equal results if nothing is shared.

    Raises SnapshotError for a class that is not the core's.
    """
    return _Writer(share).put(value)


class _Writer:
    def __init__(self, share: bool) -> None:
        self._share = share
        self._written: dict[int, int] = {}  # id of a tuple -> its number; the value that is written keeps it alive

    def put(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is float:
            return value if math.isfinite(value) else ["f", repr(value)]
        if kind is tuple:
            return self._tuple(value)
        if (fields := classes().get(kind)) is not None:
            return self._instance(kind, fields, value)
        return self._container(kind, value)

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        if not self._share or len(value) < _SHARED_LEAST:
            return ["t", *map(self.put, value)]
        if (number := self._written.get(id(value))) is not None:
            return ["r", number]
        written = ["t", *map(self.put, value)]
        self._written[id(value)] = len(self._written)  # numbered at their end, as the reader meets them
        return written

    def _instance(self, kind: type, fields: tuple[str, ...], value: Any) -> Any:
        if isinstance(value, tuple):
            return [kind.__name__, *map(self.put, value)]
        if isinstance(value, Enum):
            return [kind.__name__, value.name]
        return [kind.__name__, *(self.put(getattr(value, name)) for name in fields)]

    def _container(self, kind: type, value: Any) -> Any:
        if kind is list:
            return ["l", *map(self.put, value)]
        if kind is dict:
            return ["d", *(self.put(part) for pair in value.items() for part in pair)]
        if kind is set or kind is frozenset:
            items = sorted((_Writer(False).put(each) for each in value), key=repr)  # no order of its own
            return ["s" if kind is set else "z", *items]
        if kind is np.ndarray and value.dtype.kind in _ARRAYS:
            return ["a", value.dtype.str, list(value.shape), base64.b64encode(value.tobytes()).decode()]
        if isinstance(value, np.generic) and value.dtype.kind in _ARRAYS:
            return ["n", value.dtype.str, self.put(value.item())]
        raise SnapshotError(f"a {kind.__name__} is none of the core's own types")


# ---------------------------------------------------------------- reading


def decode(written: Any) -> Any:
    """What `encode` was given. Raises SnapshotError for anything that it does not write."""
    try:
        return _Reader().get(written)
    except SnapshotError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise SnapshotError(f"not a snapshot of the core: {error!r}") from error


class _Reader:
    def __init__(self) -> None:
        self._tuples: list[tuple[Any, ...]] = []

    def get(self, written: Any) -> Any:
        if not isinstance(written, list):
            if isinstance(written, dict):
                raise SnapshotError("not a snapshot of the core: an object")
            return written
        tag, items = written[0], written[1:]
        if tag == "t":
            return self._tuple(items)
        if tag == "r":
            return self._tuples[items[0]]
        if (kind := _by_name().get(tag)) is not None:
            return self._instance(kind, items)
        return self._container(tag, items)

    def _tuple(self, items: list[Any]) -> tuple[Any, ...]:
        value = tuple(map(self.get, items))
        if len(value) >= _SHARED_LEAST:
            self._tuples.append(value)
        return value

    def _instance(self, kind: type, items: list[Any]) -> Any:
        if issubclass(kind, Enum):
            return kind[items[0]]
        fields = classes()[kind]
        if len(items) != len(fields):
            raise SnapshotError(f"written by another version of ryzen: {kind.__name__} has other fields")
        if issubclass(kind, tuple):
            return kind(*map(self.get, items))
        value = object.__new__(kind)  # no __init__: derived fields have been written, too
        for name, item in zip(fields, items, strict=True):
            object.__setattr__(value, name, self.get(item))
        return value

    def _container(self, tag: str, items: list[Any]) -> Any:
        if tag == "l":
            return [self.get(item) for item in items]
        if tag == "d":
            parts = [self.get(item) for item in items]
            return dict(zip(parts[::2], parts[1::2], strict=True))
        if tag == "s":
            return {_Reader().get(item) for item in items}
        if tag == "z":
            return frozenset(_Reader().get(item) for item in items)
        if tag == "f":
            return float(items[0])
        if tag == "n":
            return _dtype(items[0]).type(self.get(items[1]))
        if tag == "a":
            return np.frombuffer(base64.b64decode(items[2]), dtype=_dtype(items[0])).reshape(items[1]).copy()
        raise SnapshotError(f"written by another version of ryzen: it has a class {tag}, this one has not")


def _dtype(name: str) -> np.dtype[Any]:
    found = np.dtype(name)
    if found.kind not in _ARRAYS:
        raise SnapshotError(f"not a snapshot of the core: an array of {name}")
    return found
