"""OpenLineage events of our jobs: which tables a task read and wrote, at which version, how many rows, which checks.

Off unless `MICROREC_LINEAGE` has the transport as JSON, as the OpenLineage client takes it:

    {"type": "file", "log_file_path": "/srv/lineage/events.jsonl", "append": true}
    {"type": "http", "url": "https://marquez.internal", "auth": {"type": "api_key", "apiKey": "..."}}

It may hold a key: no job gets it and nothing logs it. An event that cannot be sent is a warning in the task's log. The
job says what it read and wrote (`microrec/runner/task_lineage.py`); events have names, versions and counts, no rows.
"""

import contextlib
import json
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import Context
from alerts import public_error

TRANSPORT = "MICROREC_LINEAGE"
"""Environment variable: where events go; none are made without."""
NAMESPACE = "microrec"
"""Of our jobs; datasets have that of their store."""
PRODUCER = "https://github.com/OpenLineage/OpenLineage/tree/main/client/python"
PATIENCE: dict[str, Any] = {"timeout": 5, "retry": {"total": 1}}
"""Of a server that does not answer, unless the transport says otherwise: a task waits for it."""

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def of_run(context: Context, *words: str | None) -> Iterator[dict[str, str]]:
    """Send an event when a job starts, and one when it has ended or failed.

    Args:
        context: Airflow's context of the task.
        *words: what the job is called beside its task: the model it is mapped over.

    Yields:
        Variables that the process of the job needs, to say what it read and wrote; none if events are off.
    """
    if not os.environ.get(TRANSPORT):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="microrec-lineage-") as folder:
        record = Path(folder) / "record.json"
        _send("START", context, words, None)
        try:
            yield {"MICROREC_TASK_RECORD": str(record)}
        except BaseException as error:
            _send("FAIL", context, words, record, error=error)
            raise
        _send("COMPLETE", context, words, record)


def _send(
    state: str,
    context: Context,
    words: tuple[str | None, ...],
    record: Path | None,
    *,
    error: BaseException | None = None,
) -> None:
    """Send one event; that it cannot be sent fails no task."""
    try:
        from openlineage.client import OpenLineageClient

        transport = json.loads(os.environ[TRANSPORT])
        if transport.get("type") == "http":
            transport = PATIENCE | transport
        client = OpenLineageClient(config={"transport": transport})
        client.emit(_event(state, context, words, record, error))
        client.close(timeout=PATIENCE["timeout"])
    except Exception as fault:
        # Its text may hold the address and the key.
        logger.warning("OpenLineage event %s was not sent: %s", state, type(fault).__name__)


def _event(
    state: str,
    context: Context,
    words: tuple[str | None, ...],
    record: Path | None,
    error: BaseException | None,
) -> Any:
    """The event of a task's try; runs of OpenLineage are tries, as each has tables of its own."""
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import error_message_run, parent_run

    values: dict[str, Any] = dict(context)
    instance = values["ti"]
    night = uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}/{instance.dag_id}/{values['run_id']}")
    facets: dict[str, Any] = {
        "parent": parent_run.ParentRunFacet(
            run=parent_run.Run(runId=str(night)),
            job=parent_run.Job(namespace=NAMESPACE, name=instance.dag_id),
        )
    }
    if error is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=public_error(str(error)), programmingLanguage="python"
        )
    tables: dict[str, list[dict[str, Any]]] = {"reads": [], "writes": []}
    if record is not None and record.exists():
        tables = json.loads(record.read_text())
    name = ".".join(filter(None, (instance.dag_id, instance.task_id, *words)))
    return RunEvent(
        eventType=RunState[state],
        eventTime=datetime.now(UTC).isoformat(),
        run=Run(runId=str(instance.id), facets=facets),
        job=Job(namespace=NAMESPACE, name=name),
        inputs=[_input(table) for table in tables["reads"]],
        outputs=[_output(table) for table in tables["writes"]],
        producer=PRODUCER,
    )


def _input(table: dict[str, Any]) -> Any:
    """A table that was read."""
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

    counted = statistics.InputStatisticsInputDatasetFacet(rowCount=table["rows"])
    facets: dict[str, Any] = {"inputStatistics": counted} if table["rows"] is not None else {}
    return InputDataset(**_dataset(table), inputFacets=facets)


def _output(table: dict[str, Any]) -> Any:
    """A table that was written, with the checks of its contract."""
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    assertions = [
        quality.Assertion(
            assertion=check["rule"],
            success=check["broken"] == 0,
            column=check["column"],
            severity="error" if check["severity"] == "fail" else "warn",
            actual=f"{check['broken']} rows",
        )
        for check in table["checks"]
    ]
    named = _dataset(table)
    # The specification has assertions of what is read; here they are of what was written, before it was committed.
    named["facets"]["dataQualityAssertions"] = quality.DataQualityAssertionsDatasetFacet(assertions)
    counted = statistics.OutputStatisticsOutputDatasetFacet(rowCount=table["rows"])
    return OutputDataset(**named, outputFacets={"outputStatistics": counted})


def _dataset(table: dict[str, Any]) -> dict[str, Any]:
    """Name, columns and version of a table: `file` and its path, or a bucket and the key in it."""
    from openlineage.client.facet_v2 import dataset_version_dataset, schema_dataset

    scheme, _, rest = table["uri"].rpartition("://")
    bucket, _, key = rest.partition("/")
    fields = [schema_dataset.SchemaDatasetFacetFields(**field) for field in table["fields"]]
    return {
        "namespace": f"{scheme}://{bucket}" if scheme else "file",
        "name": key if scheme else table["uri"],
        "facets": {
            "schema": schema_dataset.SchemaDatasetFacet(fields=fields),
            "version": dataset_version_dataset.DatasetVersionDatasetFacet(str(table["version"])),
        },
    }
