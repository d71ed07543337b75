"""GPU samples once more under dcgm-exporter's names, for dashboards that are there already. Opt-in.

Of the names that its Grafana dashboard uses, NVML gives all but SM_CLOCK and PROF_PIPE_TENSOR_ACTIVE, which nobody
here reads. Beside a real dcgm-exporter this makes every series twice.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator

from ryzen_telemetry.catalogue import DCGM
from ryzen_telemetry.records import Sample, Value

INFO = "ryzen.gpu.info"
_INDEX = re.compile(r"GPU (\d+)")


def samples(found: Iterable[Sample]) -> list[Sample]:
    """Of those among `found` that dcgm-exporter has a name for."""
    by_name = {ours: (name, factor) for name, (ours, factor) in DCGM.items()}
    found = list(found)
    infos = {
        given["hw.id"]: given for each in found if each.name == INFO and "hw.id" in (given := dict(each.attributes))
    }
    return [*_renamed(found, by_name, infos, socket.gethostname())]


def _renamed(
    found: Iterable[Sample], by_name: dict[str, tuple[str, float]], infos: dict[Value, dict[str, Value]], host: str
) -> Iterator[Sample]:
    for sample in found:
        if (known := by_name.get(sample.name)) is None:
            continue
        given = dict(sample.attributes)
        if given.get("hw.type") != "gpu" or given.get("hw.sensor_location", "gpu") != "gpu":
            continue
        name, factor = known
        given = {**given, **infos.get(given.get("hw.id", ""), {})}
        index = _INDEX.search(str(given.get("hw.name", "")))
        number = index[1] if index else ""
        yield Sample(
            name,
            sample.value * factor,
            (
                ("gpu", number),
                ("UUID", given.get("hw.id", "")),
                ("pci_bus_id", given.get("ryzen.gpu.pci", "")),
                ("device", f"nvidia{number}"),
                ("modelName", given.get("hw.model", "")),
                ("hostname", host),
                ("Hostname", host),
            ),
        )
