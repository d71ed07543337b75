"""Writes the tables of docs/telemetry.md from the catalogue: `python scripts/telemetry_docs.py`.

What stands above the marker is written by hand and left alone; a test holds the file against this.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ryzen_telemetry.catalogue import (
    ATTRIBUTES,
    DCGM,
    EVENTS,
    GROUPS,
    RESOURCE,
    SPANS,
    Event,
    Metric,
    Service,
    prometheus_name,
)

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "telemetry.md"
MARKER = "<!-- from here on written by scripts/telemetry_docs.py -->\n"


def main() -> None:
    """Write the file anew."""
    DOCUMENT.write_text(document(DOCUMENT.read_text()))


def document(text: str) -> str:
    """The file's text with fresh tables."""
    above, _, _ = text.partition(MARKER)
    return above + MARKER + "\n".join(tables()) + "\n"


def tables() -> Iterator[str]:
    """All of them."""
    yield "\n## Metrics\n"
    yield "By: the agent (A), one on each node, or the coordinator (C). Prometheus names as a scrape shows them."
    for group in GROUPS:
        yield f"\n### {group.title}\n"
        yield "| metric | kind | unit | what it is | attributes | by | Prometheus |\n|---|---|---|---|---|---|---|"
        yield from (_metric(each) for each in group.metrics)
    yield "\n## Events\n"
    yield "| event | file | what it is | attributes | by |\n|---|---|---|---|---|"
    yield from (_event(each) for each in EVENTS.values())
    yield "\n## Spans\n"
    yield "| span | what it is | by |\n|---|---|---|"
    yield from (f"| `{each.name}` | {each.description} | {_by(each.by)} |" for each in SPANS.values())
    yield "\n## Attributes\n"
    yield "| attribute | what it says |\n|---|---|"
    yield from (f"| `{name}` | {words} |" for name, words in ATTRIBUTES.items())
    yield "\n## Resource\n"
    yield "| attribute | where it is from |\n|---|---|"
    yield from (f"| `{name}` | {words} |" for name, words in RESOURCE.items())
    yield "\n## dcgm-exporter's names\n"
    yield "With `--dcgm-names`; beside a real dcgm-exporter each series would be there twice.\n"
    yield "| name | made of | factor |\n|---|---|---|"
    yield from (f"| `{name}` | `{ours}` | {factor:g} |" for name, (ours, factor) in DCGM.items())


def _metric(metric: Metric) -> str:
    attributes = ", ".join(f"`{each}`" for each in metric.attributes)
    name = f"| `{metric.name}` | {metric.kind} | {metric.unit} | {metric.description} |"
    return f"{name} {attributes} | {_by(metric.by)} | `{prometheus_name(metric)}` |"


def _event(event: Event) -> str:
    attributes = ", ".join(f"`{each}`" for each in event.attributes)
    return f"| `{event.name}` | {event.stream} | {event.description} | {attributes} | {_by(event.by)} |"


def _by(services: tuple[Service, ...]) -> str:
    return " ".join(each[0].upper() for each in services)


if __name__ == "__main__":
    main()
