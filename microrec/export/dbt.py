"""Result tables as sources of dbt, from their contracts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from microrec.release.reader import RESULTS

TABLES = ("releases", "suppressed_users", *RESULTS)
"""What consumers read: the pointer, who has to be left out, and the result tables."""


def sources(schemas: Path) -> str:
    """Return a `sources.yml`: a source `microrec` with a table for each of `TABLES`.

    Args:
        schemas: folder of the contracts.

    Returns:
        YAML, with descriptions, types, whose data a column is, and tests of what the contracts require: columns that
        are never null. That keys are unique within a day they check when they are written.
    """
    text = "Versions of a release are in `releases`; what it reads without them may be a night that was held."
    source = {
        "name": "microrec",
        "description": f"Result tables of microrec, one row a grain and day. {text}",
        "tables": [
            _table(yaml.safe_load((schemas / f"{name}.yaml").read_text())) for name in TABLES
        ],
    }
    document = {"version": 2, "sources": [source]}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _table(contract: Mapping[str, Any]) -> dict[str, Any]:
    (schema,) = contract["schema"]
    keys = [
        column["name"]
        for column in schema["properties"]
        if column.get("partitioned") or column.get("primaryKey")
    ]
    return {
        "name": schema["name"],
        "description": schema["description"],
        "meta": {
            "contract": f"{contract['id']} {contract['version']}",
            "grain": schema["dataGranularityDescription"],
            "key": keys,
        },
        "columns": [_column(column) for column in schema["properties"]],
    }


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    described = {
        "name": column["name"],
        "description": column.get("description", ""),
        "data_type": column["physicalType"],
        "meta": {"classification": column["classification"]},
    }
    return described | ({"data_tests": ["not_null"]} if column.get("required") else {})
