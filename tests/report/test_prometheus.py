"""The file that Prometheus reads, and the dashboard and alerts of docker/observability, which name what it has."""

import datetime as dt
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from microrec.config.settings import HOME
from microrec.errors import BadArgument
from microrec.release import reader, rollback
from microrec.report import prometheus
from microrec.report.prometheus import GAUGES, Sample
from microrec.tables import usage
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled, publish

DAY = dt.date(2026, 1, 7)
BEFORE = DAY - dt.timedelta(days=1)
NOW = dt.datetime(2026, 1, 8, 6, tzinfo=dt.UTC)
PERSON = "u-of-one-person"
FILES = HOME / "docker" / "observability"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
ALERTS = yaml.safe_load((FILES / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = DASHBOARD["panels"]


@pytest.fixture
def warehouse(place: Path) -> Warehouse:
    """Two releases, of which the second has figures, gates that name a person, and costs of its tasks."""
    opened = Warehouse.open()
    for day in (BEFORE, DAY):
        publish(opened, day, 3, detail=PERSON, user_id=[PERSON, "u1", "u2"])
        opened.write("nights", filled(opened, "nights", 1), day=day)
    evaluated = [("blend", 0.3), ("popularity", 0.2), ("blend-minus-popularity", 0.1)]
    measured(opened, "evaluation", [(name, "ndcg@20", "all", value) for name, value in evaluated])
    counted = [
        ("raw_interactions", "rows_in", "all", 200.0),
        ("raw_interactions", "rejected", "rule=bad_watch", 15.0),
        ("raw_interactions", "rejected", "rule=unknown_video", 5.0),
    ]
    measured(opened, "events", counted)
    usage.save(opened, DAY, usage.Usage("train_model", "trial", "content", 3.5, 700, False, ""))
    return opened


def measured(warehouse: Warehouse, stage: str, rows: list[tuple[str, str, str, float]]) -> None:
    name, metric, of, value = zip(*rows, strict=True)
    given = {"name": name, "metric": metric, "slice": of, "value": value, "n": [9] * len(rows)}
    given |= {"low": [each - 0.01 for each in value], "high": [each + 0.01 for each in value]}
    metrics = filled(warehouse, "metrics", len(rows), **given).drop_columns(["stage"])
    warehouse.write("metrics", metrics, day=DAY, stage=stage)


def samples(warehouse: Warehouse, **more: Any) -> list[Sample]:
    given = {"findings": 2, "now": NOW, "sources": [], **more}
    return prometheus.samples(warehouse, reader.every(), **given)


def values(rows: list[Sample], name: str) -> dict[Any, float]:
    """The samples of a name by their labels, of one label by itself."""
    return {
        row.labels[0] if len(row.labels) == 1 else row.labels: row.value
        for row in rows
        if row.name == name
    }


def test_samples_have_every_figure_of_a_night_that_was_released(warehouse: Warehouse) -> None:
    rows = samples(warehouse)
    assert {row.name for row in rows} == set(GAUGES)
    assert all(len(row.labels) == len(GAUGES[row.name][1]) for row in rows)
    midnight = dt.datetime(2026, 1, 8, tzinfo=dt.UTC).timestamp()
    for name in ("release", "night"):
        assert values(rows, f"microrec_{name}_day_end_timestamp_seconds") == {(): midnight}
    assert values(rows, "microrec_watch_findings") == {(): 2}
    assert values(rows, "microrec_watch_timestamp_seconds") == {(): NOW.timestamp()}
    assert values(rows, "microrec_release_rows")["recommendations"] == 3
    verdicts = values(rows, "microrec_night_verdict")
    assert verdicts.pop("released") == 1
    assert set(verdicts.values()) == {0}
    assert values(rows, "microrec_night_rows_in") == {"raw_interactions": 200}
    assert values(rows, "microrec_night_rejected_share") == {"raw_interactions": 0.1}
    quality = values(rows, "microrec_night_quality")
    assert quality["blend", "ndcg@20", "value"] == 0.3
    assert quality["blend-minus-popularity", "ndcg@20", "low"] == pytest.approx(0.09)
    task = ("train_model", "trial", "content")
    assert values(rows, "microrec_task_seconds") == {task: 3.5}
    assert values(rows, "microrec_task_peak_bytes") == {task: 700 * 2**20}


def test_samples_of_a_day_in_another_zone_end_at_its_midnight(warehouse: Warehouse) -> None:
    (ends,) = values(
        samples(warehouse, timezone="Asia/Shanghai"), "microrec_release_day_end_timestamp_seconds"
    ).values()
    assert dt.datetime.fromtimestamp(ends, dt.UTC) == dt.datetime(2026, 1, 7, 16, tzinfo=dt.UTC)


def test_samples_of_a_withdrawn_night_tell_of_it_and_of_the_release_before(
    warehouse: Warehouse,
) -> None:
    rollback.to(str(BEFORE), reason=PERSON)
    rows = samples(warehouse)
    assert values(rows, "microrec_night_verdict")["withdrawn"] == 1
    (ends,) = values(rows, "microrec_release_day_end_timestamp_seconds").values()
    assert dt.datetime.fromtimestamp(ends, dt.UTC).date() == DAY


def test_samples_before_the_first_night_are_those_of_the_watchdog(place: Path) -> None:
    rows = samples(Warehouse.open())
    assert {row.name for row in rows} == {
        "microrec_watch_timestamp_seconds",
        "microrec_watch_findings",
    }


def test_file_has_the_samples_names_no_person_and_is_readable_for_others(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    path = tmp_path / "microrec.prom"
    path.write_text("of yesterday")
    rows = samples(warehouse)
    prometheus.write(path, rows)
    text = path.read_text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == set(GAUGES)
    parsed = {
        Sample(one.name, tuple(one.labels[label] for label in GAUGES[one.name][1]), one.value)
        for family in families.values()
        for one in family.samples
    }
    assert parsed == set(rows)
    assert PERSON not in text
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.glob("*.prom*")] == ["microrec.prom"]


def test_file_says_nothing_of_what_is_not_known(place: Path, tmp_path: Path) -> None:
    """A gauge without labels that nobody sets would be 0, and a release of 1970 is overdue."""
    prometheus.write(tmp_path / "microrec.prom", samples(Warehouse.open()))
    lines = (tmp_path / "microrec.prom").read_text().splitlines()
    names = {line.split("{")[0].split()[0] for line in lines if not line.startswith("#")}
    assert names == {"microrec_watch_timestamp_seconds", "microrec_watch_findings"}


def test_file_that_cannot_be_written_or_needs_a_package_is_an_argument_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadArgument, match=r"MICROREC_METRICS_FILE=.*No such file"):
        prometheus.write(tmp_path / "no" / "such.prom", [])
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(BadArgument, match=r"microrec\[observability\]"):
        prometheus.write(tmp_path / "microrec.prom", [])


EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in RULES}
EXPRESSIONS |= {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
}
LABEL_VALUES = {
    "verdict": set(prometheus.VERDICTS),
    "severity": set(prometheus.SEVERITIES),
    "name": set(prometheus.COMPARED),
    "metric": {"ndcg@20", "recall@20"},
    "bound": set(prometheus.BOUNDS),
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_dashboard_and_alerts_name_figures_labels_and_values_that_the_file_has(
    expression: str,
) -> None:
    named = re.findall(r"(microrec_\w+)(?:\{([^}]*)\})?", expression)
    assert named
    for name, selectors in named:
        assert name in GAUGES
        for label, value in re.findall(r'(\w+)=~?"([^"]*)"', selectors):
            assert label in GAUGES[name][1]
            assert set(value.split("|")) <= LABEL_VALUES[label], value
    for label in re.findall(r"by \((\w+)\)", expression):
        assert any(label in GAUGES[name][1] for name, _ in named)


def test_every_figure_is_on_the_dashboard_or_in_an_alert() -> None:
    named = set(re.findall(r"microrec_\w+", " ".join(EXPRESSIONS.values())))
    assert set(GAUGES) - named == {"microrec_night_day_end_timestamp_seconds"}, "is for others"


def test_alerts_have_what_a_person_is_told_and_name_labels_of_their_figure() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 8
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}
        (name, *_) = re.findall(r"microrec_\w+", rule["expr"])
        used = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
        assert set(used) <= set(GAUGES[name][1])


def test_dashboard_is_one_that_grafana_imports() -> None:
    """What its importer needs: an id, a schema, panels that do not overlap, a data source that is asked for."""
    assert DASHBOARD["uid"] == "microrec"
    assert "id" not in DASHBOARD, "an id of another installation would overwrite its dashboard"
    assert DASHBOARD["schemaVersion"] >= 36
    (source,) = DASHBOARD["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["type"] in ("stat", "timeseries", "table")
        assert panel["datasource"]["uid"] == f"${{{source['name']}}}"
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        area = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & area, panel["title"]
        cells |= area
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                (name, *_) = re.findall(r"microrec_\w+", target["expr"])
                assert label in GAUGES[name][1]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


UNIT_TEST = """
rule_files: [{rules}]
evaluation_interval: 10m
tests:
  - interval: 10m
    input_series:
      - series: microrec_watch_timestamp_seconds
        values: 0 600x5 3000x30
      - series: microrec_release_day_end_timestamp_seconds
        values: -86400x40
      - series: 'microrec_night_verdict{{verdict="held"}}'
        values: 0x5 1x30
      - series: 'microrec_night_quality{{name="blend-minus-popularity", metric="ndcg@20", bound="high"}}'
        values: 0.01x40
    alert_rule_test:
      - {{eval_time: 40m, alertname: MicrorecNightHeld, exp_alerts: []}}
      - {{eval_time: 40m, alertname: MicrorecReleaseOverdue, exp_alerts: []}}
      - {{eval_time: 3h, alertname: MicrorecWatchdogSilent, exp_alerts: []}}
      - {{eval_time: 3h, alertname: MicrorecNoBetterThanPopularity, exp_alerts: []}}
      - eval_time: 1h10m
        alertname: MicrorecNightHeld
        exp_alerts:
          - exp_labels: {{severity: ticket, verdict: held}}
            exp_annotations:
              summary: "The last night was held: the release before stands."
              description: Open the page of the night, or microrec report --day D.
"""


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool comes with Prometheus")
def test_alerts_are_those_that_prometheus_takes_and_fires(tmp_path: Path) -> None:
    (tmp_path / "test.yaml").write_text(UNIT_TEST.format(rules=FILES / "alerts.yaml"))
    for words in (["check", "rules", FILES / "alerts.yaml"], ["test", "rules", "test.yaml"]):
        ended = subprocess.run(
            ["promtool", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
