"""The dashboard and the alerts: every metric is one that the server has, and Grafana and Prometheus can read them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from serving import metrics

HERE = Path(__file__).resolve().parent
DEPLOY = HERE.parent.parent / "deploy"
SERVING = DEPLOY.parent / "docs" / "serving.md"
RULES = DEPLOY / "prometheus" / "shelfmark-serve.rules.yaml"

OF_EVERY_PROCESS: dict[str, list[str]] = {
    "process_resident_memory_bytes": [],
    "process_cpu_seconds_total": [],
    "process_open_fds": [],
    "process_max_fds": [],
}
OF_THE_SCRAPE = {"job", "instance"}
GRAPHIC = {"timeseries", "stat", "state-timeline"}


def families() -> list[tuple[Metric, list[str]]]:
    """The server's own metrics, with their labels."""
    own = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    return [(family, list(metric._labelnames)) for metric in own for family in metric.describe()]


def series() -> dict[str, list[str]]:
    """Names of all series that the server shows, with their labels."""
    found: dict[str, list[str]] = dict(OF_EVERY_PROCESS)
    for family, labels in families():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}[family.type]
        for ending in endings:
            found[family.name + ending] = [*labels, *(["le"] if ending == "_bucket" else [])]
    return found


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DEPLOY / "grafana" / "shelfmark-serve.json").read_text(encoding="utf-8"))
    return document


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]
    for annotation in dashboard()["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:shelfmark|process)_\w+", expression))


def labels_in(expression: str) -> set[str]:
    grouped = [name.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for name in group.split(",")]
    return {*grouped, *re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression)}


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_expression_asks_for_series_and_labels_that_the_server_shows(place: str, expression: str) -> None:
    shown = series()
    assert names_in(expression), place
    assert names_in(expression) <= set(shown)
    known = {label for name in names_in(expression) for label in shown[name]}
    assert labels_in(expression) <= known | OF_THE_SCRAPE
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


def test_every_metric_of_the_server_is_on_the_dashboard() -> None:
    asked = {name for _, expression in expressions() for name in names_in(expression)}
    names = [family.name for family, _ in families()]
    assert len(names) > 20
    missing = [name for name in names if not any(other.startswith(name) for other in asked)]
    assert missing == []


def test_documentation_lists_every_metric_with_its_labels() -> None:
    listed = {
        name: {label for label in labels.split(",") if label}
        for name, labels in re.findall(r"`(shelfmark_\w+)(?:\{([\w,]*)\})?`", SERVING.read_text(encoding="utf-8"))
    }
    shown = {re.sub(r"_(bucket|sum|count)$", "", name): {*labels} - {"le"} for name, labels in series().items()}
    assert listed == {name: labels for name, labels in shown.items() if name not in OF_EVERY_PROCESS}


def test_documentation_lists_every_alert() -> None:
    listed = re.findall(r"^\| `(Shelfmark\w+)` \|", SERVING.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [rule["alert"] for rule in rules()]


def test_names_and_labels_are_read_from_an_expression() -> None:
    expression = (
        'histogram_quantile(0.9, sum by (route, le) (rate(shelfmark_x_bucket{job=~"$job", status!="503"}[5m])))'
    )
    assert names_in(expression) == {"shelfmark_x_bucket"}
    assert labels_in(expression) == {"route", "le", "job", "status"}


def test_process_metrics_are_those_of_the_client_library() -> None:
    shown = {family.name for family in prometheus_client.PROCESS_COLLECTOR.collect()}
    assert {name.removesuffix("_total") for name in OF_EVERY_PROCESS} <= shown


def test_every_source_is_the_variable() -> None:
    document = dashboard()
    (source,) = [variable for variable in document["templating"]["list"] if variable["type"] == "datasource"]
    expected = {"type": source["query"], "uid": f"${{{source['name']}}}"}
    assert expected["type"] == "prometheus"
    graphic = [panel for panel in panels() if panel["type"] != "row"]
    sources = [panel["datasource"] for panel in graphic]
    sources += [target["datasource"] for panel in graphic for target in panel["targets"]]
    sources += [variable["datasource"] for variable in document["templating"]["list"] if variable["type"] == "query"]
    sources += [annotation["datasource"] for annotation in document["annotations"]["list"] if "expr" in annotation]
    assert len(sources) > 2 * len(graphic)
    assert all(found == expected for found in sources)


def test_panels_have_ids_of_their_own_titles_units_and_descriptions() -> None:
    assert dashboard()["id"] is None  # an id is one Grafana's; without, it imports
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["type"] in GRAPHIC
            assert panel["description"].endswith(".")
            assert panel["type"] == "state-timeline" or panel["fieldConfig"]["defaults"]["unit"]
            refs = [target["refId"] for target in panel["targets"]]
            assert refs
            assert len(set(refs)) == len(refs)


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    height = 1 + max(y for _, y in taken)
    assert taken == {(x, y) for x in range(24) for y in range(height)}


def test_alerts_say_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 5
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+m", rule["for"])


def promtool(*arguments: str) -> str:
    search_path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = os.environ.get("SHELFMARK_PROMTOOL") or shutil.which("promtool", path=search_path)
    if program is None:
        pytest.skip("needs promtool (Prometheus): not on PATH and SHELFMARK_PROMTOOL is not set")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(RULES))


def test_prometheus_can_read_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    read = [expression.replace("$__rate_interval", "5m") for expression in asked]
    recorded = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(read)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}), encoding="utf-8")
    assert f"{len(asked)} rules found" in promtool("check", "rules", str(path))


def test_alerts_go_off_when_they_should_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(HERE / "alerts.yaml"))
