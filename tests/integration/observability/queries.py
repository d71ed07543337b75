"""Every query that the dashboard and the rules ask, and the metrics that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from ryzen_telemetry.catalogue import METRICS, prometheus_name

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "observability"
DASHBOARD = FOLDER / "ryzen-run.json"
RULES = FOLDER / "ryzen-rules.yml"
OF_PROMETHEUS = {"up"}


def of_dashboard(job: str) -> list[tuple[str, str]]:
    """(panel or annotation, query) with Grafana's variables filled in."""
    board = json.loads(DASHBOARD.read_text())
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel["targets"]]
    found += [(mark["name"], mark["expr"]) for mark in board["annotations"]["list"]]
    return [(name, _filled(query, job)) for name, query in found]


def of_rules() -> list[tuple[str, str]]:
    """(alert, expression)."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


def metrics_of(query: str) -> set[str]:
    """Names (or the patterns of them) of all selectors in the query. Raises ValueError if it is no PromQL."""
    found: set[str] = set()
    for node in _nodes(promql_parser.parse(query)):
        if isinstance(node, promql_parser.VectorSelector):
            named = [each.value for each in node.matchers.matchers if each.name == "__name__"]
            found |= {node.name} if node.name else set(named)
    return found


def known(name: str) -> bool:
    """The catalogue has it, as one of the names that a store may give it."""
    return name in OF_PROMETHEUS or any(re.fullmatch(name, each) for each in _stored_names())


def _stored_names() -> set[str]:
    names: set[str] = set()
    for metric in METRICS.values():
        name = prometheus_name(metric)
        names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if metric.kind == "histogram" else {name}
    return names


def _filled(query: str, job: str) -> str:
    return query.replace("$job", job).replace("$__rate_interval", "1m")


def _nodes(node: Any) -> Iterator[Any]:
    """The tree of a query, whatever its classes call their children."""
    yield node
    for name in ("expr", "lhs", "rhs", "param", "vector_selector", "vs"):
        child = getattr(node, name, None)
        if child is not None and not isinstance(child, (str, int, float)):
            yield from _nodes(child)
    for child in getattr(node, "args", None) or ():
        yield from _nodes(child)
