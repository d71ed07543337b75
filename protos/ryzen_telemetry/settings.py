"""Where telemetry goes: options of agent and coordinator, and OpenTelemetry's own variables.

Order: flag > RYZEN_* > OTEL_* > YAML file > default. Nothing given, nothing leaves, and no line of OpenTelemetry is
imported. What a variable of one signal says (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) wins over what is said for all.
Headers, certificates, compression and the like are read by the exporters themselves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field

from ryzen_protos.settings import Settings, SettingsError, Standard

Signal: TypeAlias = Literal["metrics", "traces", "logs"]
Protocol: TypeAlias = Literal["grpc", "http/protobuf"]
Compression: TypeAlias = Literal["none", "gzip", "deflate"]
SIGNALS: tuple[Signal, ...] = ("metrics", "traces", "logs")
PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http/protobuf")

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROMETHEUS_PORT = 9464
_HTTP_PORT = 4318
_GRPC_PORT = 4317


class TelemetrySettings(Settings):
    """Options that agent and coordinator share."""

    otlp_endpoint: str | None = Field(
        default=None, description="URL of an OTLP receiver, http://HOST:4317 [OTEL_EXPORTER_OTLP_ENDPOINT]"
    )
    otlp_protocol: Protocol | None = Field(
        default=None,
        description="grpc or http/protobuf (default: by the port, 4317 is grpc's) [OTEL_EXPORTER_OTLP_PROTOCOL]",
    )
    metrics_interval_s: Annotated[float, Field(ge=1.0, le=3600.0)] = Field(
        default=15.0,
        description="between two exports of metrics; lower costs CPU here and room there [OTEL_METRIC_EXPORT_INTERVAL]",
    )
    prometheus: str | None = Field(
        default=None, description="HOST:PORT, or PORT on loopback alone, where Prometheus may scrape"
    )
    telemetry_folder: Path | None = Field(
        default=None, description="folder for faults.jsonl, communication.jsonl, performance.jsonl and spans.jsonl"
    )
    telemetry_file_bytes: Annotated[int, Field(ge=65536, le=1 << 40)] = Field(
        default=16 << 20, description="of each such file before it is set aside; four older ones are kept"
    )
    dcgm_names: bool = Field(default=False, description="GPU metrics under dcgm-exporter's names as well")

    standard_environment: ClassVar[Mapping[str, Standard]] = {
        "otlp_endpoint": Standard(_ENDPOINT),
        "otlp_protocol": Standard("OTEL_EXPORTER_OTLP_PROTOCOL"),
        "metrics_interval_s": Standard("OTEL_METRIC_EXPORT_INTERVAL", 0.001),
    }


@dataclass(frozen=True, slots=True)
class Otlp:
    """One exporter. `endpoint`: as its class wants it, with the path for HTTP."""

    endpoint: str
    protocol: Protocol
    timeout_s: float
    compression: Compression = "none"


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each signal goes. Empty: nothing at all."""

    otlp: Mapping[Signal, Otlp]
    prometheus: tuple[str, int] | None = None
    folder: Path | None = None
    file_bytes: int = 16 << 20
    metrics_interval_s: float = 15.0
    dcgm_names: bool = False

    @property
    def has_metrics(self) -> bool:
        return "metrics" in self.otlp or self.prometheus is not None

    def __bool__(self) -> bool:
        return bool(self.otlp) or self.prometheus is not None or self.folder is not None


def plan(settings: TelemetrySettings, environ: Mapping[str, str] = os.environ) -> Plan:
    """What follows from options and variables. Raises SettingsError."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Plan({})
    otlp: dict[Signal, Otlp] = {}
    scraped = settings.prometheus
    for signal in SIGNALS:
        kinds = _kinds(signal, environ)
        endpoint = _endpoint(settings, signal, environ)
        if "otlp" in kinds or (not kinds and endpoint):
            otlp[signal] = _otlp(settings, signal, endpoint, environ)
        if "prometheus" in kinds and scraped is None:
            host = environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost")
            scraped = f"{host}:{environ.get('OTEL_EXPORTER_PROMETHEUS_PORT', _PROMETHEUS_PORT)}"
    return Plan(
        otlp,
        None if scraped is None else _host_and_port(scraped),
        settings.telemetry_folder,
        settings.telemetry_file_bytes,
        settings.metrics_interval_s,
        settings.dcgm_names,
    )


def _kinds(signal: Signal, environ: Mapping[str, str]) -> set[str]:
    """OTEL_METRICS_EXPORTER and its like; empty where nothing is said."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    kinds = {each.strip() for each in environ.get(variable, "").split(",") if each.strip()}
    allowed = {"otlp", "none", *(["prometheus"] if signal == "metrics" else [])}
    if unknown := kinds - allowed:
        raise SettingsError(
            f"environment {variable}: {min(unknown)!r} is not allowed: {', '.join(sorted(allowed))} are known"
        )
    return kinds


def _endpoint(settings: TelemetrySettings, signal: Signal, environ: Mapping[str, str]) -> str:
    """Of this signal; empty where none is given."""
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    for_all = settings.otlp_endpoint or ""
    by_option = for_all and for_all != environ.get(_ENDPOINT, "").strip()
    return for_all if by_option else own or for_all


def _otlp(settings: TelemetrySettings, signal: Signal, endpoint: str, environ: Mapping[str, str]) -> Otlp:
    own_variable = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    own = endpoint == environ.get(own_variable, "").strip() and bool(endpoint)
    source = f"environment {own_variable}" if own else f"option --otlp-endpoint or environment {_ENDPOINT}"
    port = _checked_port(endpoint, source) if endpoint else None
    protocol = _protocol(settings, signal, port, environ)
    if not endpoint:
        endpoint = f"http://localhost:{_GRPC_PORT if protocol == 'grpc' else _HTTP_PORT}"
    if protocol == "http/protobuf" and not own:
        endpoint = f"{endpoint.rstrip('/')}/v1/{signal}"
    return Otlp(endpoint, protocol, _timeout_s(signal, environ), _compression(signal, protocol, environ))


def _checked_port(endpoint: str, source: str) -> int | None:
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(f"{source}: {endpoint!r} is not allowed: http://HOST:PORT or https://HOST:PORT is expected")
    return port


def _protocol(settings: TelemetrySettings, signal: Signal, port: int | None, environ: Mapping[str, str]) -> Protocol:
    variable = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
    given = environ.get(variable, "").strip()
    for protocol in PROTOCOLS:
        if given == protocol:
            return protocol
    if given:
        raise SettingsError(f"environment {variable}: {given!r} is not allowed: {' or '.join(PROTOCOLS)} is expected")
    return settings.otlp_protocol or ("grpc" if port == _GRPC_PORT else "http/protobuf")


def _compression(signal: Signal, protocol: Protocol, environ: Mapping[str, str]) -> Compression:
    allowed: tuple[Compression, ...] = ("none", "gzip") if protocol == "grpc" else ("none", "gzip", "deflate")
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"):
        text = environ.get(variable, "").strip().lower()
        for each in allowed:
            if text == each:
                return each
        if text:
            raise SettingsError(f"environment {variable}: {text!r} is not allowed: {' or '.join(allowed)} is expected")
    return "none"


def _timeout_s(signal: Signal, environ: Mapping[str, str]) -> float:
    """Milliseconds by the specification, seconds by OpenTelemetry's Python: above 600 it can only be the former."""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"):
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            given = float(text)
        except ValueError:
            given = 0.0
        if not 0.0 < given <= 600_000.0:
            raise SettingsError(f"environment {variable}: {text!r} is not allowed: a time above 0 is expected")
        return given if given <= 600.0 else given / 1000.0
    return 10.0


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isdigit() or int(port) > 65535 or (":" in bare and bare == host):
        raise SettingsError(f"option --prometheus: {text!r} is not allowed: PORT or HOST:PORT is expected")
    return bare, int(port)
