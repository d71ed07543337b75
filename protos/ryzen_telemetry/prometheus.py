"""A place for Prometheus to scrape: on loopback unless another address is given."""

from __future__ import annotations

from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, start_http_server

from ryzen_protos.settings import SettingsError


class Scraped:
    """Listens from the start. A registry of its own: the client's default would add figures of Python itself."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Raises SettingsError where it cannot listen there."""
        registry = CollectorRegistry()
        self.reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
        host, port = address
        try:
            self._server: WSGIServer = start_http_server(port, host, registry)[0]
        except OSError as error:
            reason = error.strerror or str(error)
            raise SettingsError(f"option --prometheus: cannot listen on {host}:{port}: {reason}") from None
        self.port: int = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
