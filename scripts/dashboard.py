"""The Grafana dashboard of one run: `python scripts/dashboard.py [--check]` writes deploy/observability/ryzen-run.json.

Panels lie one below the other, over one time axis, so that a dip of throughput, its incident and its cost stand in one
column. Names of metrics come from the catalogue. Prometheus's own scrape and a store that takes OTLP do not name all
of them alike: gauges of unit 1 may end in `_ratio`, so they are asked for with and without.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as dashboard_model

from ryzen_telemetry.catalogue import METRICS, prometheus_name

FILE = Path(__file__).resolve().parent.parent / "deploy" / "observability" / "ryzen-run.json"
DATASOURCE = dashboard_model.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 7


class Line(NamedTuple):
    """`query` and what its lines are called."""

    query: str
    legend: str


class Row(NamedTuple):
    """A panel over the whole width. `stacked`: its lines are parts of one whole."""

    title: str
    description: str
    unit: str
    lines: tuple[Line, ...]
    stacked: bool = False


class Mark(NamedTuple):
    """Points in time where `query` has a value, with `text` of its labels."""

    name: str
    query: str
    title: str
    text: str
    colour: str


def of(name: str, *matchers: str, job: bool = True) -> str:
    """A selector for a metric of the catalogue. Raises KeyError for one that is not in it."""
    metric = METRICS[name]
    series = prometheus_name(metric)
    labels = [*(['ryzen_job="$job"'] if job else []), *matchers]
    if metric.unit == "1" and metric.kind in {"gauge", "updown"}:
        return "{" + ", ".join([f'__name__=~"{series}(_ratio)?"', *labels]) + "}"
    return series + ("{" + ", ".join(labels) + "}" if labels else "")


ROWS = (
    Row("Throughput", "Tokens a second of all ranks", "short", (Line(of("ryzen.job.throughput"), "tokens/s"),)),
    Row("MFU", "Share of the devices' peak that went into the model; HFU counts what is computed twice", "percentunit",
        (Line(of("ryzen.job.mfu"), "MFU"), Line(of("ryzen.job.hfu"), "HFU"))),
    Row("Loss by rank", "Least, median and greatest of the ranks", "none",
        (Line(of("ryzen.job.loss.min"), "least"), Line(of("ryzen.job.loss.median"), "median"),
         Line(of("ryzen.job.loss.max"), "greatest"))),
    Row("Gradient norm", "Newest norm, of the ranks", "none",
        (Line(f"quantile(0.5, {of('ryzen.rank.gradient.norm')})", "median"),
         Line(f"max({of('ryzen.rank.gradient.norm')})", "greatest"))),
    Row("Communication share", "Share of a step with a gradient sum under way; of the nodes' the greatest",
        "percentunit",
        (Line(of("ryzen.job.communication.share"), "job"),
         Line(f"max({of('ryzen.node.communication.share')})", "greatest of a node"))),
    Row("Step time", "Mean of the newest steps, and the share that waits for data", "s",
        (Line(of("ryzen.job.step.duration"), "step"),)),
    Row("Quiet, and the limit", "Since any rank advanced; beyond the limit the job counts as stalled", "s",
        (Line(of("ryzen.job.quiet"), "quiet"), Line(of("ryzen.job.stall.limit"), "limit"))),
    Row("Where the GPU time goes", "GPU-seconds a second by state: ryzen-coordinator ledger has the sums", "short",
        (Line(f"sum by (ryzen_time_state) (deriv({of('ryzen.job.gpu_time')}[$__rate_interval]))",
              "{{ryzen_time_state}}"),), stacked=True),
    Row("Effective training time ratio", "Productive over wall time, since the job began", "percentunit",
        (Line(of("ryzen.job.ettr"), "ETTR"),)),
)  # fmt: skip

_BY = "sum by (ryzen_fault_class, ryzen_action)"
_VERDICTS = of("ryzen.incident.verdict", job=False)
MARKS = (
    Mark("generations", f"changes({of('ryzen.job.generation')}[1m]) > 0", "a new generation", "of {{ryzen_job}}",
         "blue"),
    # A counter that appears with a 1 has not increased, for Prometheus: the first of a kind is asked for by itself.
    Mark("incidents",
         f"{_BY} (increase({_VERDICTS}[1m])) > 0 or {_BY} ({_VERDICTS}) unless {_BY} ({_VERDICTS} offset 1m)",
         "{{ryzen_fault_class}}", "action: {{ryzen_action}}", "red"),
)  # fmt: skip


def build() -> dict[str, Any]:
    """The dashboard as JSON values, as Grafana imports it."""
    board = (
        dashboard.Dashboard("Ryzen: one run")
        .uid("ryzen-run")
        .description("Made by scripts/dashboard.py: change it there.")
        .tags(["ryzen", "training"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(dashboard_model.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("data source").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("job")
            .label("job")
            .datasource(DATASOURCE)
            .query(f"label_values({of('ryzen.job.generation', job=False)}, ryzen_job)")
            .refresh(dashboard_model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
    )
    for place, row in enumerate(ROWS):
        board = board.with_panel(_panel(place, row))
    content: dict[str, Any] = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    content["annotations"] = {"list": [_annotation(mark) for mark in MARKS]}
    return content


def _panel(place: int, row: Row) -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .display_mode(common_model.LegendDisplayMode.TABLE)
        .placement(common_model.LegendPlacement.RIGHT)
        .show_legend(True)
        .calcs(["lastNotNull"])
    )
    panel = (
        timeseries.Panel()
        .title(row.title)
        .description(row.description)
        .datasource(DATASOURCE)
        .unit(row.unit)
        .grid_pos(dashboard_model.GridPos(x=0, y=place * HEIGHT, w=24, h=HEIGHT))
        .line_width(1.5)
        .legend(legend)
    )
    if row.stacked:
        panel = panel.fill_opacity(60).stacking(
            common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A")
        )
    for number, line in enumerate(row.lines):
        query = prometheus.Dataquery().expr(line.query).legend_format(line.legend).ref_id(chr(ord("A") + number))
        panel = panel.with_target(query)
    return panel


def _annotation(mark: Mark) -> dict[str, Any]:
    """By hand: the builder of the library knows nothing of Prometheus's own fields."""
    return {
        "name": mark.name,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "enable": True,
        "iconColor": mark.colour,
        "expr": mark.query,
        "step": "15s",
        "titleFormat": mark.title,
        "textFormat": mark.text,
    }


def text() -> str:
    return json.dumps(build(), indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write the file, or say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit code 1 if the file is not up to date")
    if parser.parse_args().check:
        raise SystemExit(0 if FILE.read_text() == text() else 1)
    FILE.write_text(text())
    sys.stdout.write(f"{FILE}\n")


if __name__ == "__main__":
    main()
