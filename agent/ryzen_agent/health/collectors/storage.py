"""Room on the node's own file systems. The checkpoint folder has a collector of its own, for its server may be dead."""

from __future__ import annotations

from ryzen_agent.health.collector import Collector
from ryzen_agent.health.model import Condition, Reading, Sample
from ryzen_agent.health.settings import HealthSettings
from ryzen_agent.health.space import broken_condition, read_space, space_conditions, space_samples


class StorageCollector(Collector):
    """Each file system once, under the first of its folders. One that is not there is left out."""

    name = "storage"
    interval_s = 60.0
    deadline_s = 30.0

    def __init__(self, settings: HealthSettings) -> None:
        state = [settings.state_folder] if settings.state_folder is not None else []
        self._folders = [*settings.storage_folders, *state]

    def collect(self) -> Reading:
        conditions: list[Condition] = []
        samples: list[Sample] = []
        seen: set[int] = set()
        for folder in self._folders:
            try:
                space = read_space(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                conditions.append(broken_condition(folder, error))
                continue
            if space.device not in seen:
                seen.add(space.device)
                conditions += space_conditions(folder, space)
                samples += space_samples(folder, space)
        return Reading(conditions=tuple(conditions), samples=tuple(samples))
