"""VictoriaMetrics and Prometheus for a test, and what their query API answers."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from .processes import Server, free_port, program

Sample: TypeAlias = tuple[dict[str, str], float]


class Store:
    """Anything that speaks Prometheus's query API."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.url

    def stop(self) -> None:
        self._server.stop()

    def query(self, expression: str, **parameters: str) -> list[Sample]:
        """Now. Raises AssertionError with the server's words if it does not take the expression."""
        result = self._ask("/api/v1/query", {"query": expression, **parameters})
        return [(each["metric"], float(each["value"][1])) for each in result]

    def query_range(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """[{"metric": labels, "values": [[time, "value"], ...]}, ...]"""
        times = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
        return self._ask("/api/v1/query_range", {"query": expression, **times})

    def names(self) -> set[str]:
        """Of all metrics that are stored."""
        return set(json.loads(self._server.get("/api/v1/label/__name__/values"))["data"])

    def _ask(self, path: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        try:
            answer = json.loads(self._server.get(f"{path}?{urllib.parse.urlencode(parameters)}"))
        except OSError as error:
            said = error.read().decode() if hasattr(error, "read") else str(error)
            raise AssertionError(f"{parameters['query']}: {said}") from None
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])


class VictoriaMetrics(Store):
    """Takes OTLP metrics over HTTP below `otlp`; names as Prometheus has them."""

    def __init__(self, folder: Path) -> None:
        address = f"127.0.0.1:{free_port()}"
        command = [
            str(program("victoria-metrics")), f"-storageDataPath={folder / 'victoria'}", f"-httpListenAddr={address}",
            "-retentionPeriod=1d", "-opentelemetry.usePrometheusNaming", "-search.latencyOffset=0s",
            "-search.disableCache", "-loggerLevel=WARN",
        ]  # fmt: skip
        super().__init__(Server(command, f"http://{address}", "/health", folder / "victoria.log"))
        self.otlp = f"{self.url}/opentelemetry"

    def flush(self) -> None:
        """Make what was written visible to queries."""
        self._server.get("/internal/force_flush")


class Prometheus(Store):
    """Scrapes `targets` (job -> HOST:PORT) every second, and evaluates the rules in `rules` as often."""

    def __init__(self, folder: Path, targets: Mapping[str, str], rules: Path | None = None) -> None:
        address = f"127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)] if rules is not None else [],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            str(program("prometheus")), f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}", f"--web.listen-address={address}", "--log.level=warn",
        ]  # fmt: skip
        super().__init__(Server(command, f"http://{address}", "/-/ready", folder / "prometheus.log"))
