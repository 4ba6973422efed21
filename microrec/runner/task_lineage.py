"""What a job leaves to the operator that sends its OpenLineage events: the tables it read and wrote, as JSON."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microrec.config.settings import settings

if TYPE_CHECKING:
    from microrec.tables.traffic import Access

logger = logging.getLogger(__name__)


def leave() -> None:
    """Write the tables of this process to the file that the setting `task_record` names, if it names one.

    Where that fails, the job has not.
    """
    try:
        path = settings().task_record
        if path is not None:
            from microrec.tables import traffic  # no command that prints its help needs tables

            record = {"reads": traffic.reads(), "writes": traffic.writes()}
            described = {
                kind: [_described(each) for each in accesses] for kind, accesses in record.items()
            }
            Path(path).write_text(json.dumps(described))
    except Exception as error:
        logger.warning("lineage was not left: %s", type(error).__name__)


def _described(access: "Access") -> dict[str, Any]:
    """A table with the columns of its contract and what its rules found: names and counts, no value of a row."""
    from microrec.tables import contract

    columns = contract.load(settings().schemas, access.table).columns
    return {
        "table": access.table,
        "uri": access.uri,
        "version": access.version,
        "rows": access.rows,
        "fields": [{"name": column.name, "type": str(column.type)} for column in columns],
        "checks": [
            {
                "rule": verdict.rule.name,
                "column": verdict.rule.kwargs.get("column"),
                "severity": verdict.rule.severity,
                "broken": verdict.broken,
            }
            for verdict in access.checks
        ],
    }
