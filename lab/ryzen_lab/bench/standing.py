"""A cluster of the lab for a measurement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ryzen_lab.cluster import Cluster, Layout
from ryzen_lab.observer import Observer
from ryzen_lab.place import Place


@asynccontextmanager
async def standing(layout: Layout) -> AsyncIterator[tuple[Cluster, Observer]]:
    """With its coordinator running, and nothing else yet; all of it is gone afterwards. Raises LabError."""
    with Place() as place:
        observer = Observer(place.folder / "lab.sock")
        await observer.start()
        cluster = Cluster(layout, place.folder, place.lab_id, observer)
        try:
            await cluster.start_coordinator()
            yield cluster, observer
        finally:
            await cluster.stop()
            await observer.stop()
