"""What is shipped for operators: does it load, does it fire, does it name what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from poller.daemon.metrics import Telemetry
from tests.support.command import DEPLOY, checked
from tests.support.daemon import DaemonProcess
from tests.support.process import require

NAME = re.compile(r"\b(?:livestat_poller|process)_\w+")
GRAFANA = {"$__rate_interval": "5m", "$job": "livestat-poller", "$instance": ".*"}
ROWS = [
    "Health",
    "Duration of a cycle, by part",
    "Kernels and keys",
    "Withheld kernels and rivals",
    "Dropped rows and partial answers",
    "Intervals and window",
    "Restore and process",
]
ALERTS = {
    "Absent",
    "AgentsStillWriting",
    "AllDown",
    "ClockSkew",
    "CyclesFailing",
    "Down",
    "ForeignKeys",
    "KernelsWithheld",
    "KeysFailing",
    "MissedCycles",
    "NoLeader",
    "NotPublishing",
    "OnFallback",
    "OverrunCycles",
    "PartialAnswers",
    "RowsDropped",
    "SamplesLag",
    "Overloaded",
    "Stale",
    "SilentAgents",
    "StalledAgents",
}


def sample_names() -> set[str]:
    """Return the name of every sample that the registry may show."""
    names = {"livestat_poller_agent_interval_seconds"}  # there is none before an agent is known
    names.add("livestat_poller_agent_measured_timestamp_seconds")
    for family in Telemetry().registry.collect():
        names |= {sample.name for sample in family.samples}
    return names


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DEPLOY / "dashboard.json").read_text())
    return document


def dashboard_queries() -> list[str]:
    """Return every query of the dashboard, the variables' and the annotations' too."""
    document = dashboard()
    queries = [
        target["expr"] for panel in document["panels"] for target in panel.get("targets", [])
    ]
    queries += [note["expr"] for note in document["annotations"]["list"]]
    variables = document["templating"]["list"]
    return queries + [one["definition"] for one in variables if one["type"] == "query"]


# --- alerts ---------------------------------------------------------------------------------


def test_the_alert_rules_are_valid() -> None:
    assert "SUCCESS" in checked(require("promtool"), "check", "rules", DEPLOY / "alerts.yml")


def test_every_alert_fires_when_it_should_and_not_when_it_should_not() -> None:
    require("promtool")
    assert "SUCCESS" in checked("promtool", "test", "rules", DEPLOY / "alerts_test.yml")


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases: dict[str, set[bool]] = {name: set() for name in ALERTS}
    for case in yaml.safe_load((DEPLOY / "alerts_test.yml").read_text())["tests"]:
        for check in case.get("promql_expr_test", []):
            if found := re.search(r'alertname="LivestatPoller(\w+)"', check["expr"]):
                cases[found[1]].add(bool(check["exp_samples"]))
    assert cases == {name: {True, False} for name in ALERTS}


def test_every_alert_waits_names_its_severity_and_says_what_to_do() -> None:
    assert {rule["alert"] for rule in rules()} == {f"LivestatPoller{name}" for name in ALERTS}
    for rule in rules():
        assert int(rule["for"].removesuffix("m")) >= 2
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert len(rule["annotations"]["description"]) > 80


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_names_only_metrics_that_there_are(rule: dict[str, Any]) -> None:
    named = set(NAME.findall(rule["expr"] + rule["annotations"]["description"]))
    families = {family.name for family in Telemetry().registry.collect()}
    assert named <= sample_names() | families
    assert named or rule["alert"] in ("LivestatPollerDown", "LivestatPollerAllDown")


def test_the_alert_on_agents_that_write_says_what_the_readme_says() -> None:
    (rule,) = (one for one in rules() if one["alert"] == "LivestatPollerAgentsStillWriting")
    told = " ".join(rule["annotations"]["description"].split())
    readme = " ".join((DEPLOY.parents[1] / "README.md").read_text("utf-8").split())
    cut_over = readme.partition("## Cut over")[2].partition("## Roll back")[0]
    (latest,) = re.findall(r"up to (\S+) has a switch that stops agents", cut_over)
    assert f"up to {latest} they have no switch" in told
    assert "write equal values" in cut_over
    assert "write equal values" in told
    assert "Switch" not in told
    assert "ACL SETUSER default" in cut_over
    assert "ACL" in told


def test_the_scrape_snippet_is_what_the_rules_expect(tmp_path: Path) -> None:
    require("promtool")
    for name in ("prometheus-scrape.yml", "alerts.yml"):
        shutil.copy(DEPLOY / name, tmp_path)
    checked("promtool", "check", "config", tmp_path / "prometheus-scrape.yml", cwd=tmp_path)
    jobs = yaml.safe_load((tmp_path / "prometheus-scrape.yml").read_text())["scrape_configs"]
    for name in ("LivestatPollerDown", "LivestatPollerAllDown"):
        down = next(rule for rule in rules() if rule["alert"] == name)
        assert f'job="{jobs[0]["job_name"]}"' in down["expr"]


# --- dashboard ------------------------------------------------------------------------------


def test_the_dashboard_has_its_rows_and_no_two_panels_in_one_place() -> None:
    panels = dashboard()["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == ROWS
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_takes_its_data_source_from_a_variable() -> None:
    document = dashboard()
    variables = {one["name"]: one["type"] for one in document["templating"]["list"]}
    assert variables == {"datasource": "datasource", "job": "query", "instance": "query"}
    sources = [panel["datasource"] for panel in document["panels"] if panel["type"] != "row"]
    sources += [
        target["datasource"] for panel in document["panels"] for target in panel.get("targets", [])
    ]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    for panel in dashboard()["panels"]:
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["targets"]
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_the_dashboard_names_only_metrics_that_there_are() -> None:
    named = {name for query in dashboard_queries() for name in NAME.findall(query)}
    assert named <= sample_names()


def test_the_dashboard_shows_every_metric() -> None:
    named = {name for query in dashboard_queries() for name in NAME.findall(query)}
    for family in Telemetry().registry.collect():
        if family.name.startswith("livestat_poller_"):
            assert any(name.startswith(family.name) for name in named), family.name


def test_no_duration_of_the_dashboard_averages_ticks_on_standby_in() -> None:
    durations = [one for one in dashboard_queries() if "cycle_duration_seconds" in one]
    assert durations
    assert all('result!="standby"' in one for one in durations)


def test_every_query_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    queries = [query for query in dashboard_queries() if not query.startswith("label_values")]
    for variable, text in GRAFANA.items():
        queries = [query.replace(variable, text) for query in queries]
    records = [{"record": f"panel:{place}", "expr": one} for place, one in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}))
    assert f"{len(queries)} rules found" in checked(require("promtool"), "check", "rules", path)


# --- container ------------------------------------------------------------------------------


def test_the_container_has_a_user_of_its_own_a_health_check_and_no_secret() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM")][-1].endswith("python:3.12-slim")
    assert "USER 10001:10001" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    copied = [
        line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line
    ]
    assert copied == [["pyproject.toml", "README.md", "config.toml"], ["poller"]]
    steps = [line for line in lines if not line.startswith("#")]
    assert not re.search(r"(?i)password|token|secret", "\n".join(steps))


def test_the_health_check_tells_a_living_poller_from_a_dead_one() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    check = json.loads(re.search(r'CMD (\["python", "-c".*\])', text)[1])  # type: ignore[index]
    with DaemonProcess(None, None) as daemon:
        command = [sys.executable, *check[1:]]
        env = {**os.environ, "POLLER_HTTP__PORT": str(daemon.port)}
        assert subprocess.run(command, env=env, timeout=30).returncode == 0
        assert daemon.stop() == 0
        dead = subprocess.run(command, env=env, capture_output=True, timeout=30)
        assert dead.returncode != 0
