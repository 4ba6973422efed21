"""OpenLineage events of a job, by the file transport: what they say, whom they do not name, that they fail no task."""

import json
import logging
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openlineage.client.event_v2 import RunEvent

PERSON = "u-of-one-person"
KEY = "planted-secret"
TABLE = {
    "table": "users",
    "uri": "s3://bucket/house/users",
    "version": 7,
    "rows": 40,
    "fields": [{"name": "user_id", "type": "string"}, {"name": "degree", "type": "int32"}],
    "checks": [
        {"rule": "expect_column_values_to_not_be_null(user_id)", "column": "user_id", "severity": "fail", "broken": 0},
        {"rule": "expect_column_values_to_be_between(degree)", "column": "degree", "severity": "warn", "broken": 3},
    ],
}  # fmt: skip
READ = TABLE | {"table": "events", "uri": "/srv/warehouse/events", "rows": None, "checks": []}


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that executes a job whose process ends with a status, after it has left a record."""
    import operators

    def execute(status: int = 0, output: str = "") -> None:
        def run_command(self: Any, command: list[str], **keywords: Any) -> Any:
            record = keywords["env"].get("MICROREC_TASK_RECORD")
            if record:
                Path(record).write_text(json.dumps({"reads": [READ], "writes": [TABLE]}))
            assert KEY not in str(keywords["env"])
            return SimpleNamespace(exit_code=status, output=output)

        monkeypatch.setattr(operators.SubprocessHook, "run_command", run_command)
        ti = SimpleNamespace(
            id=uuid.UUID(int=7 << 80), dag_id="nightly", task_id="trial.train_model",
            xcom_pull=lambda **_: True,
        )  # fmt: skip
        task = operators.Job(task_id="t", job="train_model", day="2026-01-04", model="content")
        task.execute({"run_id": "night-7", "ti": ti, "params": {}})

    return execute


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that reads the events that were sent; they are on."""
    file = tmp_path / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    monkeypatch.setenv("MICROREC_LINEAGE", json.dumps(transport))
    return lambda: [json.loads(line) for line in file.read_text().splitlines()]


def test_job_that_ends_sends_its_tables_with_versions_rows_and_checks(
    job: Any, events: Any
) -> None:
    job()
    start, complete = events()
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == complete["run"]["runId"] == str(uuid.UUID(int=7 << 80))
    assert complete["job"] == start["job"]
    assert complete["job"]["name"] == "nightly.trial.train_model.content"
    assert complete["run"]["facets"]["parent"]["job"]["name"] == "nightly"
    assert start["inputs"] == start["outputs"] == []
    (read,) = complete["inputs"]
    assert (read["namespace"], read["name"]) == ("file", "/srv/warehouse/events")
    assert read["inputFacets"] == {}, "nobody counted"
    (written,) = complete["outputs"]
    assert (written["namespace"], written["name"]) == ("s3://bucket", "house/users")
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 40
    facets = written["facets"]
    assert facets["version"]["datasetVersion"] == "7"
    assert [field["name"] for field in facets["schema"]["fields"]] == ["user_id", "degree"]
    checked = facets["dataQualityAssertions"]["assertions"]
    assert [(each["success"], each["severity"]) for each in checked] == [
        (True, "error"),
        (False, "warn"),
    ]
    assert checked[1]["actual"] == "3 rows"


def test_job_that_fails_sends_its_error_without_what_it_quotes(job: Any, events: Any) -> None:
    said = f"2026-01-05 ERROR microrec.runner.job MissingDay: users of '{PERSON}'"
    with pytest.raises(Exception, match="MissingDay"):
        job(65, said)
    _, failed = events()
    assert failed["eventType"] == "FAIL"
    message = failed["run"]["facets"]["errorMessage"]["message"]
    assert message == "train_model refused day 2026-01-04: MissingDay: users of '...'"
    assert PERSON not in json.dumps(events())


def test_events_are_off_unless_a_transport_is_set(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lineage

    monkeypatch.delenv("MICROREC_LINEAGE", raising=False)
    monkeypatch.setattr(lineage, "_send", lambda *_, **__: pytest.fail("an event"))
    job()


@pytest.mark.parametrize(
    "transport",
    [
        f"no JSON {KEY}",
        json.dumps({"type": "no such", "key": KEY}),
        json.dumps({"type": "file", "log_file_path": f"/proc/{KEY}/x", "append": True}),
        json.dumps({"type": "http", "url": f"http://127.0.0.1:9/{KEY}", "retry": {"total": 0}}),
    ],
    ids=["words", "type", "folder", "server"],
)
def test_event_that_cannot_be_sent_is_a_warning_without_the_key(
    transport: str, job: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MICROREC_LINEAGE", transport)
    with caplog.at_level(logging.WARNING, logger="lineage"):
        job()
        with pytest.raises(Exception, match="MissingDay"):
            job(65, "2026-01-05 ERROR microrec.runner.job MissingDay: users")
    said = [record.getMessage() for record in caplog.records if record.name == "lineage"]
    assert [line.split(" was")[0] for line in said] == [
        f"OpenLineage event {state}" for state in ("START", "COMPLETE", "START", "FAIL")
    ]
    assert KEY not in " ".join(said)


def test_transport_over_http_does_not_wait_long(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five tries of five seconds, by default, twice a task."""
    import openlineage.client

    given: list[Any] = []

    class Client:
        def __init__(self, *, config: Any) -> None:
            given.append(config["transport"])

        def emit(self, event: RunEvent) -> None:
            assert event.job.namespace == "microrec"

        def close(self, timeout: float) -> None:
            assert timeout <= 5

    monkeypatch.setattr(openlineage.client, "OpenLineageClient", Client)
    monkeypatch.setenv("MICROREC_LINEAGE", json.dumps({"type": "http", "url": "https://x"}))
    job()
    assert given[0]["retry"]["total"] <= 1
    assert given[0]["timeout"] <= 5
