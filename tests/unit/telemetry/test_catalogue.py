"""The catalogue keeps to its own words, and to those of the exporter that Prometheus scrapes."""

from __future__ import annotations

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from ryzen_telemetry import catalogue
from ryzen_telemetry.catalogue import ATTRIBUTES, EVENTS, METRICS, SPANS, Metric, prometheus_name


def test_every_attribute_is_explained_and_every_explanation_is_used() -> None:
    used = {name for each in (*METRICS.values(), *EVENTS.values()) for name in each.attributes}
    assert used <= set(ATTRIBUTES)
    assert set(ATTRIBUTES) - used <= {"ryzen.node"}


def test_no_name_is_given_twice() -> None:
    names = [metric.name for group in catalogue.GROUPS for metric in group.metrics]
    assert len(names) == len(set(names)) == len(METRICS)


def test_names_of_ours_begin_with_ryzen_and_say_no_unit() -> None:
    for name in (*METRICS, *EVENTS, *SPANS):
        assert name.split(".")[0] in {"ryzen", "hw", "system", "process"}
        assert not name.endswith(("_s", "_seconds", "_bytes", "_total"))


def test_each_histogram_has_its_buckets_ascending() -> None:
    for metric in METRICS.values():
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(set(metric.buckets))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_prometheus_name_is_the_exporters(metric: Metric) -> None:
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry)], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    if metric.kind == "histogram":
        meter.create_histogram(metric.name, metric.unit).record(1.0)
    elif metric.kind == "counter":
        meter.create_counter(metric.name, metric.unit).add(1)
    elif metric.kind == "updown":
        meter.create_up_down_counter(metric.name, metric.unit).add(1)
    else:
        meter.create_gauge(metric.name, metric.unit).set(1)
    names = {sample.name for family in registry.collect() for sample in family.samples}
    wanted = prometheus_name(metric)
    assert {wanted, f"{wanted}_bucket"} & names, names
    provider.shutdown()
