"""What our pipeline emits, in real stores: every query of the dashboard has an answer, every alert can be evaluated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from tests.servers.processes import program
from tests.servers.stores import Prometheus, Store, VictoriaMetrics

from ryzen_telemetry.catalogue import METRICS, prometheus_name

from . import emitted, queries

_WAIT_S = 60.0


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    """One run in both: pushed by OTLP into VictoriaMetrics, scraped by Prometheus."""
    program("prometheus"), program("victoria-metrics")
    folder = tmp_path_factory.mktemp("stores")
    victoria = VictoriaMetrics(folder)
    try:
        with emitted.emitters(victoria.otlp) as telemetries:
            targets = {
                f"ryzen-{name}": f"127.0.0.1:{telemetry.prometheus_port}"
                for name, telemetry in zip(("coordinator", "agent"), telemetries, strict=True)
            }
            prometheus = Prometheus(folder, targets, queries.RULES)
            try:
                until(lambda: len(prometheus.query("up == 1")) == len(targets), "both are scraped")
                emitted.run(telemetries)
                victoria.flush()
                yield {"victoria": victoria, "prometheus": prometheus}
            finally:
                prometheus.stop()
    finally:
        victoria.stop()


@pytest.mark.parametrize("store", ["victoria", "prometheus"])
def test_every_metric_of_the_catalogue_arrives_under_the_name_that_the_docs_give_it(
    store: str, stores: dict[str, Store]
) -> None:
    names = stores[store].names()
    for metric in METRICS.values():
        name = prometheus_name(metric)
        expected = {f"{name}_count"} if metric.kind == "histogram" else {name, f"{name}_ratio"}
        assert expected & names, f"{metric.name}: {name} is not stored"


@pytest.mark.parametrize("store", ["victoria", "prometheus"])
@pytest.mark.parametrize(("panel", "query"), queries.of_dashboard(emitted.JOB))
def test_every_query_of_the_dashboard_has_an_answer(
    panel: str, query: str, store: str, stores: dict[str, Store]
) -> None:
    now_s = time.time()
    found = stores[store].query_range(query, now_s - 120, now_s, 1)
    assert any(each["values"] for each in found), f"{panel}: {query}"


@pytest.mark.parametrize("store", ["victoria", "prometheus"])
@pytest.mark.parametrize(("alert", "query"), queries.of_rules())
def test_every_alert_can_be_evaluated(alert: str, query: str, store: str, stores: dict[str, Store]) -> None:
    del alert
    stores[store].query(query)


def test_an_alert_fires_in_the_real_prometheus(stores: dict[str, Store]) -> None:
    until(lambda: "RyzenNodeOut" in firing(stores["prometheus"]), "the quarantined node is told of")


def firing(store: Store) -> set[str]:
    return {labels["alertname"] for labels, _ in store.query('ALERTS{alertstate="firing"}')}


def until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.1)
