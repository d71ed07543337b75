"""Where telemetry goes: flag > RYZEN_* > OTEL_* > YAML > nowhere, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ryzen_protos.settings import SettingsError, load
from ryzen_telemetry.settings import Otlp, Plan, TelemetrySettings, plan


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("OTEL_", "RYZEN_")):
            monkeypatch.delenv(name)


def planned(**flags: Any) -> Plan:
    return plan(load(TelemetrySettings, flags))


def test_nothing_given_nothing_leaves() -> None:
    assert not planned()


def test_the_standard_endpoint_takes_all_three_signals_by_the_ports_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    assert planned().otlp == {
        each: Otlp("http://collector:4317", "grpc", 10.0) for each in ("metrics", "traces", "logs")
    }
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")
    found = planned().otlp
    assert found["traces"] == Otlp("http://collector:4318/v1/traces", "http/protobuf", 10.0)


def test_a_signals_own_variables_win_over_those_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://store:8428/opentelemetry/v1/metrics")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "2500")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    found = planned().otlp
    store = "http://store:8428/opentelemetry/v1/metrics"
    assert found["metrics"] == Otlp(store, "http/protobuf", 10.0, "gzip")
    assert found["logs"] == Otlp("http://collector:4317", "grpc", 2.5, "gzip")
    assert "traces" not in found


def test_flag_beats_our_variable_beats_the_standard_one_beats_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ryzen.yaml"
    file.write_text("otlp_endpoint: http://yaml:4317\nmetrics_interval_s: 33\n")

    def endpoint(**flags: str) -> str:
        return plan(load(TelemetrySettings, flags, file)).otlp["logs"].endpoint

    assert endpoint() == "http://yaml:4317"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4317")
    assert endpoint() == "http://standard:4317"
    monkeypatch.setenv("RYZEN_OTLP_ENDPOINT", "http://ours:4317")
    assert endpoint() == "http://ours:4317"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://logs:4317")
    assert endpoint(otlp_endpoint="http://flag:4317") == "http://flag:4317"
    assert plan(load(TelemetrySettings, {}, file)).metrics_interval_s == 33
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "60000")
    assert plan(load(TelemetrySettings, {}, file)).metrics_interval_s == 60


def test_the_sdk_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not planned(otlp_endpoint="http://collector:4317", prometheus="9464")


@pytest.mark.parametrize(
    ("given", "address"),
    [("9464", ("127.0.0.1", 9464)), ("10.0.0.1:1", ("10.0.0.1", 1)), ("[::1]:2", ("::1", 2)), (":3", ("127.0.0.1", 3))],
)
def test_a_port_alone_is_on_loopback(given: str, address: tuple[str, int]) -> None:
    assert planned(prometheus=given).prometheus == address


def test_the_standard_words_for_prometheus_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    assert planned().prometheus == ("localhost", 9464)
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "10.0.0.1")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "9000")
    assert planned().prometheus == ("10.0.0.1", 9000)


@pytest.mark.parametrize(
    ("variables", "flags", "line"),
    [
        ({}, {"otlp_endpoint": "collector:4317"},
         "option --otlp-endpoint or environment OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' is not allowed: "
         "http://HOST:PORT or https://HOST:PORT is expected"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "tcp://x"}, {},
         "environment OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'tcp://x' is not allowed: "
         "http://HOST:PORT or https://HOST:PORT is expected"),
        ({}, {"prometheus": "host"}, "option --prometheus: 'host' is not allowed: PORT or HOST:PORT is expected"),
        ({}, {"prometheus": "1:2:3"}, "option --prometheus: '1:2:3' is not allowed: PORT or HOST:PORT is expected"),
        ({"OTEL_LOGS_EXPORTER": "console"}, {},
         "environment OTEL_LOGS_EXPORTER: 'console' is not allowed: none, otlp are known"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, {},
         "environment OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' is not allowed: "
         "input should be 'grpc' or 'http/protobuf'"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "often"}, {},
         "environment OTEL_METRIC_EXPORT_INTERVAL: 'often' is not allowed: "
         "input should be a valid number, unable to parse string as a number"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "-1"}, {"otlp_endpoint": "http://a:1"},
         "environment OTEL_EXPORTER_OTLP_TIMEOUT: '-1' is not allowed: a time above 0 is expected"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, {"otlp_endpoint": "http://a:4317"},
         "environment OTEL_EXPORTER_OTLP_COMPRESSION: 'zstd' is not allowed: none or gzip is expected"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_that_says_where(
    variables: dict[str, str], flags: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        planned(**flags)
    assert str(raised.value) == line
