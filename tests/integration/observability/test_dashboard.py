"""Dashboard, alerts and configs in deploy/observability: valid, up to date, about metrics that there are."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.servers.processes import program

from . import queries

SCRIPT = runpy.run_path(str(queries.FOLDER.parents[1] / "scripts" / "dashboard.py"))


def test_the_dashboard_is_the_one_that_the_script_makes() -> None:
    assert queries.DASHBOARD.read_text() == SCRIPT["text"](), "run: python scripts/dashboard.py"


@pytest.mark.parametrize(("name", "query"), queries.of_dashboard("run"))
def test_a_query_of_the_dashboard_names_metrics_of_the_catalogue(name: str, query: str) -> None:
    named = queries.metrics_of(query)
    assert named
    assert not {each for each in named if not queries.known(each)}, name


@pytest.mark.parametrize(("name", "query"), queries.of_rules())
def test_an_alert_names_metrics_of_the_catalogue(name: str, query: str) -> None:
    named = queries.metrics_of(query)
    assert named
    assert not {each for each in named if not queries.known(each)}, name


def test_a_metric_that_is_not_in_the_catalogue_would_be_noticed() -> None:
    assert not queries.known("ryzen_job_happiness_ratio")
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        queries.metrics_of("sum(ryzen_job_mfu")


def test_panels_lie_below_each_other_over_the_whole_width_and_each_has_its_query() -> None:
    panels = SCRIPT["build"]()["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"], panel["gridPos"]["w"]) for panel in panels]
    assert places == [(0, number * SCRIPT["HEIGHT"], 24) for number in range(len(panels))]
    assert all(panel["targets"] and panel["title"] and panel["description"] for panel in panels)


def test_prometheus_takes_the_scrape_config_and_the_rules() -> None:
    done = promtool("check", "config", str(queries.FOLDER / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_tests_of_the_alerts_pass() -> None:
    done = promtool("test", "rules", str(queries.FOLDER / "ryzen-rules-test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test_that_sees_it_fire() -> None:
    tests = yaml.safe_load((queries.FOLDER / "ryzen-rules-test.yml").read_text())["tests"]
    fired = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each.get("exp_alerts")}
    assert fired == {name for name, _ in queries.of_rules()}


def test_the_collectors_pipelines_use_what_is_declared_and_nothing_is_declared_for_nothing() -> None:
    config = yaml.safe_load((queries.FOLDER / "otel-collector.yml").read_text())
    pipelines = config["service"]["pipelines"]
    assert set(pipelines) == {"metrics", "traces", "logs"}
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines.values() for name in pipeline[kind]}
        assert used == set(config[kind])
    for pipeline in pipelines.values():
        assert pipeline["processors"][0] == "memory_limiter", "it must come first"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [program("promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
